-- Who may ask. Times are milliseconds since the Unix epoch.

-- What access tokens are signed with: all gateways share them.
CREATE TABLE signing_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    -- 64 hex digits.
    secret     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL
);

-- A login on one device: its refresh tokens, one after the other, each of
-- which is made of the family's secret and its own generation.
CREATE TABLE token_families (
    id         UUID    NOT NULL PRIMARY KEY,
    owner      TEXT    NOT NULL,
    device     TEXT,
    -- 64 hex digits.
    secret     TEXT    NOT NULL,
    -- What its bearer may do, as JSON.
    terms      TEXT    NOT NULL,
    generation BIGINT  NOT NULL,
    -- When the generation before this one was used.
    rotated_at BIGINT,
    expires_at BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX token_families_revoked ON token_families (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX token_families_expiring ON token_families (expires_at);
