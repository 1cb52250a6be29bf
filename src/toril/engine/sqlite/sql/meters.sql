-- What was counted against rate limits.

-- name: read
SELECT json_group_array(json_array(asked.key, json(meters.meter))) FROM json_each(:keys) AS asked CROSS JOIN meters ON meters.key = asked.value

-- name: put
INSERT INTO meters (key, meter, expires) SELECT column1, column2, column3 FROM (VALUES {rows}) WHERE true
ON CONFLICT (key) DO UPDATE SET meter = excluded.meter, expires = excluded.expires

-- name: delete
DELETE FROM meters WHERE key IN (SELECT value FROM json_each(:keys))

-- name: expired
DELETE FROM meters WHERE key IN (SELECT key FROM meters WHERE expires <= :now ORDER BY expires LIMIT :limit)
