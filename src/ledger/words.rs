//! One statement, two databases: each SQL text is written once and runs on
//! both. What must differ stands in braces and is put in here. Pure.

use std::borrow::Cow;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

/// Puts the database's own words in.
pub(super) fn in_words_of(backend: Backend, text: &'static str) -> Cow<'static, str> {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((word, after)) = after.split_once('}') else { break };
        out.push_str(before);
        match (word, backend) {
            ("lease_clock", Backend::Sqlite) => out.push('0'),
            ("lease_clock", Backend::Postgres) => {
                out.push_str("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)");
            }
            ("immediate", Backend::Sqlite) => out.push_str("IMMEDIATE"),
            ("server_version", Backend::Sqlite) => out.push_str("sqlite_version()"),
            ("server_version", Backend::Postgres) => out.push_str("current_setting('server_version')"),
            ("is_forgetful", Backend::Sqlite) => out.push_str("CAST(FALSE AS BOOLEAN)"),
            ("is_forgetful", Backend::Postgres) => {
                out.push_str("current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off'");
            }
            ("skip_locked" | "bytewise", Backend::Sqlite) | ("immediate", Backend::Postgres) => {}
            ("bytewise", Backend::Postgres) => out.push_str("COLLATE \"C\""),
            ("skip_locked", Backend::Postgres) => out.push_str("FOR UPDATE SKIP LOCKED"),
            (word, backend) => match word.strip_prefix("rows ") {
                Some(columns) => out.push_str(&rows_of(backend, columns)),
                None => match word.strip_prefix("list ") {
                    Some(columns) => out.push_str(&list_of(backend, columns)),
                    None => out.push_str(&any_of(backend, word)),
                },
            },
        }
        rest = after;
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `1 id:uuid owner:text bytes:bigint` as a table `r` of these columns.
fn rows_of(backend: Backend, columns: &str) -> String {
    let (n, columns) = columns.split_once(' ').unwrap_or((columns, ""));
    let columns = columns.split_ascii_whitespace().filter_map(|column| column.split_once(':'));
    match backend {
        Backend::Sqlite => {
            let read = |(name, kind): (&str, &str)| match kind {
                "uuid" => format!("unhex(value ->> '{name}') AS {name}"),
                _ => format!("value ->> '{name}' AS {name}"),
            };
            let columns: Vec<String> = columns.map(read).collect();
            format!("(SELECT {} FROM json_each(${n})) AS r", columns.join(", "))
        }
        Backend::Postgres => {
            let columns: Vec<String> = columns.map(|(name, kind)| format!("{name} {kind}")).collect();
            format!("json_to_recordset(CAST(${n} AS JSON)) AS r ({})", columns.join(", "))
        }
    }
}

fn list_of(backend: Backend, columns: &str) -> String {
    match backend {
        Backend::Sqlite => format!("json_group_array(json_array({columns}))"),
        Backend::Postgres => format!("CAST(coalesce(json_agg(json_build_array({columns})), '[]') AS TEXT)"),
    }
}

fn any_of(backend: Backend, word: &str) -> String {
    match (word.split_once(' '), backend) {
        (Some(("any_int" | "any_id" | "any_text", n)), Backend::Postgres) => format!("= ANY(${n})"),
        (Some(("any_int" | "any_text", n)), Backend::Sqlite) => format!("IN (SELECT value FROM json_each(${n}))"),
        (Some(("any_id", n)), Backend::Sqlite) => format!("IN (SELECT unhex(value) FROM json_each(${n}))"),
        // Left as it is, for the database to complain of.
        (Some(_) | None, Backend::Sqlite | Backend::Postgres) => format!("{{{word}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_gets_its_own_words() {
        let text = "DELETE FROM chunks WHERE upload_id = $1 AND chunk_index {any_int 2} AND x <= $3 + {lease_clock}";
        assert_eq!(
            in_words_of(Backend::Sqlite, text),
            "DELETE FROM chunks WHERE upload_id = $1 AND chunk_index IN (SELECT value FROM json_each($2)) AND x <= $3 + 0"
        );
        assert!(in_words_of(Backend::Postgres, text).contains("chunk_index = ANY($2) AND x <= $3 + CAST(extract("));
        assert_eq!(in_words_of(Backend::Sqlite, "BEGIN {immediate}"), "BEGIN IMMEDIATE");
        assert!(matches!(in_words_of(Backend::Sqlite, "SELECT 1"), Cow::Borrowed("SELECT 1")));
        let text = "SELECT a FROM b ORDER BY a {bytewise}, c";
        assert_eq!(in_words_of(Backend::Sqlite, text), "SELECT a FROM b ORDER BY a , c");
        assert_eq!(in_words_of(Backend::Postgres, text), "SELECT a FROM b ORDER BY a COLLATE \"C\", c");
        let text = "SELECT r.id FROM {rows 2 id:uuid n:bigint}";
        assert_eq!(
            in_words_of(Backend::Sqlite, text),
            "SELECT r.id FROM (SELECT unhex(value ->> 'id') AS id, value ->> 'n' AS n FROM json_each($2)) AS r"
        );
        assert_eq!(
            in_words_of(Backend::Postgres, text),
            "SELECT r.id FROM json_to_recordset(CAST($2 AS JSON)) AS r (id uuid, n bigint)"
        );
    }
}
