-- Queue-wide limits: reading and setting them, and what counts against them.

-- name: limits
SELECT concurrency, rate_most, rate_ms FROM queues WHERE name = :queue

-- name: declare
UPDATE queues SET declared = :declared WHERE id = :queue AND declared IS NOT :declared

-- name: set_limits
UPDATE queues SET
    concurrency = :concurrency,
    rate_most = :most,
    rate_ms = :ms,
    rate_until = CASE WHEN rate_used < :stopped AND :ms IS NOT NULL THEN min(rate_until, :now + :ms) ELSE rate_until END
WHERE id = :queue

-- name: at_work
SELECT active, waiting + prioritized FROM queues WHERE id = :queue

-- name: set_used
UPDATE queues SET rate_used = :used, rate_until = :until WHERE id = :queue
