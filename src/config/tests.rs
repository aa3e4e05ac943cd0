//! Stories of configurations that are right, wrong, and explained.

use std::fs;

use serde_json::Value as Json;

use super::*;
use crate::access::AuthMode;
use crate::store::StoreKind;

/// Loads a TOML text, variables and flags, and names the temporary file `chunkgate.toml`.
fn load_from(toml: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
    load_strictly(toml, variables, flags, Strictness::default())
}

fn load_strictly(
    toml: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
    strictness: Strictness,
) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("chunkgate.toml"), toml).expect("file");
    let flags = flags.iter().map(|(key, value)| Setting::text(key, value, Origin::Flag(format!("--{key}"))));
    let sources = Sources {
        file: None,
        folder: folder.path().to_owned(),
        environment: variables.iter().copied().collect(),
        flags: flags.collect(),
    };
    load(&sources, strictness).map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

fn leaves(prefix: &str, value: &Json, out: &mut Vec<String>) {
    match value {
        Json::Object(table) => {
            for (name, value) in table {
                leaves(&format!("{prefix}.{name}"), value, out);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            out.push(prefix.trim_start_matches('.').to_owned());
        }
    }
}

#[test]
fn every_key_of_the_structs_is_in_the_reference_and_no_other() {
    let mut structs = Vec::new();
    leaves("", &serde_json::to_value(Config::default()).expect("defaults"), &mut structs);
    structs.sort();
    let mut reference: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    reference.sort();
    assert_eq!(structs, reference);
    for key in KEYS {
        assert!(key.doc.ends_with('.') || key.doc.ends_with(')'), "{} has no sentence: {}", key.name, key.doc);
    }
}

#[test]
fn the_defaults_are_a_configuration_and_are_printed_as_one() {
    let loaded = load_from("", &[], &[]).expect("defaults");
    let printed = to_toml(&loaded);
    let again = load_from(&printed, &[], &[]).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    let values = |config: &Config| serde_json::to_value(config).expect("values");
    let (mut first, mut second) = (values(&loaded.config), values(&again.config));
    // These two are printed as what they come to.
    for values in [&mut first, &mut second] {
        values["database"]["url"] = Json::Null;
        values["store"]["file"]["dir"] = Json::Null;
    }
    assert_eq!(first, second);
    assert!(KEYS.iter().all(|key| printed.contains(&format!("{} = ", key.name.rsplit('.').next().unwrap_or("")))));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let toml = "listen = \"127.0.0.1:1\"\npublic_url = \"http://file\"\n[limits]\nmax_open_uploads = 3";
    let variables = [("CHUNKGATE_LISTEN", "127.0.0.1:2"), ("CHUNKGATE_PUBLIC_URL", "http://environment")];
    let loaded = load_from(toml, &variables, &[("listen", "127.0.0.1:3")]).expect("a configuration");
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.public_url.as_deref(), Some("http://environment"));
    assert_eq!(loaded.config.limits.max_open_uploads, 3);
    let printed = to_toml(&loaded);
    assert!(printed.contains("listen = \"127.0.0.1:3\"  # --listen"), "{printed}");
    assert!(printed.contains("public_url = \"http://environment\"  # CHUNKGATE_PUBLIC_URL"), "{printed}");
    assert!(printed.contains("chunkgate.toml:4"), "{printed}");
    assert!(printed.contains("lease = \"30s\"  # default"), "{printed}");
}

