-- What was acknowledged to clients. Times are milliseconds since the Unix
-- epoch; sizes are bytes; a CRC-64 is kept as the signed integer of the same
-- bits; ids are UUIDs.

CREATE TABLE uploads (
    id            UUID    NOT NULL PRIMARY KEY,
    owner         TEXT    NOT NULL,
    file_id       TEXT    NOT NULL,
    -- The one that (owner, file_id) means now; those it replaced stay for their remains.
    is_current    BOOLEAN NOT NULL,
    file_name     TEXT    NOT NULL,
    content_type  TEXT,
    metadata      TEXT    NOT NULL,
    total_chunks  BIGINT  NOT NULL,
    -- Null where they are still to be learnt.
    chunk_bytes   BIGINT,
    last_bytes    BIGINT,
    file_bytes    BIGINT,
    -- What the client declared, as algorithm:value.
    checksum      TEXT,
    auto_complete BOOLEAN NOT NULL,
    object_key    TEXT    NOT NULL,
    -- Whether what lies under its key is its own: until nothing of it is left there.
    holds_key     BOOLEAN NOT NULL DEFAULT TRUE,
    -- What it has of its owner's bytes while it is open.
    reserved_bytes BIGINT NOT NULL DEFAULT 0,
    -- Whether clients were given URLs of the store to put parts at.
    is_direct     BOOLEAN NOT NULL DEFAULT FALSE,
    state         TEXT    NOT NULL,
    -- The store's multipart upload, and how often one was asked for.
    session       TEXT,
    begins        BIGINT  NOT NULL DEFAULT 0,
    failure       TEXT,
    -- Who merges it, and until when on the lease clock.
    lease_token   UUID,
    lease_holder  UUID,
    lease_until   BIGINT  NOT NULL DEFAULT 0,
    -- The object, once there is one.
    etag          TEXT,
    crc64         BIGINT,
    completed_at  BIGINT,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL,
    -- When it left uploading and completing for good.
    ended_at      BIGINT,
    -- When to look next for parts in the store that no object needs; null when there are none.
    clean_at      BIGINT,
    -- Whether it has ended with chunk rows that are still to be pruned.
    chunks_kept   BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE UNIQUE INDEX uploads_current ON uploads (owner, file_id) WHERE is_current;
CREATE INDEX uploads_of_owner ON uploads (owner, created_at, id) WHERE is_current;
CREATE INDEX uploads_of_all ON uploads (created_at, id) WHERE is_current;
-- For lists of one state: most uploads are completed, and those are found by the one above.
CREATE INDEX uploads_by_state ON uploads (state, created_at, id) WHERE is_current AND state <> 'completed';
CREATE INDEX uploads_expiring ON uploads (expires_at) WHERE state = 'uploading';
CREATE INDEX uploads_mergeable ON uploads (id) WHERE state = 'uploading' AND auto_complete;
CREATE INDEX uploads_completing ON uploads (lease_until) WHERE state = 'completing';
CREATE INDEX uploads_with_remains ON uploads (clean_at) WHERE clean_at IS NOT NULL;
CREATE INDEX uploads_with_chunks ON uploads (ended_at) WHERE chunks_kept;
CREATE INDEX uploads_given_up ON uploads (ended_at) WHERE state IN ('aborted', 'expired');
CREATE INDEX uploads_of_key ON uploads (object_key) WHERE holds_key;

-- What was acknowledged. No foreign key: on Postgres its check would lock the
-- upload's row, which all of the upload's chunks would then share.
CREATE TABLE chunks (
    upload_id   UUID    NOT NULL,
    chunk_index BIGINT  NOT NULL,
    bytes       BIGINT  NOT NULL,
    -- Null for one that came straight to a store that keeps none.
    crc64       BIGINT,
    -- Of the part that is this chunk; null for a chunk that lies in a part of `parts`.
    etag        TEXT,
    recorded_at BIGINT  NOT NULL,
    -- With all that who resumes is told: chunks of many uploads come at the same time, so
    -- each of one lies on another page.
    PRIMARY KEY (upload_id, chunk_index) INCLUDE (bytes)
);

-- What the store holds, where a part is not one chunk.
CREATE TABLE parts (
    upload_id   UUID    NOT NULL,
    part_number BIGINT  NOT NULL,
    -- The chunks in it; null where bytes are appended at an offset.
    first_chunk BIGINT,
    chunk_count BIGINT,
    bytes       BIGINT  NOT NULL,
    crc64       BIGINT  NOT NULL,
    etag        TEXT    NOT NULL,
    recorded_at BIGINT  NOT NULL,
    PRIMARY KEY (upload_id, part_number)
);

CREATE TABLE files (
    -- Of its upload. No foreign key: they are written together, and it would be looked up for each.
    id           UUID    NOT NULL PRIMARY KEY,
    owner        TEXT    NOT NULL,
    file_id      TEXT    NOT NULL,
    file_name    TEXT    NOT NULL,
    content_type TEXT,
    metadata     TEXT    NOT NULL,
    object_key   TEXT    NOT NULL,
    etag         TEXT    NOT NULL,
    bytes        BIGINT  NOT NULL,
    -- Null where nobody of ours has seen all bytes, and the store keeps none.
    crc64        BIGINT,
    completed_at BIGINT  NOT NULL,
    -- What the client declared, as algorithm:value, and whether it was verified.
    declared     TEXT,
    verified     BOOLEAN NOT NULL
);

CREATE UNIQUE INDEX files_current ON files (owner, file_id);
CREATE INDEX files_of_owner ON files (owner, completed_at, id);
CREATE INDEX files_of_all ON files (completed_at, id);

-- How many uploads an owner has in uploading and completing together, and how
-- many bytes: those of its files, and those that its open uploads have reserved.
CREATE TABLE owners (
    owner        TEXT    NOT NULL PRIMARY KEY,
    open_uploads BIGINT  NOT NULL CHECK (open_uploads >= 0),
    used_bytes   BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE events (
    id         TEXT    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL,
    upload_id  UUID    NOT NULL,
    owner      TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE INDEX events_of_upload ON events (upload_id);
CREATE INDEX events_by_age ON events (created_at);

CREATE TABLE deliveries (
    event_id        TEXT    NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    endpoint        TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'pending',
    attempts        BIGINT  NOT NULL DEFAULT 0,
    next_attempt_at BIGINT  NOT NULL,
    lease_token     UUID,
    lease_until     BIGINT  NOT NULL DEFAULT 0,
    last_status     BIGINT,
    last_error      TEXT,
    delivered_at    BIGINT,
    PRIMARY KEY (event_id, endpoint)
);

CREATE INDEX deliveries_pending ON deliveries (endpoint, next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_overdue ON deliveries (next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_dead ON deliveries (event_id) WHERE state = 'dead';
CREATE INDEX deliveries_leased ON deliveries (lease_token) WHERE lease_token IS NOT NULL;

-- Keys that were made here rather than configured. Only their hashes.
CREATE TABLE api_keys (
    name       TEXT    NOT NULL PRIMARY KEY,
    -- 64 hex digits.
    sha256     TEXT    NOT NULL,
    created_at BIGINT NOT NULL
);

-- Objects that are being put in one request, until their files are recorded:
-- what a crash leaves in the store is found by these. And for as long as a
-- transaction takes, keys that the application chose.
CREATE TABLE objects_underway (
    object_key  TEXT    NOT NULL PRIMARY KEY,
    -- Of which upload: others may have the key before it and after it.
    upload_id   UUID    NOT NULL,
    -- Who may try again, where the application chose the key; who was given the form.
    owner       TEXT,
    file_id     TEXT,
    begun_at    BIGINT  NOT NULL,
    -- What the file will be that a browser puts by a form; null of what a gateway puts.
    form        TEXT,
    -- When to look next whether it has come.
    look_at     BIGINT,
    -- Its time is over: it becomes no file any more, and is removed.
    condemned   BOOLEAN NOT NULL DEFAULT FALSE,
    -- Until when on the lease clock whoever puts it, or removes it, is alone with it.
    lease_until BIGINT  NOT NULL DEFAULT 0
);

CREATE INDEX objects_underway_by_age ON objects_underway (begun_at);
CREATE INDEX objects_underway_leased ON objects_underway (lease_until) WHERE lease_until <> 0;
CREATE INDEX objects_awaited ON objects_underway (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX objects_awaited_by ON objects_underway (owner, file_id) WHERE form IS NOT NULL;

-- What one gateway does for all of them. Times are those of the lease clock.
CREATE TABLE jobs (
    name        TEXT    NOT NULL PRIMARY KEY,
    next_at     BIGINT  NOT NULL,
    lease_token UUID   ,
    lease_until BIGINT  NOT NULL
);
