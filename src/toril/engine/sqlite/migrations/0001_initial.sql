-- The first schema. Times are milliseconds since 1970-01-01 UTC.
-- States (jobs.state, events.prev): 0 waiting, 1 prioritized, 2 delayed, 3 waiting-children, 4 active, 5 completed, 6 failed.
-- Kinds (events.kind): 0 to 6 the state that was entered (1 is shown as waiting), 7 stalled, 8 progress, 9 log, 10 removed, 11 paused, 12 resumed.

CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    -- Places in line: the back grows upwards, the front downwards.
    back INTEGER NOT NULL DEFAULT 0,
    front INTEGER NOT NULL DEFAULT 0,
    -- The newest event, and the newest that has been pruned: a reader who stands before it has a gap.
    event INTEGER NOT NULL DEFAULT 0,
    pruned_event INTEGER NOT NULL DEFAULT 0,
    -- How many jobs are in each state.
    waiting INTEGER NOT NULL DEFAULT 0,
    prioritized INTEGER NOT NULL DEFAULT 0,
    delayed INTEGER NOT NULL DEFAULT 0,
    waiting_children INTEGER NOT NULL DEFAULT 0,
    active INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    -- Queue-wide limits, NULL for none, and what the application declared last.
    concurrency INTEGER,
    rate_most INTEGER,
    rate_ms INTEGER,
    declared TEXT,
    -- Which events are written: 0 all, 1 how jobs end and what handlers report, 2 none; and what was declared last.
    told INTEGER NOT NULL DEFAULT 0,
    told_declared INTEGER,
    -- How many jobs have started in the present window, and when it ends.
    rate_used INTEGER NOT NULL DEFAULT 0,
    rate_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Queues that were deleted: should one of that name come again, its events are numbered on, so that no reader meets a
-- second event under a number that it has seen.
CREATE TABLE obliterated (
    name TEXT PRIMARY KEY,
    event INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- place: waiting = place in line; prioritized = priority and place in line; delayed = due time; active = end of the lock;
-- completed, failed = finish time. One index then serves taking, promoting, recovering, pruning and listing.
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    opts TEXT NOT NULL,
    -- 1 when another producer made it: default retention leaves such jobs alone
    foreign_made INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    processed INTEGER,
    finished INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    stalls INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    worker TEXT,
    progress TEXT,
    result TEXT,
    reason TEXT,
    deferred TEXT,
    -- JSON object {by, reason, at}
    cancel TEXT,
    -- JSON objects, one per run, joined by commas
    history TEXT,
    -- the id of the schedule that planned it
    schedule TEXT,
    unique_key TEXT,
    -- 1 a child, 2 a parent, 3 both: what most jobs are not, and so need no look at `children` for
    kin INTEGER NOT NULL DEFAULT 0,
    -- what a parent waits for, in ms, when its children have ended
    delay INTEGER NOT NULL DEFAULT 0,
    UNIQUE (id, queue)
) STRICT;

CREATE INDEX jobs_place ON jobs (queue, state, place);
CREATE INDEX jobs_cancel ON jobs (queue) WHERE cancel IS NOT NULL AND state = 4;

CREATE INDEX jobs_foreign ON jobs (queue, state) WHERE foreign_made = 1;

