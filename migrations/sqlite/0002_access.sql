-- Who may ask. Times are milliseconds since the Unix epoch.

-- What access tokens are signed with: all gateways share them.
CREATE TABLE signing_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    -- 64 hex digits.
    secret     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A login on one device: its refresh tokens, one after the other, each of
-- which is made of the family's secret and its own generation.
CREATE TABLE token_families (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    owner      TEXT    NOT NULL,
    device     TEXT,
    -- 64 hex digits.
    secret     TEXT    NOT NULL,
    -- What its bearer may do, as JSON.
    terms      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    -- When the generation before this one was used.
    rotated_at INTEGER,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX token_families_revoked ON token_families (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX token_families_expiring ON token_families (expires_at);
