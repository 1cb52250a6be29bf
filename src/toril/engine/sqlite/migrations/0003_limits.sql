-- What was counted against rate limits. meter: a JSON array of whole microseconds and counts, see ports/metering.py;
-- expires: when it may be forgotten, in milliseconds.
CREATE TABLE meters (
    key TEXT PRIMARY KEY,
    meter TEXT NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX meters_expires ON meters (expires);
