-- What an operator asks about: deliveries, and uploads that failed. Times are
-- milliseconds since the Unix epoch.

-- The newest attempts to deliver an event to an endpoint.
CREATE TABLE attempts (
    event_id TEXT    NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    -- From 1; how many there were in all is said by the delivery.
    nth      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    -- What the receiver answered, if it did; and what was wrong, if anything.
    status   INTEGER,
    error    TEXT,
    PRIMARY KEY (event_id, endpoint, nth)
) STRICT, WITHOUT ROWID;

-- In all: `attempts` begins anew when an event is sent again.
ALTER TABLE deliveries ADD COLUMN attempts_ever INTEGER NOT NULL DEFAULT 0;

DROP INDEX deliveries_dead;
CREATE INDEX deliveries_by_state ON deliveries (state, event_id, endpoint);
CREATE INDEX uploads_failed ON uploads (created_at, id) WHERE state = 'failed';
CREATE INDEX uploads_failed_of_owner ON uploads (owner, created_at, id) WHERE state = 'failed';
