-- Channels and their messages. Ids run on along a channel without a hole; a channel that begins anew goes on above all
-- ids that a channel had before, so that an old id is never taken for a new one.

CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The id before its first message, and the id of its newest.
    began INTEGER NOT NULL,
    last INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX channels_by_expiry ON channels (expires);

CREATE TABLE messages (
    channel INTEGER NOT NULL,
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (channel, id)
) STRICT, WITHOUT ROWID;

-- One row: the highest id of any channel that was removed.
CREATE TABLE channel_ids (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), highest INTEGER NOT NULL) STRICT;

INSERT INTO channel_ids VALUES (1, 0);
