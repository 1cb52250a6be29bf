-- Unique keys: who has one, taking it, freeing it. A key whose owner is gone counts as free unless a window holds it.

-- name: owner
SELECT unique_keys.job, expires, jobs.seq, jobs.state
FROM unique_keys LEFT JOIN jobs ON jobs.id = unique_keys.job AND jobs.queue = unique_keys.queue
WHERE unique_keys.queue = :queue AND key = :key
    AND (expires > :now OR (expires IS NULL AND jobs.seq IS NOT NULL))

-- name: hold
INSERT OR REPLACE INTO unique_keys (queue, key, job, expires) VALUES (:queue, :key, :job, :expires)

-- name: prolong
UPDATE unique_keys SET expires = :expires WHERE queue = :queue AND key = :key

-- name: keep_last
UPDATE unique_keys SET kept = :kept, expires = NULL WHERE queue = :queue AND key = :key

-- name: own
UPDATE jobs SET unique_key = :key WHERE id = :id AND queue = :queue

-- name: delete_owner
DELETE FROM jobs WHERE seq = :seq

-- name: held
SELECT kept FROM unique_keys WHERE queue = :queue AND key = :key AND job = :job AND expires IS NULL

-- name: free
DELETE FROM unique_keys WHERE queue = :queue AND key = :key AND job = :job

-- name: forget_expired
DELETE FROM unique_keys WHERE (queue, key) IN
    (SELECT queue, key FROM unique_keys WHERE expires <= :now ORDER BY expires LIMIT :limit)
