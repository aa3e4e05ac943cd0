//! Lists of files: the newest first, from wherever the page before ended.

use crate::domain::{File, FileId, Owner, Timestamp, UploadId};
use crate::ledger::Ledger;
use crate::ledger::db::sql;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Reader, file_columns};
use crate::ledger::value::Value;

/// Which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFilter {
    /// Of this owner; none is all.
    pub owner: Option<Owner>,
    /// Only the one of this fileId.
    pub file_id: Option<FileId>,
    /// Whose names begin so.
    pub name_prefix: Option<String>,
    /// Of this MIME type; one that ends in `/` is all that begin so.
    pub content_type: Option<String>,
    /// Completed at this time or later.
    pub since: Option<Timestamp>,
    /// Completed before this time.
    pub until: Option<Timestamp>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// With the newest.
    Newest,
    /// After this one, the last of the page before.
    After(Timestamp, UploadId),
    /// After so many: exact only while nothing is added or removed.
    Skip(u64),
}

/// Conditions on a file `f` by the filter's values, `$1` to `$7`. A list of one
/// owner has a text of its own, so that each has a plan that uses its index.
macro_rules! matching {
    ($owner:literal) => {
        concat!(
            " FROM files f WHERE ",
            $owner,
            "f.completed_at >= $2 AND f.completed_at < $3 \
             AND (CAST($4 AS TEXT) IS NULL OR substr(f.file_name, 1, length(CAST($4 AS TEXT))) = CAST($4 AS TEXT)) \
             AND (CAST($5 AS TEXT) IS NULL OR f.content_type = CAST($5 AS TEXT)) \
             AND (CAST($6 AS TEXT) IS NULL OR substr(f.content_type, 1, length(CAST($6 AS TEXT))) = CAST($6 AS TEXT)) \
             AND (CAST($7 AS TEXT) IS NULL OR f.file_id = CAST($7 AS TEXT))"
        )
    };
}

impl FileFilter {
    fn values(&self) -> Vec<Value> {
        let (exact, folder) = match self.content_type.clone() {
            Some(folder) if folder.ends_with('/') => (None, Some(folder)),
            exact => (exact, None),
        };
        vec![
            self.owner.as_ref().map(|owner| owner.as_str().to_owned()).into(),
            self.since.map_or(i64::MIN, Timestamp::millis).into(),
            self.until.map_or(i64::MAX, Timestamp::millis).into(),
            self.name_prefix.clone().into(),
            exact.into(),
            folder.into(),
            self.file_id.as_ref().map(|id| id.as_str().to_owned()).into(),
        ]
    }
}

impl Ledger {
    /// A page of files, the newest first.
    pub async fn list_files(
        &self,
        filter: &FileFilter,
        start: PageStart,
        limit: u32,
    ) -> Result<Vec<File>, LedgerError> {
        macro_rules! page {
            ($owner:literal, $rest:literal) => {
                concat!(
                    "SELECT ",
                    file_columns!(),
                    matching!($owner),
                    $rest,
                    " ORDER BY f.completed_at DESC, f.id DESC LIMIT $8"
                )
            };
        }
        let mut filter = filter.clone();
        if let PageStart::After(at, _) = start {
            // So that SQLite, too, begins to read at the cursor: of two bounds it seeks by this one.
            let next = Timestamp::from_millis(at.millis().saturating_add(1));
            filter.until = Some(filter.until.map_or(next, |until| until.min(next)));
        }
        let (of_one, mut values) = (filter.owner.is_some(), filter.values());
        values.push(limit.into());
        let text = match (start, of_one) {
            (PageStart::Newest, true) => page!("f.owner = $1 AND ", ""),
            (PageStart::Newest, false) => page!("CAST($1 AS TEXT) IS NULL AND ", ""),
            (PageStart::After(..), true) => page!("f.owner = $1 AND ", " AND (f.completed_at, f.id) < ($9, $10)"),
            (PageStart::After(..), false) => {
                page!("CAST($1 AS TEXT) IS NULL AND ", " AND (f.completed_at, f.id) < ($9, $10)")
            }
            (PageStart::Skip(_), true) => {
                concat!(page!("f.owner = $1 AND ", ""), " OFFSET $9")
            }
            (PageStart::Skip(_), false) => {
                concat!(page!("CAST($1 AS TEXT) IS NULL AND ", ""), " OFFSET $9")
            }
        };
        match start {
            PageStart::Newest => {}
            PageStart::After(at, id) => values.extend([at.millis().into(), id.0.into()]),
            PageStart::Skip(count) => values.push(i64::try_from(count).unwrap_or(i64::MAX).into()),
        }
        self.read().await?.rows(sql(text).bind_all(values)).await?.iter().map(rows::file).collect()
    }

    /// How many files there are.
    pub async fn count_files(&self, filter: &FileFilter) -> Result<u64, LedgerError> {
        macro_rules! counted {
            ($owner:literal) => {
                concat!("SELECT count(*) AS files", matching!($owner))
            };
        }
        let text = match filter.owner {
            Some(_) => counted!("f.owner = $1 AND "),
            None => counted!("CAST($1 AS TEXT) IS NULL AND "),
        };
        let row = self.read().await?.row(sql(text).bind_all(filter.values())).await?;
        row.map_or(Ok(0), |row| Reader::new(&row, "files", &[]).size("files"))
    }
}
