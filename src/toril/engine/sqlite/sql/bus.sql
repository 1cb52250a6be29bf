-- Reading the event log, which the triggers and the other ports write.

-- name: tail
SELECT event FROM queues WHERE name = :queue

-- name: queue
SELECT id, pruned_event FROM queues WHERE name = :queue

-- name: after
SELECT id, kind, job, at, prev, data FROM events WHERE queue = :queue AND id > :after ORDER BY id LIMIT :limit

-- name: any
SELECT EXISTS (SELECT 1 FROM queues WHERE name = :queue AND event > :after)
