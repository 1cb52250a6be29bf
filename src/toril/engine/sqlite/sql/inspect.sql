-- The cold path: looking at jobs and queues, and what an operator does to them.

-- name: whole
SELECT jobs.id, queues.name, state, place, jobs.name, data, opts, priority, created, processed, finished, attempts, starts,
    stalls, worker, progress, result, reason, deferred, cancel, history
FROM jobs JOIN queues ON queues.id = jobs.queue
WHERE jobs.id = :id AND (:queue IS NULL OR queues.name = :queue)
ORDER BY jobs.seq LIMIT 1

-- name: queue
SELECT id, paused FROM queues WHERE name = :queue

-- name: page_up
SELECT jobs.id, :queue_name, state, place, jobs.name, data, opts, priority, created, processed, finished, attempts, starts,
    stalls, worker, progress, result, reason, deferred, cancel, history, seq
FROM jobs
WHERE queue = :queue AND state = :state AND (place, seq) > (:place, :seq)
    AND (:name IS NULL OR name = :name) AND (:owner IS NULL OR opts ->> '$.toril.owner' = :owner)
ORDER BY place, seq LIMIT :limit

-- name: page_down
SELECT jobs.id, :queue_name, state, place, jobs.name, data, opts, priority, created, processed, finished, attempts, starts,
    stalls, worker, progress, result, reason, deferred, cancel, history, seq
FROM jobs
WHERE queue = :queue AND state = :state AND (place, seq) < (:place, :seq)
    AND (:name IS NULL OR name = :name) AND (:owner IS NULL OR opts ->> '$.toril.owner' = :owner)
ORDER BY place DESC, seq DESC LIMIT :limit

-- name: counts
SELECT waiting, prioritized, delayed, waiting_children, active, completed, failed FROM queues WHERE name = :queue

-- name: queues
SELECT name, paused, waiting, prioritized, delayed, waiting_children, active, completed, failed FROM queues ORDER BY name

-- name: lines
SELECT line FROM logs JOIN jobs ON jobs.seq = logs.job JOIN queues ON queues.id = jobs.queue
WHERE jobs.id = :id AND queues.name = :queue ORDER BY n LIMIT :limit OFFSET :start

-- name: count_lines
SELECT count(*) FROM logs JOIN jobs ON jobs.seq = logs.job JOIN queues ON queues.id = jobs.queue
WHERE jobs.id = :id AND queues.name = :queue

-- name: set_paused
UPDATE queues SET paused = :paused WHERE id = :queue AND paused <> :paused

-- name: some
SELECT json_group_array(json_array(asked.key, seq, state, priority, place,
    schedule IS NOT NULL AND EXISTS (
        SELECT 1 FROM schedules AS s
        WHERE s.queue = :queue AND s.id = jobs.schedule AND jobs.id = 'repeat:' || s.id || ':' || s.next
    )))
FROM json_each(:ids) AS asked CROSS JOIN jobs ON jobs.id = asked.value AND jobs.queue = :queue

-- name: clear
UPDATE jobs SET
    attempts = 0, stalls = 0, result = NULL, reason = NULL, processed = NULL, finished = NULL, progress = NULL,
    cancel = NULL, deferred = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: is_there
SELECT seq FROM jobs WHERE seq = :seq

-- name: delete
DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(:seqs)) RETURNING id, unique_key

-- name: drain
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs
    WHERE queue = :queue AND state IN (SELECT value FROM json_each(:states))
    AND (schedule IS NULL OR id NOT IN (SELECT 'repeat:' || s.id || ':' || s.next FROM schedules AS s WHERE s.queue = :queue))
    LIMIT :limit
) RETURNING id, unique_key

-- name: clean_finished
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs WHERE queue = :queue AND state = :state AND place <= :before ORDER BY place, seq LIMIT :limit
) RETURNING id, unique_key

-- name: clean_unfinished
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs
    WHERE queue = :queue AND state = :state AND created <= :before AND (state <> 4 OR place <= :now)
        AND (schedule IS NULL OR id NOT IN (SELECT 'repeat:' || s.id || ':' || s.next FROM schedules AS s WHERE s.queue = :queue))
    ORDER BY created, seq LIMIT :limit
) RETURNING id, unique_key

-- name: obliterate_jobs
DELETE FROM jobs WHERE seq IN (SELECT seq FROM jobs WHERE queue = :queue LIMIT :limit)

-- name: obliterate_events
DELETE FROM events WHERE queue = :queue AND id IN (SELECT id FROM events WHERE queue = :queue LIMIT :limit)

-- name: obliterate_exchanges
DELETE FROM exchanges WHERE queue = :queue

-- name: obliterate_schedules
DELETE FROM schedules WHERE queue = :queue

-- name: obliterate_keys
DELETE FROM unique_keys WHERE queue = :queue

-- name: obliterate_number
INSERT OR REPLACE INTO obliterated (name, event) SELECT name, event FROM queues WHERE id = :queue

-- name: obliterate_queue
DELETE FROM queues WHERE id = :queue

-- name: told
SELECT told FROM queues WHERE name = :queue

-- name: set_told
UPDATE queues SET told = :told WHERE id = :queue

-- name: declare_told
UPDATE queues SET told = :told, told_declared = :told WHERE id = :queue AND told_declared IS NOT :told
