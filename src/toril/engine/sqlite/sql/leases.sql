-- Leases: values with an expiry under keys of their own.

-- name: holder
SELECT CAST(value AS TEXT), expires FROM keyvalue WHERE key = 'lease:' || :queue AND expires > :now

-- name: hold
INSERT INTO keyvalue (key, value, expires) VALUES ('lease:' || :queue, CAST(:holder AS BLOB), :until)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires

-- name: release
DELETE FROM keyvalue WHERE key = 'lease:' || :queue AND value = CAST(:holder AS BLOB) AND expires > :now

-- name: holders
SELECT asked.value, CAST(keyvalue.value AS TEXT) FROM json_each(:queues) AS asked CROSS JOIN keyvalue
ON keyvalue.key = 'lease:' || asked.value WHERE expires > :now
