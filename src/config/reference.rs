//! Every key, in the order in which people read about them. A test holds this
//! list and the structs together.

/// What stands in the place of a secret.
pub(super) const MASK: &str = "\"********\"";

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `store.oss.bucket`
    pub name: &'static str,
    /// What it is, in a sentence or two.
    pub doc: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
}

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key { name, doc, secret: false }
}

const fn secret(name: &'static str, doc: &'static str) -> Key {
    Key { name, doc, secret: true }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// All keys.
pub const KEYS: &[Key] = &[
    key("listen", "Where the API and the page listen. Beyond loopback only with authentication."),
    key("admin_listen", "Where metrics and health details are. Never publish it."),
    key("public_url", "How clients reach the API: the start of every URL that is given out. Without it, a path is."),
    key("data_dir", "Where the embedded database and the local store lie."),
    key("log.format", "text, for people, or json, for machines."),
    key("log.level", "error, warn, info, debug or trace; also per module: info,chunkgate::store=debug."),
    secret("database.url", "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME. Several gateways need Postgres."),
    key(
        "database.max_connections",
        "The most connections to the database. On Postgres two of them record chunks and small files, and there are three at least.",
    ),
    key("database.min_connections", "Connections kept when idle (Postgres)."),
    key("database.acquire_timeout", "How long a request waits for a connection before it gets 503."),
    key("database.idle_timeout", "How long a connection beyond the minimum stays idle before it is closed (Postgres)."),
    key("database.max_lifetime", "How old a connection may become (Postgres)."),
    key(
        "store.kind",
        "Where objects end up: file (a local folder, for one gateway), oss (Aliyun OSS) or s3 (AWS S3, MinIO, R2, garage).",
    ),
    key("store.connect_timeout", "For name look-up, TCP and TLS together."),
    key("store.first_byte_timeout", "From the last byte of a request to the first of its answer."),
    key("store.idle_timeout", "How long the store may leave bytes unread. Waiting for a slow client does not count."),
    key("store.retries", "How often a call is repeated that can be. A chunk's body cannot: its client sends it again."),
    key("store.pool.max_idle", "Idle connections to the store that are kept."),
    key("store.pool.idle_timeout", "How long one is kept."),
    key("store.breaker.failures", "So many failures of the store in a row, and it is left alone for a while."),
    key("store.breaker.open_for", "For how long. Requests that need it get 503 meanwhile; slow clients never count."),
    key("store.file.dir", "The folder of the file store, on a local disk."),
    key(
        "store.oss.endpoint",
        "oss-cn-hangzhou.aliyuncs.com, or -internal from within Aliyun; a region's name or a URL will do.",
    ),
    key("store.oss.public_endpoint", "The endpoint in URLs that are given out, when the one above is internal."),
    key("store.oss.bucket", "The bucket."),
    key("store.oss.region", "cn-hangzhou. Derived from the endpoint where it can be."),
    secret("store.oss.access_key_id", "Falls back to OSS_ACCESS_KEY_ID."),
    secret("store.oss.access_key_secret", "Falls back to OSS_ACCESS_KEY_SECRET."),
    secret("store.oss.security_token", "Of temporary credentials. Falls back to OSS_SESSION_TOKEN."),
    key("store.oss.signature", "v4, or v1 for what is too old for it."),
    key("store.oss.path_style", "/bucket/key instead of bucket.endpoint/key: for test servers, not for OSS."),
    key("store.oss.cname", "The endpoint is a domain that is bound to the bucket."),
    key(
        "store.oss.callback_url",
        "Where OSS tells this gateway of files that came by forms: https://upload.example.com/callbacks/oss.",
    ),
    key("store.oss.callback_key_url", "Where the key of callbacks may come from beside OSS: for test servers."),
    key(
        "store.s3.endpoint",
        "s3.eu-central-1.amazonaws.com, http://minio:9000; a region's name or a URL will do. Without it, AWS in the region.",
    ),
    key("store.s3.public_endpoint", "The endpoint in URLs that are given out, when the one above is internal."),
    key("store.s3.bucket", "The bucket."),
    key("store.s3.region", "eu-central-1. Derived from the endpoint where it can be, else us-east-1."),
    secret("store.s3.access_key_id", "Falls back to AWS_ACCESS_KEY_ID."),
    secret("store.s3.access_key_secret", "Falls back to AWS_SECRET_ACCESS_KEY."),
    secret("store.s3.session_token", "Of temporary credentials. Falls back to AWS_SESSION_TOKEN."),
    key("store.s3.path_style", "/bucket/key instead of bucket.endpoint/key: for servers without a name per bucket."),
    key(
        "store.s3.proof",
        "What shows that a part came through: auto (the best that the store has, tried once), crc64nvme, crc32c, crc32, md5, \
         or size for a store that shows nothing else.",
    ),
    key(
        "store.s3.credentials.kind",
        "Where the access key comes from: static, environment, file, command, assume_role, web_identity. Without it: what is \
         written above or in the environment, else the role of the pod (IRSA), if its variables are there.",
    ),
    key(
        "store.s3.credentials.file",
        "For file: JSON with AccessKeyId, SecretAccessKey and, if temporary, SessionToken and Expiration. Read again when it changes.",
    ),
    secret(
        "store.s3.credentials.command",
        "For command: what sh runs; it writes the same JSON (a credential_process does). Run again before they expire.",
    ),
    key(
        "store.s3.credentials.role_arn",
        "For assume_role and web_identity: arn:aws:iam::123456789012:role/uploads. Falls back to AWS_ROLE_ARN.",
    ),
    key("store.s3.credentials.role_session_name", "What the session is called in the audit log (chunkgate)."),
    secret("store.s3.credentials.external_id", "What the role's trust policy may ask for."),
    key("store.s3.credentials.policy", "Narrows what the session may do: an IAM policy in JSON."),
    key("store.s3.credentials.session_duration", "How long a session lasts; others are got before it ends."),
    key(
        "store.s3.credentials.sts_endpoint",
        "Where STS is. Without it, AWS's of the region, or the server itself (MinIO).",
    ),
    key("store.s3.credentials.web_identity_token_file", "For web_identity. Falls back to AWS_WEB_IDENTITY_TOKEN_FILE."),
    key(
        "store.oss.credentials.kind",
        "Where the access key comes from: static, environment, file, command, assume_role, ecs_role, oidc_role. Without it: \
         what is written above or in the environment, else the role of the pod (RRSA) or of the instance, if their variables are there.",
    ),
    key(
        "store.oss.credentials.file",
        "For file: JSON with AccessKeyId, AccessKeySecret and, of STS, SecurityToken and Expiration. Read again when it changes.",
    ),
    secret(
        "store.oss.credentials.command",
        "For command: what sh runs; it writes the same JSON. Run again before they expire.",
    ),
    key(
        "store.oss.credentials.role_arn",
        "For assume_role and oidc_role: acs:ram::1234567890123456:role/uploads. Falls back to ALIBABA_CLOUD_ROLE_ARN.",
    ),
    key("store.oss.credentials.role_session_name", "What the session is called in the audit log (chunkgate)."),
    secret("store.oss.credentials.external_id", "What the role's trust policy may ask for."),
    key("store.oss.credentials.policy", "Narrows what the session may do: a RAM policy in JSON."),
    key("store.oss.credentials.session_duration", "How long a session lasts; others are got before it ends."),
    key("store.oss.credentials.sts_endpoint", "Where STS is. Without it, that of the region."),
    key("store.oss.credentials.oidc_provider_arn", "For oidc_role. Falls back to ALIBABA_CLOUD_OIDC_PROVIDER_ARN."),
    key("store.oss.credentials.oidc_token_file", "For oidc_role. Falls back to ALIBABA_CLOUD_OIDC_TOKEN_FILE."),
    key("store.oss.credentials.ecs_role", "For ecs_role: which. Without it, the one that the instance has."),
    key("store.oss.credentials.metadata_endpoint", "For ecs_role: where the metadata service is."),
    key(
        "store.oss.object.storage_class",
        "Standard, IA, Archive, ColdArchive or DeepColdArchive. Without it, the bucket's.",
    ),
    key("store.oss.object.encryption", "At rest: AES256, KMS or SM4. Without it, the bucket's."),
    key("store.oss.object.kms_key_id", "For KMS: which key. Without it, the account's."),
    key("store.oss.object.tagging", "Tags of objects, for lifecycle rules: [\"project=video\"]. Up to ten."),
    key("store.oss.object.acl", "default, private, public-read or public-read-write. Without it, the bucket's."),
    key("store.oss.object.cache_control", "Cache-Control of downloads from the store itself."),
    key("store.oss.object.content_disposition", "Content-Disposition of downloads from the store itself."),
    key("store.oss.object.metadata", "Metadata of objects: [\"team=video\"] is x-oss-meta-team."),
    key("store.oss.object.forbid_overwrite", "Fail rather than replace an object that is there. Costs OSS some speed."),
    key("upload.expires_after", "How long an upload without a new chunk is kept."),
    key("upload.lease", "How long a gateway may be silent in a merge before another takes it over. At least 3s."),
    key("upload.auto_complete", "Whether the last missing chunk starts the merge, where the client does not say."),
    key(
        "upload.key_template",
        "The object's key, of {owner} {yyyy} {MM} {dd} {random} {ext}. Never the user's file name.",
    ),
    key("upload.simple_max_bytes", "The largest file that POST /files takes in one request."),
    key(
        "upload.allowed_types",
        "Kinds of files that are taken: image/*, application/pdf. By their names and their first bytes. Empty: any.",
    ),
    key(
        "upload.derive_file_id",
        "Make a fileId of owner, name and chunk count for forms without one. Two versions of one name can then meet.",
    ),
    key("sweep.interval", "How often what was left behind is looked for."),
    key(
        "sweep.orphan_after",
        "How long a multipart upload that nobody claims, and an object that became no file, are left alone.",
    ),
    key("sweep.keep_chunks", "How long a completed upload's chunks are remembered, for late repeats."),
    key(
        "sweep.whole_prefix",
        "Also abort multipart uploads that this gateway's ledger never began. Only in a bucket that nobody else uses.",
    ),
    key("webhook.url", "Where events are sent."),
    secret(
        "webhook.secret",
        "Signs events (Standard Webhooks): whsec_ and base64, as from: `echo whsec_$(openssl rand -base64 32)`. Several, \
         with spaces between them, while they rotate.",
    ),
    key("webhook.retry_initial", "The wait before the second attempt. It doubles from there, for 3 days."),
    secret(
        "webhook.endpoints",
        "More receivers: [[webhook.endpoints]] with url and, where they differ from the first one's, secret and events \
         (a list such as [\"upload.failed\"]).",
    ),
    key(
        "hooks.before_create.url",
        "The application that is asked before an upload is made: it may refuse, and choose the object's key.",
    ),
    key("hooks.completed.url", "The application whose answer goes to the client with a completed file."),
    key("limits.max_file_size", "The largest file. Without it, what the store can hold (48.8TiB)."),
    key("limits.max_open_uploads", "Open uploads per owner."),
    key(
        "limits.quota_bytes",
        "What the files and open uploads of one owner may take together. Without it, any number.",
    ),
    key("limits.max_concurrent_chunks", "Chunks that are read at once. More of them wait."),
    key("limits.queue_wait", "How long a chunk waits for its turn before it gets 503."),
    key("limits.max_connections", "Connections. Without it 10000, or what the process's file descriptors allow."),
    key("limits.header_timeout", "How long a client may take to send a request's head."),
    key("limits.body_idle_timeout", "How long a client may pause within a body."),
    key("limits.form_buffer", "How much of a form's file is held in memory when it comes before its text fields."),
    key("limits.trusted_proxies", "Proxies in front whose word on a client's address (X-Forwarded-For) counts."),
    key(
        "limits.rate",
        "Requests of one subject, and of one address without a valid token: 100/s. Without it, any number.",
    ),
    key("limits.drain_delay", "At shutdown: how long /readyz says no before the listener closes."),
    key("limits.drain_deadline", "At shutdown: how long requests in flight may take after that."),
    key(
        "auth.mode",
        "none (only on loopback; everybody is the owner local), or a list of ways in: keys, tokens (which includes keys), jwt.",
    ),
    secret(
        "auth.api_keys",
        "The back ends' keys: name:key, or name:sha256:HEX so that the key itself is not written here; two of one name while they rotate.",
    ),
    key("auth.access_ttl", "How long an access token lasts."),
    key("auth.refresh_ttl", "How long a refresh token lasts. Each use hands out the next."),
    key(
        "auth.refresh_leeway",
        "How long after its first use a refresh token still gets the same device the same pair.",
    ),
    key("auth.refresh_rate", "Refreshes of one login."),
    key("auth.key_ttl", "How long a key signs access tokens before a new one does. All gateways share them."),
    key(
        "auth.jwt.algorithms",
        "How the issuer signs: HS256, RS256, ES256, EdDSA. No other is taken, whatever a token says.",
    ),
    secret(
        "auth.jwt.hs256_secret",
        "For HS256: the secret that the issuer and we share, 32 bytes at least. Several, one a line, while they rotate.",
    ),
    key("auth.jwt.public_key", "For the others: the issuer's public key, as PEM."),
    key("auth.jwt.jwks_url", "Or where the issuer publishes its keys: https://id.example.com/.well-known/jwks.json."),
    key("auth.jwt.issuer", "What iss must be. Without it, any."),
    key("auth.jwt.audience", "What must be in aud. Without it, any."),
    key("auth.jwt.owner_claim", "The claim that names the owner."),
    key("cors.allowed_origins", "Pages that may call the API: https://app.example.com, https://*.example.com, or *."),
    key("cors.allowed_headers", "Request headers that they may send beside those that the API reads."),
    key(
        "health.ready_requires",
        "What else /readyz asks for: database, store. Empty, so that a shared store that is away does not take out every gateway.",
    ),
];
