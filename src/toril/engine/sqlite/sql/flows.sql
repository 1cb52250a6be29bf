-- Flows: parents, their children, and what the end of a child does to its parent.
-- State numbers of jobs, and those of children: see migrations/0001_initial.sql. {rows} stands for as many rows of parameters
-- as are given.

-- name: insert
INSERT INTO jobs (id, queue, state, place, name, data, opts, foreign_made, priority, created, changed, kin, delay)
SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12, column13
FROM (VALUES {rows}) WHERE true
ON CONFLICT (id, queue) DO NOTHING

-- name: stored
SELECT json_group_array(json_array(asked.key, seq, state, kin, result, reason))
FROM json_each(:jobs) AS asked CROSS JOIN jobs ON jobs.id = asked.value ->> 1 AND jobs.queue = asked.value ->> 0

-- name: parent
SELECT queues.name, jobs.id FROM children
JOIN jobs ON jobs.seq = children.parent JOIN queues ON queues.id = jobs.queue
WHERE children.child = :child

-- name: one
SELECT jobs.seq FROM jobs JOIN queues ON queues.id = jobs.queue WHERE jobs.id = :id AND queues.name = :queue

-- name: relate
UPDATE jobs SET kin = kin | column2 FROM (VALUES {rows}) WHERE seq = column1

-- name: link
INSERT INTO children (parent, child, queue, id, name, policy)
SELECT column1, column2, column3, column4, column5, column6 FROM (VALUES {rows}) WHERE true
ON CONFLICT (parent, queue, id) DO UPDATE SET state = 0, value = NULL, child = excluded.child

-- name: blocked
SELECT json_group_array(json_array(
    asked.value,
    EXISTS (SELECT 1 FROM children WHERE parent = asked.value AND state = 0),
    EXISTS (SELECT 1 FROM children WHERE parent = asked.value AND state = 3)
)) FROM json_each(:seqs) AS asked

-- name: pending
SELECT parent, policy, queue, id FROM children WHERE child = :child AND state = 0

-- name: settle
UPDATE children SET state = :state, value = :value WHERE parent = :parent AND child = :child

-- name: forget
DELETE FROM children WHERE parent = :parent AND child = :child

-- name: again
UPDATE children SET state = 0, value = NULL WHERE child IN (SELECT value FROM json_each(:seqs))

-- name: waits
SELECT jobs.queue, queues.name, jobs.state, jobs.priority, jobs.delay,
    EXISTS (SELECT 1 FROM children WHERE parent = :parent AND state = 0)
FROM jobs JOIN queues ON queues.id = jobs.queue WHERE jobs.seq = :parent

-- name: front_of_line
UPDATE queues SET front = front - 1 WHERE id = :queue RETURNING front

-- name: back_of_line
UPDATE queues SET back = back + 1 WHERE id = :queue RETURNING back

-- name: move
UPDATE jobs SET state = :state, place = :place, changed = :now, delay = :delay WHERE seq = :seq

-- name: condemn
UPDATE jobs SET deferred = :reason WHERE seq = :seq

-- name: deleted
SELECT DISTINCT parent, queue FROM children WHERE state = 4

-- name: forget_deleted
DELETE FROM children WHERE state = 4

-- name: delete
DELETE FROM jobs WHERE seq = :seq RETURNING id, unique_key

-- name: offspring
SELECT DISTINCT jobs.seq, jobs.id, queues.id, queues.name, jobs.state, jobs.place
FROM children JOIN jobs ON jobs.seq = children.child JOIN queues ON queues.id = jobs.queue
WHERE children.parent IN (SELECT value FROM json_each(:seqs))

-- name: children
SELECT children.queue, children.id, children.name, children.state, children.value
FROM children JOIN jobs ON jobs.seq = children.parent JOIN queues ON queues.id = jobs.queue
WHERE jobs.id = :id AND queues.name = :queue
ORDER BY children.queue, children.id
