-- The hot path: adding, taking, finishing, renewing, recovering, pruning, cancelling, reporting.
-- State and kind numbers: see migrations/0001_initial.sql. {rows} stands for as many rows of parameters as are given.
-- CROSS JOIN keeps the written order: few ids that are asked for first, then one look-up in jobs for each.

-- name: queue
SELECT id, paused FROM queues WHERE name = :queue

-- name: exchanging
SELECT id, paused, concurrency, rate_most, rate_ms, rate_used, rate_until FROM queues WHERE name = :queue

-- name: make_queue
INSERT INTO queues (name, event, pruned_event)
SELECT :queue, coalesce(max(event), 0), coalesce(max(event), 0) FROM obliterated WHERE name = :queue
RETURNING id

-- name: back_of_line
UPDATE queues SET back = back + :n WHERE id = :queue RETURNING back

-- name: front_of_line
UPDATE queues SET front = front - :n WHERE id = :queue RETURNING front

-- name: newest
SELECT coalesce(max(seq), 0) FROM jobs

-- name: insert
INSERT INTO jobs (id, queue, state, place, name, data, opts, foreign_made, priority, created, changed)
SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11
FROM (VALUES {rows}) WHERE true
ON CONFLICT (id, queue) DO NOTHING

-- name: among_older
SELECT json_group_array(id) FROM jobs
WHERE queue = :queue AND seq <= :newest AND id IN (SELECT value FROM json_each(:ids))

-- name: batch
SELECT created FROM batches WHERE minute IN (SELECT value FROM json_each(:minutes)) AND batch = :batch

-- name: remember_batch
INSERT OR REPLACE INTO batches (minute, batch, created) VALUES (:minute, :batch, :created)

-- name: exchange
SELECT codes, taken FROM exchanges WHERE worker = :worker AND queue = :queue AND seq = :seq AND expires > :now

-- name: remember_exchange
INSERT OR REPLACE INTO exchanges (worker, queue, seq, expires, codes, taken)
VALUES (:worker, :queue, :seq, :expires, :codes, :taken)

-- name: finishing
SELECT json_group_array(json_array(
    jobs.id, seq, state, place, token, priority, attempts, starts, cancel, unique_key, instr(opts, '"lifo":true') > 0, kin
))
FROM json_each(:ids) AS asked CROSS JOIN jobs ON jobs.id = asked.value AND jobs.queue = :queue

-- name: finish
UPDATE jobs SET
    state = column2,
    place = column3,
    changed = column4,
    finished = column5,
    attempts = attempts + column6,
    result = column7,
    reason = coalesce(column8, reason),
    cancel = coalesce(column9, cancel),
    deferred = NULL,
    token = NULL,
    -- The newest 100 runs; entries are objects, so that only the array's own brackets are trimmed.
    history = CASE
        WHEN history IS NULL THEN column10
        WHEN starts > 100 AND json_array_length('[' || history || ']') >= 100
        THEN trim(json_remove('[' || history || ']', '$[0]'), '[]') || ',' || column10
        ELSE history || ',' || column10
    END
FROM (VALUES {rows})
WHERE seq = column1

-- name: due
SELECT json_group_array(json_array(seq, priority)) FROM (
    SELECT seq, priority FROM jobs
    WHERE queue = :queue AND state = 2 AND place <= :now ORDER BY place, seq LIMIT :limit
)

-- name: move
UPDATE jobs SET state = column2, place = column3, changed = column4 FROM (VALUES {rows}) WHERE seq = column1

-- name: next_due
SELECT min(place) FROM jobs WHERE queue = :queue AND state = 2

-- name: next_in_line
SELECT json_group_array(seq) FROM (
    SELECT seq FROM jobs WHERE queue = :queue AND state = :state ORDER BY place, seq LIMIT :limit
)

-- name: take
UPDATE jobs SET
    state = 4, place = :until, changed = :now, processed = :now, starts = starts + 1, token = :token, worker = :worker
WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: taken
SELECT json_group_array(json_array(jobs.id, name, data, opts, created, attempts, starts, stalls, deferred, schedule))
FROM json_each(:seqs) AS asked CROSS JOIN jobs ON jobs.seq = asked.value
WHERE state = 4 AND token = :token

-- name: cancels
SELECT id, token, cancel FROM jobs
WHERE queue = :queue AND state = 4 AND cancel IS NOT NULL AND token BETWEEN :worker || ':' AND :worker || ';'

-- name: renew
UPDATE jobs SET place = column5 FROM (VALUES {rows})
WHERE id = column1 AND queue = column2 AND token = column3 AND state = 4 AND place > column4

