-- The spool: a file of its own, for jobs whose store is away. `batch` is null until a job's batch is fixed.

-- name: create_batches
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    target TEXT NOT NULL,
    queue TEXT NOT NULL,
    now INTEGER NOT NULL,
    until INTEGER NOT NULL,
    fate TEXT NOT NULL DEFAULT 'sent' CHECK (fate IN ('sent', 'unknown', 'refused')),
    reason TEXT NOT NULL DEFAULT '',
    since INTEGER NOT NULL
) STRICT

-- name: create_jobs
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    queue TEXT NOT NULL,
    batch INTEGER REFERENCES batches (number),
    id TEXT NOT NULL,
    job TEXT NOT NULL,
    at INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT

-- name: create_line
CREATE INDEX IF NOT EXISTS jobs_in_line ON jobs (target, batch, seq)

-- name: create_ids
CREATE INDEX IF NOT EXISTS jobs_by_id ON jobs (id)

-- name: create_notes
CREATE TABLE IF NOT EXISTS notes (
    target TEXT NOT NULL,
    id TEXT NOT NULL,
    other TEXT,
    queue TEXT NOT NULL,
    job TEXT,
    cancel TEXT,
    until INTEGER NOT NULL,
    PRIMARY KEY (target, id)
) STRICT

-- name: create_totals
CREATE TABLE IF NOT EXISTS totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    bytes INTEGER NOT NULL
) STRICT

-- name: create_first_total
INSERT OR IGNORE INTO totals (one, bytes) VALUES (1, 0)

-- name: create_counting
CREATE TRIGGER IF NOT EXISTS jobs_counted AFTER INSERT ON jobs BEGIN
    UPDATE totals SET bytes = bytes + new.bytes;
END

-- name: create_discounting
CREATE TRIGGER IF NOT EXISTS jobs_discounted AFTER DELETE ON jobs BEGIN
    UPDATE totals SET bytes = bytes - old.bytes;
END

-- name: bytes
SELECT bytes FROM totals

-- name: batch
SELECT number FROM batches WHERE id = :id

-- name: fix
INSERT INTO batches (id, target, queue, now, until, since) VALUES (:id, :target, :queue, :now, :until, :now)
RETURNING number

-- name: put
INSERT INTO jobs (target, queue, batch, id, job, at, bytes)
SELECT column1, column2, column3, column4, column5, column6, column7 FROM (VALUES {rows})

-- name: fixed
SELECT number, id, queue, now, until FROM batches
WHERE target = :target AND fate = 'sent' AND queue NOT IN (SELECT value FROM json_each(:skip))
ORDER BY number LIMIT :limit

-- name: waits
SELECT EXISTS (SELECT 1 FROM jobs WHERE target = :target AND batch IS NULL)
    OR EXISTS (SELECT 1 FROM batches WHERE target = :target AND fate = 'sent')

-- name: content
SELECT job, at FROM jobs WHERE target = :target AND batch = :batch ORDER BY seq

-- name: line
SELECT seq, queue, job, at, bytes FROM jobs
WHERE target = :target AND batch IS NULL AND queue NOT IN (SELECT value FROM json_each(:skip))
ORDER BY seq LIMIT :limit

-- name: assign
UPDATE jobs SET batch = :batch WHERE seq IN (SELECT value FROM json_each(:seqs))

-- name: members
SELECT seq FROM jobs WHERE target = :target AND batch = :batch ORDER BY seq

-- name: forget_jobs
DELETE FROM jobs WHERE target = :target AND batch = :batch

-- name: forget_batch
DELETE FROM batches WHERE number = :batch

-- name: stands_for
INSERT OR REPLACE INTO notes (target, id, other, queue, until) VALUES (:target, :id, :other, :queue, :until)

-- name: note_cancel
INSERT OR REPLACE INTO notes (target, id, queue, job, cancel, until)
VALUES (:target, :id, :queue, :job, :cancel, :until)

-- name: forget_notes
DELETE FROM notes WHERE until < :now

-- name: waiting
SELECT jobs.seq, jobs.queue, jobs.job, jobs.at, jobs.batch, batches.fate, batches.reason
FROM jobs LEFT JOIN batches ON batches.number = jobs.batch
WHERE jobs.id = :id AND jobs.target = :target ORDER BY jobs.seq LIMIT 1

-- name: note
SELECT other, queue, job, cancel FROM notes WHERE target = :target AND id = :id

-- name: take_out
DELETE FROM jobs WHERE seq = :seq

-- name: judge
UPDATE batches SET fate = :fate, reason = :reason, since = :now WHERE number = :batch

-- name: renew
UPDATE batches SET id = :id, now = :now, until = :until, fate = 'sent', reason = '', since = :now
WHERE number = :batch

-- name: judged
SELECT batches.id, batches.queue, batches.fate, batches.reason, batches.since,
       (SELECT json_group_array(jobs.id) FROM jobs WHERE jobs.target = batches.target AND jobs.batch = batches.number)
FROM batches WHERE target = :target AND fate <> 'sent' ORDER BY number

-- name: judged_one
SELECT number FROM batches WHERE target = :target AND id = :id AND fate <> 'sent'

-- name: stats
SELECT count(*) FILTER (WHERE jobs.target = :target AND coalesce(batches.fate, 'sent') = 'sent'),
       count(*) FILTER (WHERE jobs.target = :target AND batches.fate = 'sent'),
       count(*) FILTER (WHERE jobs.target = :target AND batches.fate <> 'sent'),
       count(*) FILTER (WHERE jobs.target <> :target),
       min(jobs.at) FILTER (WHERE jobs.target = :target AND coalesce(batches.fate, 'sent') = 'sent')
FROM jobs LEFT JOIN batches ON batches.number = jobs.batch
