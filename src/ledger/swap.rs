//! Compare-and-sets of uploads that many ask for at the same time.

use futures_util::future::BoxFuture;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::UploadId;
use crate::ledger::Ledger;
use crate::ledger::db::{Conn, sql};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::Reader;
use crate::ledger::writer::Alike;

/// One of them.
struct Swap {
    text: &'static str,
    id: UploadId,
    row: Value,
}

impl Ledger {
    /// A compare-and-set of this upload, together with those of the same text.
    /// `$1` are the uploads' ids, `$2` their rows, `of` being the id (both, so
    /// that Postgres begins with the ids and reads no other uploads); returns
    /// the `id`s of those that were set. False when this was not.
    pub(super) async fn swap_alike(&self, text: &'static str, id: UploadId, row: Value) -> Result<bool, LedgerError> {
        self.writer()?.together(Swap { text, id, row }).await
    }
}

impl Alike for Swap {
    const IS_ONE_STATEMENT: bool = true;
    const SHARES_ON_POSTGRES: bool = false;
    const IS_TRIED_ALONE: bool = false;

    fn write<'c>(conn: &'c mut Conn, all: &'c [Self]) -> BoxFuture<'c, Result<Option<Vec<bool>>, LedgerError>> {
        Box::pin(async move {
            let Some(Self { text, .. }) = all.first() else { return Ok(Some(Vec::new())) };
            let ids: Vec<Uuid> = all.iter().map(|swap| swap.id.0).collect();
            let rows = all.iter().map(|swap| {
                let mut row = swap.row.clone();
                row["of"] = swap.id.0.simple().to_string().into();
                row
            });
            let mut swapped = Vec::new();
            for row in conn.rows(sql(text).bind(ids).bind_rows(rows)).await? {
                swapped.push(Reader::new(&row, "uploads", &["id"]).get::<Uuid>("id")?);
            }
            Ok(Some(all.iter().map(|swap| swapped.contains(&swap.id.0)).collect()))
        })
    }

    /// Of two for one upload, only one can win; which, is not said by its id.
    fn goes_with(&self, others: &[Self]) -> bool {
        others.iter().all(|other| other.text == self.text && other.id != self.id)
    }
}
