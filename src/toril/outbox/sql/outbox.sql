-- What is done with the outbox's table, the same on every database. {lock} is FOR UPDATE SKIP LOCKED where it exists.

-- name: put
INSERT INTO {table} (job_id, queue, order_key, job, created) VALUES (:job_id, :queue, :order_key, :job, :created)

-- name: heads
SELECT o.seq, o.queue, o.order_key, o.job, o.created FROM {table} o
WHERE o.batch IS NULL AND o.fate IS NULL AND (
    o.order_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM {table} e
        WHERE e.queue = o.queue AND e.order_key = o.order_key AND e.seq < o.seq AND e.fate IS NULL
    )
)
ORDER BY o.seq LIMIT 1000 {lock}

-- name: followers
SELECT f.seq, f.queue, f.order_key, f.job, f.created FROM {table} f
JOIN {table} h ON h.queue = f.queue AND h.order_key = f.order_key
WHERE h.seq IN ({seqs}) AND f.seq > h.seq AND f.batch IS NULL AND f.fate IS NULL
ORDER BY f.seq LIMIT 1000

-- name: fix
UPDATE {table} SET batch = :batch, batch_now = :now, batch_until = :until, lease = :lease
WHERE seq IN ({seqs}) AND batch IS NULL AND fate IS NULL

-- name: split
UPDATE {table} SET batch = :batch, batch_now = :now, batch_until = :until, lease = :lease
WHERE seq = :seq AND batch = :old

-- name: left_batches
SELECT batch, min(seq) FROM {table} WHERE batch IS NOT NULL AND fate IS NULL AND lease < :now
GROUP BY batch ORDER BY min(seq) LIMIT 20

-- name: take_over
UPDATE {table} SET lease = :lease WHERE batch = :batch AND fate IS NULL AND lease < :now

-- name: content
SELECT seq, queue, job, created, batch_now, batch_until FROM {table} WHERE batch = :batch ORDER BY seq

-- name: forget
DELETE FROM {table} WHERE batch = :batch

-- name: judge
UPDATE {table} SET fate = :fate, reason = :reason, lease = :now WHERE batch = :batch

-- name: judged
SELECT batch, queue, job_id, fate, reason, lease FROM {table} WHERE fate IS NOT NULL ORDER BY seq

-- name: again
UPDATE {table} SET batch = NULL, fate = NULL, reason = NULL, lease = NULL WHERE batch = :batch AND fate IS NOT NULL

-- name: drop
DELETE FROM {table} WHERE batch = :batch AND fate IS NOT NULL

-- name: stats
SELECT count(*), count(batch), count(fate), min(created) FROM {table}
