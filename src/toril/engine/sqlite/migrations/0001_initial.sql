-- The first schema. Times are milliseconds since 1970-01-01 UTC.
-- States (jobs.state, counts.state, events.prev): 0 waiting, 1 prioritized, 2 delayed, 3 waiting-children, 4 active, 5 completed, 6 failed.
-- Kinds (events.kind): 0 to 6 the state that was entered (1 is shown as waiting), 7 stalled, 8 progress, 9 log, 10 removed, 11 paused, 12 resumed.

CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    -- Places in line: the back grows upwards, the front downwards.
    back INTEGER NOT NULL DEFAULT 0,
    front INTEGER NOT NULL DEFAULT 0,
    -- The newest event that has been pruned: a reader who stands before it has a gap.
    pruned_event INTEGER NOT NULL DEFAULT 0
) STRICT;

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
    UNIQUE (id, queue)
) STRICT;

CREATE INDEX jobs_place ON jobs (queue, state, place);
CREATE INDEX jobs_cancel ON jobs (queue) WHERE cancel IS NOT NULL AND state = 4;

CREATE INDEX jobs_foreign ON jobs (queue, state) WHERE foreign_made = 1;

CREATE TABLE counts (
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    job INTEGER NOT NULL,
    n INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a reader's cursor must never meet a second event under a number that was pruned.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    job TEXT NOT NULL,
    at INTEGER NOT NULL,
    prev INTEGER,
    data TEXT
) STRICT;

CREATE INDEX events_queue ON events (queue, id);

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

CREATE TABLE batches (
    batch TEXT PRIMARY KEY,
    expires INTEGER NOT NULL,
    created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX batches_expires ON batches (expires);

CREATE TABLE keyvalue (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX keyvalue_expires ON keyvalue (expires);

-- Counts and events follow from the change of state itself, so that no statement can forget them.
CREATE TRIGGER queues_added AFTER INSERT ON queues BEGIN
    INSERT INTO counts (queue, state, n)
    VALUES (new.id, 0, 0), (new.id, 1, 0), (new.id, 2, 0), (new.id, 3, 0), (new.id, 4, 0), (new.id, 5, 0), (new.id, 6, 0);
END;

CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1 WHERE queue = new.queue AND state = new.state;
    INSERT INTO events (queue, kind, job, at, data)
    VALUES (new.queue, new.state, new.id, new.changed, CASE new.state WHEN 2 THEN json_object('due', new.place) END);
END;

CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    UPDATE counts SET n = n + 1 WHERE queue = new.queue AND state = new.state;
    INSERT INTO events (queue, kind, job, at, prev, data)
    VALUES (
        new.queue, new.state, new.id, new.changed, old.state,
        CASE new.state
            WHEN 2 THEN json_object('due', new.place)
            WHEN 6 THEN json_object('reason', new.reason)
        END
    );
END;

CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = old.queue AND state = old.state;
    DELETE FROM logs WHERE job = old.seq;
END;