#[test]
fn variables_become_what_their_keys_ask_for() {
    let loaded = load_from(
        "",
        &[
            ("CHUNKGATE_STORE__KIND", "oss"),
            ("CHUNKGATE_STORE__OSS__ENDPOINT", "oss-cn-hangzhou.aliyuncs.com"),
            ("CHUNKGATE_STORE__OSS__BUCKET", "1234"),
            ("CHUNKGATE_STORE__OSS__PATH_STYLE", "true"),
            ("CHUNKGATE_LIMITS__MAX_OPEN_UPLOADS", "7"),
            ("CHUNKGATE_LIMITS__MAX_CONNECTIONS", "500"),
            ("CHUNKGATE_LIMITS__MAX_FILE_SIZE", "10GiB"),
            ("CHUNKGATE_UPLOAD__SIMPLE_MAX_BYTES", "1048576"),
            ("CHUNKGATE_CORS__ALLOWED_ORIGINS", "https://a.example.com, https://b.example.com"),
            ("CHUNKGATE_AUTH__MODE", "keys"),
            ("CHUNKGATE_AUTH__API_KEYS", "app:one,other:two"),
            ("CHUNKGATE_WEBHOOK__ENDPOINTS", r#"[{"url": "https://c.example.com", "secret": "whsec_AQID"}]"#),
            ("CHUNKGATE_HEALTH__READY_REQUIRES", "database,store"),
            ("CHUNKGATE_PUBLIC_URL", ""),
            ("CHUNKGATE_SERVICE_HOST", "10.0.0.1"),
            ("CHUNKGATE_PORT", "tcp://10.0.0.1:80"),
            ("CHUNKGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ],
        &[],
    );
    let config = loaded.expect("a configuration").config;
    assert_eq!(config.store.kind, StoreKind::Oss);
    assert_eq!(config.store.oss.bucket.as_deref(), Some("1234"));
    assert!(config.store.oss.path_style);
    assert_eq!(config.limits.max_open_uploads, 7);
    assert_eq!(config.limits.max_connections, Some(500));
    assert_eq!(config.limits.max_file_size, Some(10 << 30));
    assert_eq!(config.upload.simple_max_bytes, 1 << 20);
    assert_eq!(config.cors.allowed_origins, ["https://a.example.com", "https://b.example.com"]);
    assert_ne!(config.auth.mode, AuthMode::None);
    assert_eq!(config.auth.api_keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["app", "other"]);
    assert_eq!(config.webhook.endpoints[0].url, "https://c.example.com");
    assert_eq!(config.health.ready_requires.len(), 2);
    assert_eq!(config.public_url, None);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_right_one() {
    for (toml, variables, expected) in [
        (
            "[store.oss]\nbuket = \"b\"",
            [].as_slice(),
            "store.oss.buket (chunkgate.toml:2): there is no such key; did you mean store.oss.bucket?",
        ),
        ("bucket = \"b\"", &[], "did you mean store.oss.bucket?"),
        (
            "[uploads]\nlease = \"5s\"",
            &[],
            "uploads.lease (chunkgate.toml:2): there is no such key; did you mean upload.lease?",
        ),
        ("", &[("CHUNKGATE_LISTN", "x")], "CHUNKGATE_LISTN: there is no such key; did you mean CHUNKGATE_LISTEN?"),
        ("", &[("CHUNKGATE_DATABASE_URL", "x")], "did you mean CHUNKGATE_DATABASE__URL?"),
        ("store = \"oss\"", &[], "store (chunkgate.toml:1): is a group of keys: set one of them, such as store.kind"),
        ("[store.kind]\na = 1", &[], "store.kind.a (chunkgate.toml:2): there is no such key; did you mean store.kind?"),
        ("zzzzzzzzzzzz = 1", &[], "--print-config"),
    ] {
        let error = load_from(toml, variables, &[]).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_a_remedy() {
    for (toml, expected) in [
        ("listen = \"here\"", "listen = \"here\" (chunkgate.toml:1): must be an IP address and a port"),
        ("listen = 8080", "listen = 8080 (chunkgate.toml:1): must be an IP address and a port"),
        ("[upload]\nlease = 30", "upload.lease = 30 (chunkgate.toml:2): \"30\" has no unit: write for example 30s"),
        ("[upload]\nlease = \"1s\"", "upload.lease = \"1s\" (chunkgate.toml:2): must be at least 3s"),
        ("[upload]\nlease = true", "must be a duration such as"),
        ("[upload]\nsimple_max_bytes = -1", "must be a size such as"),
        ("[upload]\nauto_complete = 1", "upload.auto_complete = 1 (chunkgate.toml:2): must be true or false"),
        ("[upload]\nkey_template = \"{owner}/{name}{random}\"", "there is no {name}; there are {owner}"),
        ("[upload]\nkey_template = \"uploads/{owner}\"", "must contain {random}"),
        ("[upload]\nkey_template = \"/{random}\"", "must give keys such as"),
        ("[upload]\nkey_template = \"{random}/{\"", "must give keys such as"),
        ("[store]\nkind = \"gcs\"", "store.kind = \"gcs\" (chunkgate.toml:2): must be one of `file`, `oss`, `s3`"),
        ("[store]\nkind = \"oss\"", "store.oss.endpoint: must be set when store.kind is oss"),
        ("[store.oss]\nbucket = 5", "store.oss.bucket = 5 (chunkgate.toml:2): must be text: put it in quotes"),
        ("[limits]\nmax_open_uploads = \"many\"", "must be a whole number"),
        ("[limits]\nmax_open_uploads = 0", "limits.max_open_uploads = 0 (chunkgate.toml:2): must be at least 1"),
        ("[cors]\nallowed_origins = \"*\"", "must be a list"),
        ("[cors]\nallowed_origins = [\"https://a/\"]", "without a /"),
        (
            "[database]\nurl = \"mysql://h/n\"",
            "database.url = \"********\" (chunkgate.toml:2): must begin with sqlite://",
        ),
        ("[database]\nmin_connections = 21", "must be at most database.max_connections, which is 20"),
        ("[webhook]\nurl = \"https://u:hunter2@h/\"", "must not contain a user or a password"),
        ("[store.oss]\npublic_endpoint = \"https://u:hunter2@h\"", "must not contain a user or a password"),
        (
            "[webhook]\nsecret = \"hunter2\"",
            "webhook.secret = \"********\" (chunkgate.toml:2): must be whsec_ and base64",
        ),
        ("[webhook]\nurl = \"https://h/\"", "webhook.secret: is needed, for events and hooks are signed"),
        ("[[webhook.endpoints]]\nurll = \"https://h/\"", "unknown field `urll`"),
        ("[sweep]\ninterval = \"0s\"", "must be longer than nothing"),
        ("[log]\nlevel = \"verbose\"", "\"verbose\" is not a level"),
        ("[auth]\nmode = \"oidc\"", "\"oidc\" is none of \"none\", \"keys\", \"tokens\" and \"jwt\""),
        ("[auth]\napi_keys = [\"hunter2\"]", "auth.api_keys = \"********\" (chunkgate.toml:2): an API key is written"),
        (
            "admin_listen = \"127.0.0.1:8080\"",
            "admin_listen = \"127.0.0.1:8080\" (chunkgate.toml:1): is where `listen` is",
        ),
    ] {
        let error = load_from(toml, &[], &[]).expect_err(toml);
        assert!(error.contains(expected), "{toml:?} gave {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = load_from("a = 1\n[upload]\nlease = 5", &[("CHUNKGATE_LISTEN", "x")], &[]).expect_err("three");
    assert!(error.starts_with("3 things in the configuration are wrong:\n  - "), "{error}");
    assert_eq!(error.lines().count(), 4, "{error}");
}

/// What is only known from several keys, and from the environment, is told at once too.
#[test]
fn a_store_that_is_used_needs_all_that_it_needs() {
    let toml = "[store]\nkind = \"oss\"\n[store.oss]\nendpoint = \"127.0.0.1:9000\"\n[upload]\nlease = \"1s\"";
    let used = Strictness { opens_store: true, ..Strictness::default() };
    let error = load_strictly(toml, &[("OSS_ACCESS_KEY_ID", "id")], &[], used).expect_err("four");
    for told in [
        "4 things",
        "store.oss.bucket: must be set",
        "store.oss.region: must be set, for example to cn-hangzhou",
        "store.oss.access_key_secret: must be set, here or as OSS_ACCESS_KEY_SECRET",
        "upload.lease = \"1s\" (chunkgate.toml:6)",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    // Whoever only migrates needs none of it.
    let error = load_from(toml, &[], &[]).expect_err("the lease");
    assert!(error.starts_with("the configuration is wrong: upload.lease"), "{error}");
}

#[test]
fn without_authentication_only_loopback_is_served() {
    let everywhere = [("listen", "0.0.0.0:8080")];
    let error = load_from("", &[], &everywhere).expect_err("exposed");
    assert!(error.contains("(--listen): without authentication only loopback is served"), "{error}");
    assert!(load_from("", &[], &[("admin_listen", "0.0.0.0:8081")]).is_err());
    assert!(load_from("", &[], &[("listen", "[::1]:8080")]).is_ok());
    let keys = "[auth]\nmode = [\"keys\"]\napi_keys = [\"app:k\"]";
    assert!(load_from(keys, &[], &everywhere).is_ok());

    let insecure = Strictness { insecure_no_auth: true, ..Strictness::default() };
    let loaded = load_strictly("", &[], &everywhere, insecure).expect("told so");
    assert_eq!(loaded.warnings.len(), 1);
    // Keys are for who administers then.
    assert!(load_strictly("[auth]\napi_keys = [\"app:k\"]", &[], &everywhere, insecure).is_ok());

    let bootstrap = Strictness { bootstrap_key: true, ..Strictness::default() };
    let loaded = load_strictly("", &[], &everywhere, bootstrap).expect("with a key");
    assert_ne!(loaded.config.auth.mode, AuthMode::None);
    assert!(load_strictly("[auth]\nmode = \"none\"", &[], &[], bootstrap).is_err());
}

#[test]
fn keys_without_a_mode_that_asks_for_them_are_a_mistake() {
    let error = load_from("[auth]\napi_keys = [\"app:k\"]", &[], &[]).expect_err("contradiction");
    assert!(error.contains("set auth.mode = [\"keys\"]"), "{error}");
    // One caller's old key and new one; but a key is one caller's.
    assert!(load_from("[auth]\nmode = \"keys\"\napi_keys = [\"a:k\", \"a:l\"]", &[], &[]).is_ok());
    for twice in ["[\"a:k\", \"a:k\"]", "[\"a:k\", \"b:k\"]"] {
        let error = load_from(&format!("[auth]\nmode = \"keys\"\napi_keys = {twice}"), &[], &[]).expect_err(twice);
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("url");
    fs::write(&file, "postgres://u:hunter2@db/n\n").expect("secret");
    let path = file.to_str().expect("path");
    let loaded = load_from("", &[("CHUNKGATE_DATABASE__URL_FILE", path)], &[]).expect("a secret in a file");
    assert_eq!(loaded.config.database_url().expose(), "postgres://u:hunter2@db/n");
    let printed = to_toml(&loaded);
    assert!(printed.contains("# url = \"postgres://u:********@db/n\"  # CHUNKGATE_DATABASE__URL_FILE"), "{printed}");
    assert!(!printed.contains("hunter2") && !format!("{loaded:?}").contains("hunter2"));

    let both = [("CHUNKGATE_DATABASE__URL_FILE", path), ("CHUNKGATE_DATABASE__URL", "sqlite://a")];
    assert!(load_from("", &both, &[]).expect_err("both").contains("is set too"));
    for name in ["CHUNKGATE_DATABASE__URL_FILE", "OSS_ACCESS_KEY_SECRET_FILE"] {
        assert!(load_from("", &[(name, "/nowhere")], &[]).expect_err(name).contains("cannot be read"));
    }
    // What is no secret has no file.
    assert!(load_from("", &[("CHUNKGATE_LISTEN_FILE", path)], &[]).is_err());

    let environment: Environment = [("OSS_ACCESS_KEY_ID_FILE", path), ("OSS_SESSION_TOKEN", "t")].into_iter().collect();
    assert_eq!(environment.get("OSS_ACCESS_KEY_ID").as_deref(), Some("postgres://u:hunter2@db/n"));
    assert_eq!(environment.get("OSS_SESSION_TOKEN").as_deref(), Some("t"));
    assert_eq!(environment.get("OSS_ACCESS_KEY_SECRET"), None);
}

#[test]
fn links_that_browsers_do_not_reach_are_warned_of() {
    let warned = |public: &str| {
        let variables = [
            ("CHUNKGATE_STORE__KIND", "oss"),
            ("CHUNKGATE_STORE__OSS__ENDPOINT", "oss-cn-hangzhou-internal"),
            ("CHUNKGATE_STORE__OSS__PUBLIC_ENDPOINT", public),
            ("CHUNKGATE_STORE__OSS__BUCKET", "media"),
            ("OSS_ACCESS_KEY_ID", "ak"),
            ("OSS_ACCESS_KEY_SECRET", "sk"),
        ];
        let strictness = Strictness { opens_store: true, ..Strictness::default() };
        load_strictly("", &variables, &[], strictness).expect("a configuration").warnings
    };
    assert!(warned("")[0].contains("store.oss.public_endpoint"));
    assert!(warned("oss-cn-hangzhou").is_empty());
}

/// Files of secrets that change: together, and only once they have settled.
#[test]
fn secrets_of_files_are_looked_at_again() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let set = |name: &str, text: &str| fs::write(path(name), text).expect("written");
    set("keys", "shop:one\n");
    set("url", "postgres://u:one@h/n");
    let (keys, url) = (path("keys"), path("url"));
    let variables = [
        ("CHUNKGATE_AUTH__MODE", "keys"),
        ("CHUNKGATE_AUTH__API_KEYS_FILE", keys.as_str()),
        ("CHUNKGATE_DATABASE__URL_FILE", url.as_str()),
    ];
    let mut secrets = load_from("", &variables, &[]).expect("a configuration").secrets;
    let mut look = || secrets.look().map(|looked| looked.map(|config| config.database_url().expose().to_owned()));
    assert!(look().is_none());
    set("url", "postgres://u:two@h/n");
    assert!(look().is_none(), "it has not settled");
    set("keys", "shop:two");
    assert!(look().is_none(), "another is changing");
    assert!(look().is_some_and(|looked| looked.is_ok_and(|url| url.contains("two"))));
    assert!(look().is_none(), "told once");
    set("keys", "nonsense");
    look();
    let told = look().expect("a look").expect_err("wrong").to_string();
    assert!(told.contains("auth.api_keys") && told.contains(&keys) | told.contains("API_KEYS_FILE"), "{told}");
    assert!(!told.contains("nonsense"), "{told}");
    fs::remove_file(&keys).expect("removed");
    assert!(look().is_none() && look().is_none());
}
