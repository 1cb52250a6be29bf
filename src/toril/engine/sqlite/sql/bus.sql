-- Reading the event log, which the triggers and the other ports write.

-- name: tail
SELECT coalesce(max(events.id), max(queues.pruned_event)) FROM queues LEFT JOIN events ON events.queue = queues.id
WHERE queues.name = :queue

-- name: queue
SELECT id, pruned_event FROM queues WHERE name = :queue

-- name: after
SELECT id, kind, job, at, prev, data FROM events WHERE queue = :queue AND id > :after ORDER BY id LIMIT :limit

-- name: any
SELECT EXISTS (SELECT 1 FROM events JOIN queues ON queues.id = events.queue WHERE queues.name = :queue AND events.id > :after)
