//! The ledger's database: reached, ours, writable, and how fast.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Config;
use crate::doctor::course::Course;
use crate::doctor::report::Verdict;
use crate::ledger::{Examined, Ledger};

/// A commit that takes longer is felt.
const COMMIT_SLOW: Duration = Duration::from_millis(50);

/// Examines it: the one that is open, or the one that is configured.
pub(super) async fn check(course: &mut Course<'_>, config: &Config, open: Option<&Ledger>, clock: Arc<dyn Clock>) {
    let examined = async {
        let url = config.database_url();
        let found = match open {
            Some(ledger) => ledger.examine().await.map_err(|error| error.to_string()),
            None => {
                let examined = Ledger::examine_closed(&config.database, url.expose(), clock);
                match examined.await {
                    Ok(examined) => examined.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        found.map_or_else(|error| failed(&error), |found| judge(&found))
    };
    course.check("database", &["configuration"], examined).await;
}

fn failed(error: &str) -> Verdict {
    let (why, fix) = match error.to_ascii_lowercase() {
        text if text.contains("read-only") || text.contains("readonly") => (
            "nothing can be acknowledged that cannot be recorded: chunks get 503",
            "mount the disk for writing, give the file and its folder to the gateway's user; in Postgres name the primary, \
             and ALTER DATABASE … SET default_transaction_read_only = off",
        ),
        text if text.contains("full") || text.contains("no space") => {
            ("chunks get 507: what cannot be recorded is not acknowledged", "make space, or take a larger disk")
        }
        text if text.contains("password") || text.contains("authentication") => (
            "the database does not let this user in",
            "correct user and password in database.url (or CHUNKGATE_DATABASE__URL_FILE)",
        ),
        text if text.contains("damaged") => (
            "nothing that is damaged is served",
            "restore the file from a backup; sqlite3 FILE .recover saves what can be saved",
        ),
        _ => {
            ("without its ledger no gateway starts", "correct database.url, start the database, or let this machine in")
        }
    };
    Verdict::failed(error, why, fix)
}

fn judge(found: &Examined) -> Verdict {
    let version = found.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
    let schema = match found.schema {
        None => "no schema yet: serve makes it".to_owned(),
        Some(schema) => format!("schema {schema} of {}", found.known),
    };
    let commit = found.commit.map_or(String::new(), |took| format!(", a commit takes {} µs", took.as_micros()));
    let what = format!("{}{version}, {schema}{commit}", found.backend);
    if found.schema.is_some_and(|schema| schema > found.known) {
        return Verdict::failed(
            what,
            "a newer chunkgate made this schema, and this one does not know it",
            "run that version, or a newer one",
        );
    }
    if found.schema.is_some_and(|schema| schema < found.known) {
        let why = "the first gateway of this version brings it up to date when it starts";
        return Verdict::warning(what, why, "chunkgate migrate");
    }
    if let Some(pid) = found.held_by {
        let holder = if pid == 0 { "another process".to_owned() } else { format!("process {pid}") };
        return Verdict::ok(format!("{what}; {holder} has it open, so that nothing was written"));
    }
    if found.is_forgetful {
        return Verdict::warning(
            what,
            "it acknowledges what is not on its disk (fsync or synchronous_commit is off): a crash loses chunks that \
             clients were told are safe",
            "ALTER SYSTEM SET synchronous_commit = on; ALTER SYSTEM SET fsync = on; and restart it",
        );
    }
    if found.commit.is_some_and(|took| took > COMMIT_SLOW) {
        return Verdict::warning(
            what,
            "each acknowledged chunk waits for a commit, though many share one",
            "put the database on a local SSD; a network file system is no place for SQLite",
        );
    }
    Verdict::ok(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    #[test]
    fn what_was_found_is_judged() {
        let good = Examined {
            backend: "postgres",
            version: Some("17.2".to_owned()),
            schema: Some(3),
            known: 3,
            commit: Some(Duration::from_millis(2)),
            is_forgetful: false,
            held_by: None,
        };
        let told = judge(&good);
        assert_eq!(
            (told.status, told.what.as_str()),
            (Status::Ok, "postgres 17.2, schema 3 of 3, a commit takes 2000 µs")
        );
        let status = |changed: Examined| judge(&changed).status;
        assert_eq!(status(Examined { schema: Some(4), ..good.clone() }), Status::Failed);
        assert_eq!(status(Examined { schema: Some(2), ..good.clone() }), Status::Warning);
        assert_eq!(status(Examined { schema: None, ..good.clone() }), Status::Ok);
        assert_eq!(status(Examined { is_forgetful: true, ..good.clone() }), Status::Warning);
        assert_eq!(status(Examined { commit: Some(Duration::from_millis(51)), ..good.clone() }), Status::Warning);
        assert!(judge(&Examined { held_by: Some(7), ..good }).what.contains("process 7"));
        assert!(failed("attempt to write a readonly database").fix.contains("mount the disk"));
    }
}
