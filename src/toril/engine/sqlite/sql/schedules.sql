-- Schedules, and the runs that they plan. State numbers: see migrations/0001_initial.sql.

-- name: queue
SELECT id FROM queues WHERE name = :queue

-- name: whole
SELECT id, next, planned, name, data, opts, every, pattern, tz, most, start, until, phase
FROM schedules WHERE queue = :queue AND id = :id

-- name: page
SELECT id, next, planned, name, data, opts, every, pattern, tz, most, start, until, phase
FROM schedules WHERE queue = :queue ORDER BY next, id LIMIT :limit OFFSET :start

-- name: stuck
SELECT id, next, planned, name, data, opts, every, pattern, tz, most, start, until, phase
FROM (SELECT * FROM schedules WHERE queue = :queue AND next <= :now ORDER BY next, id LIMIT :limit) AS past
WHERE (most IS NULL OR planned < most) AND (until IS NULL OR until >= :now) AND NOT EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.id = 'repeat:' || past.id || ':' || past.next AND jobs.queue = :queue AND jobs.state < 5
)
ORDER BY next, id

-- name: put
INSERT OR REPLACE INTO schedules
    (queue, id, next, planned, name, data, opts, every, pattern, tz, most, start, until, phase)
VALUES (:queue, :id, :next, :planned, :name, :data, :opts, :every, :pattern, :tz, :most, :start, :until, :phase)

-- name: move
UPDATE schedules SET next = :next, planned = planned + 1 WHERE queue = :queue AND id = :id

-- name: forget
DELETE FROM schedules WHERE queue = :queue AND id = :id

-- name: run
SELECT seq, state FROM jobs WHERE id = :id AND queue = :queue

-- name: drop_run
DELETE FROM jobs WHERE seq = :seq

-- name: plan_run
INSERT INTO jobs (id, queue, state, place, name, data, opts, foreign_made, priority, created, changed, schedule)
VALUES (:id, :queue, :state, :place, :name, :data, :opts, :foreign, :priority, :now, :now, :schedule)

-- name: back_of_line
UPDATE queues SET back = back + 1 WHERE id = :queue RETURNING back

-- name: front_of_line
UPDATE queues SET front = front - 1 WHERE id = :queue RETURNING front