-- A schedule has planned the job `repeat:<id>:<next>`.
CREATE TABLE schedules (
    queue INTEGER NOT NULL,
    id TEXT NOT NULL,
    next INTEGER NOT NULL,
    planned INTEGER NOT NULL,
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    opts TEXT NOT NULL,
    every INTEGER,
    pattern TEXT,
    tz TEXT,
    most INTEGER,
    start INTEGER,
    until INTEGER,
    phase INTEGER NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX schedules_next ON schedules (queue, next);

-- Which job has a unique key: until it has ended, or up to the time in `expires`. `kept` is the last of the calls that came
-- while it was running, to be made a job when it ends: a JSON array of id, name, data, opts, delay, priority, lifo.
CREATE TABLE unique_keys (
    queue INTEGER NOT NULL,
    key TEXT NOT NULL,
    job TEXT NOT NULL,
    expires INTEGER,
    kept TEXT,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX unique_keys_expires ON unique_keys (expires) WHERE expires IS NOT NULL;

-- What parents know of their children, also of those that are not stored any more. parent, child: jobs.seq.
-- policy: what the child's failure means for the parent: 0 nothing, 1 fails it, 2 hurries it, 3 is told to it, 4 is forgotten.
-- state: 0 pending, 1 completed (value: result), 2 failed and told (value: reason), 3 failed and the parent with it, 4 deleted
-- while it was pending: to be settled in the same transaction.
CREATE TABLE children (
    parent INTEGER NOT NULL,
    child INTEGER,
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    policy INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    value TEXT,
    UNIQUE (parent, queue, id)
) STRICT;

CREATE INDEX children_child ON children (child) WHERE child IS NOT NULL;
CREATE INDEX children_pending ON children (parent) WHERE state = 0;
CREATE INDEX children_unsuccessful ON children (parent) WHERE state = 3;
CREATE INDEX children_deleted ON children (parent) WHERE state = 4;

CREATE TABLE logs (
    job INTEGER NOT NULL,
    n INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    queue INTEGER NOT NULL,
    id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    job TEXT NOT NULL,
    at INTEGER NOT NULL,
    prev INTEGER,
    data TEXT,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;

-- What was answered to an exchange or an add, so that repeating the call after a lost reply changes nothing.
CREATE TABLE exchanges (
    worker TEXT NOT NULL,
    queue INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    codes TEXT NOT NULL,
    taken TEXT NOT NULL,
    PRIMARY KEY (worker, queue, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX exchanges_expires ON exchanges (expires);

-- `minute` is the one in which the memory ends: looking through the few that are possible costs less than an index.
CREATE TABLE batches (
    minute INTEGER NOT NULL,
    batch TEXT NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (minute, batch)
) STRICT, WITHOUT ROWID;

CREATE TABLE keyvalue (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX keyvalue_expires ON keyvalue (expires);

-- Counts and events follow from the change of state itself, so that no statement can forget them. Both live in the row
-- of the queue, which a commit writes anyway.
CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
    UPDATE queues SET
        event = event + 1,
        waiting = waiting + (new.state = 0),
        prioritized = prioritized + (new.state = 1),
        delayed = delayed + (new.state = 2),
        waiting_children = waiting_children + (new.state = 3),
        active = active + (new.state = 4),
        completed = completed + (new.state = 5),
        failed = failed + (new.state = 6)
    WHERE id = new.queue;
    INSERT INTO events (queue, id, kind, job, at, data)
    SELECT id, event, new.state, new.id, new.changed, CASE new.state WHEN 2 THEN json_object('due', new.place) END
    FROM queues WHERE id = new.queue AND told = 0;
END;

CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE queues SET
        event = event + 1,
        waiting = waiting + (new.state = 0) - (old.state = 0),
        prioritized = prioritized + (new.state = 1) - (old.state = 1),
        delayed = delayed + (new.state = 2) - (old.state = 2),
        waiting_children = waiting_children + (new.state = 3) - (old.state = 3),
        active = active + (new.state = 4) - (old.state = 4),
        completed = completed + (new.state = 5) - (old.state = 5),
        failed = failed + (new.state = 6) - (old.state = 6)
    WHERE id = new.queue;
    INSERT INTO events (queue, id, kind, job, at, prev, data)
    SELECT
        id, event, new.state, new.id, new.changed, old.state,
        CASE new.state
            WHEN 2 THEN json_object('due', new.place)
            WHEN 6 THEN json_object('reason', new.reason)
        END
    FROM queues WHERE id = new.queue AND (told = 0 OR (told = 1 AND new.state IN (5, 6)));
END;

CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
    UPDATE queues SET
        waiting = waiting - (old.state = 0),
        prioritized = prioritized - (old.state = 1),
        delayed = delayed - (old.state = 2),
        waiting_children = waiting_children - (old.state = 3),
        active = active - (old.state = 4),
        completed = completed - (old.state = 5),
        failed = failed - (old.state = 6)
    WHERE id = old.queue;
    DELETE FROM logs WHERE job = old.seq;
END;

CREATE TRIGGER kin_deleted AFTER DELETE ON jobs WHEN old.kin > 0 BEGIN
    DELETE FROM children WHERE parent = old.seq;
    UPDATE children SET child = NULL, state = CASE state WHEN 0 THEN 4 ELSE state END WHERE child = old.seq;
END;
