-- The outbox's one table on SQLite.

-- name: create
CREATE TABLE {table} (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id VARCHAR(64) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    order_key VARCHAR(255),
    job TEXT NOT NULL,
    created BIGINT NOT NULL,
    batch VARCHAR(64),
    batch_now BIGINT,
    batch_until BIGINT,
    lease BIGINT,
    fate VARCHAR(16),
    reason TEXT
);
CREATE INDEX {table}_batch ON {table} (batch);
CREATE INDEX {table}_key ON {table} (queue, order_key, seq);
