-- Values with an expiry.

-- name: get
SELECT json_group_array(json_array(asked.key, hex(keyvalue.value))) FROM json_each(:keys) AS asked CROSS JOIN keyvalue ON keyvalue.key = asked.value WHERE expires > :now

-- name: one
SELECT value FROM keyvalue WHERE key = :key AND expires > :now

-- name: set
INSERT INTO keyvalue (key, value, expires) SELECT column1, column2, column3 FROM (VALUES {rows}) WHERE true
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires

-- name: delete
DELETE FROM keyvalue WHERE key IN (SELECT value FROM json_each(:keys))

-- name: scan
SELECT key FROM keyvalue
WHERE key >= :prefix AND key > :after AND substr(key, 1, length(:prefix)) = :prefix AND expires > :now
ORDER BY key LIMIT :limit

-- name: expired
DELETE FROM keyvalue WHERE key IN (SELECT key FROM keyvalue WHERE expires <= :now ORDER BY expires LIMIT :limit)