-- name: held
SELECT json_group_array(json_array(asked.key, jobs.place, jobs.cancel))
FROM json_each(:locks) AS asked CROSS JOIN jobs ON jobs.id = asked.value ->> 0 AND jobs.queue = asked.value ->> 1
WHERE jobs.token = asked.value ->> 2 AND jobs.state = 4

-- name: expired
SELECT seq, id, stalls, starts, worker, processed, cancel FROM jobs
WHERE queue = :queue AND state = 4 AND place <= :now ORDER BY place, seq LIMIT :limit

-- name: requeue
UPDATE jobs SET
    state = 0,
    place = column2,
    changed = column3,
    stalls = stalls + 1,
    deferred = coalesce(column4, deferred),
    token = NULL,
    -- The newest 100 runs; entries are objects, so that only the array's own brackets are trimmed.
    history = CASE
        WHEN history IS NULL THEN column5
        WHEN starts > 100 AND json_array_length('[' || history || ']') >= 100
        THEN trim(json_remove('[' || history || ']', '$[0]'), '[]') || ',' || column5
        ELSE history || ',' || column5
    END
FROM (VALUES {rows})
WHERE seq = column1

-- name: number_events
UPDATE queues SET event = event + :n WHERE id = :queue RETURNING event, told

-- name: emit
INSERT INTO events (queue, id, kind, job, at, prev, data)
SELECT column1, column2, column3, column4, column5, column6, column7 FROM (VALUES {rows})

-- name: prune_old
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs
    WHERE queue = :queue AND state = :state AND place <= :before
        AND (:foreign OR foreign_made = 0)
    ORDER BY place, seq LIMIT :limit
)

-- name: prune_many
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs
    WHERE queue = :queue AND state = :state AND (:foreign OR foreign_made = 0)
    ORDER BY place, seq LIMIT :limit
)

-- name: count
SELECT CASE :state WHEN 5 THEN completed ELSE failed END FROM queues WHERE id = :queue

-- name: count_foreign
SELECT count(*) FROM jobs WHERE queue = :queue AND state = :state AND foreign_made = 1

-- name: delete
DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: note_pruned
UPDATE queues SET pruned_event = min(event - :keep, pruned_event + :limit)
WHERE id = :queue AND pruned_event < event - :keep
RETURNING pruned_event

-- name: prune_events
DELETE FROM events WHERE queue = :queue AND id <= :last

-- name: forget_exchanges
DELETE FROM exchanges WHERE (worker, queue, seq) IN
    (SELECT worker, queue, seq FROM exchanges WHERE expires <= :now ORDER BY expires LIMIT :limit)

-- name: forget_batches
DELETE FROM batches WHERE (minute, batch) IN (SELECT minute, batch FROM batches WHERE minute < :minute ORDER BY minute LIMIT :limit)

-- name: cancelling
SELECT seq, state, unique_key, kin, cancel FROM jobs WHERE queue = :queue AND id = :id

-- name: request_cancel
UPDATE jobs SET cancel = coalesce(cancel, :cancel) WHERE seq = :seq

-- name: cancel
UPDATE jobs SET
    state = 6, place = :now, changed = :now, finished = :now, reason = :reason, cancel = coalesce(cancel, :cancel), deferred = NULL
WHERE seq = :seq

-- name: running
SELECT json_group_array(json_array(asked.key, jobs.seq)) FROM json_each(:runs) AS asked CROSS JOIN jobs ON jobs.id = asked.value ->> 0 AND jobs.queue = :queue
WHERE jobs.token = asked.value ->> 1 AND jobs.state = 4

-- name: set_progress
UPDATE jobs SET progress = column2 FROM (VALUES {rows}) WHERE seq = column1

-- name: last_line
SELECT coalesce(max(n), 0) FROM logs WHERE job = :job

-- name: add_line
INSERT INTO logs (job, n, line) SELECT column1, column2, column3 FROM (VALUES {rows})

-- name: trim_lines
DELETE FROM logs WHERE job = :job AND n <= :last

-- name: look
SELECT
    active > 0,
    NOT paused AND waiting + prioritized > 0 AND (concurrency IS NULL OR active < concurrency),
    CASE WHEN :due AND delayed > 0 THEN (SELECT min(place) FROM jobs WHERE queue = queues.id AND state = 2) END
FROM queues WHERE name = :queue

-- name: ready
SELECT EXISTS (
    SELECT 1 FROM queues
    WHERE name = :queue AND NOT paused AND waiting + prioritized > 0 AND (concurrency IS NULL OR active < concurrency)
)
