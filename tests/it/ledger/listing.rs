//! Lists of very many files.

use std::collections::HashMap;
use std::time::Duration;

use chunkgate::clock::{Clock as _, SystemClock};
use chunkgate::domain::{File, FileId, Owner};
use chunkgate::ledger::{Allowance, FileFilter, PageStart};

use super::{Gate, on_both, plan};

on_both!(each_of_a_hundred_thousand_is_seen_exactly_once);

const FILES: u64 = 100_000;
const PAGE: u32 = 1000;
/// The page that is asked for by number and by cursor, of so many files.
const FAR: (u64, u32) = (5000, 20);

impl Gate {
    /// So many files, ten in each millisecond.
    async fn filled(self) -> Self {
        let sqlite = self.url.starts_with("sqlite:");
        let gate = self.closed().await;
        let id = if sqlite {
            "unhex(printf('%016x', n) || '8000000000000000')"
        } else {
            "CAST(lpad(to_hex(n), 16, '0') || '8000000000000000' AS UUID)"
        };
        let numbers = if sqlite {
            format!(
                "(WITH RECURSIVE ns(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM ns WHERE n < {FILES}) SELECT n FROM ns)"
            )
        } else {
            format!("(SELECT n FROM generate_series(1, {FILES}) AS n)")
        };
        let at = "1700000000000 + n / 10";
        let uploads = format!(
            "INSERT INTO uploads (id, owner, file_id, is_current, file_name, metadata, total_chunks, auto_complete, \
             object_key, state, etag, crc64, completed_at, created_at, updated_at, expires_at, ended_at) \
             SELECT {id}, 'local', 'f' || CAST(n AS TEXT), TRUE, 'a', '{{}}', 1, TRUE, 'k/' || CAST(n AS TEXT), \
             'completed', 'e', 1, {at}, {at}, {at}, {at}, {at} FROM {numbers} AS m"
        );
        let files = format!(
            "INSERT INTO files (id, owner, file_id, file_name, metadata, object_key, etag, bytes, crc64, completed_at, \
             verified) SELECT {id}, 'local', 'f' || CAST(n AS TEXT), 'a', '{{}}', 'k/' || CAST(n AS TEXT), 'e', 1, 1, {at}, \
             FALSE FROM {numbers} AS m"
        );
        let analyze = if sqlite { "" } else { "ANALYZE" };
        gate.run(format!("{uploads}; {files}; {analyze}")).await;
        gate.restart().await
    }

    async fn closed(self) -> Self {
        self.ledger.close().await;
        self
    }

    /// One more file, the newest.
    async fn add(&self, name: &str) {
        self.clock.advance(Duration::from_millis(1));
        let wish = self.wish(name, plan(1));
        self.ledger.intend_object(wish.id, &wish.key, wish.at).await.unwrap();
        let allowance = Allowance::of_uploads(1000);
        let mut file = self.file(&self.upload(&format!("for-{name}"), 1).await);
        (file.id, file.file_id, file.key) = (wish.id, wish.file_id.clone(), wish.key.clone());
        self.ledger.create_file(&wish, &file, allowance, &[]).await.unwrap();
    }

    async fn remove(&self, nth: u64) {
        let file_id = FileId::parse(&format!("f{nth}")).unwrap();
        let file = self.ledger.find_file(&Owner::local(), &file_id).await.unwrap().unwrap();
        assert!(self.ledger.delete_file(&file).await.unwrap());
    }

    async fn page(&self, start: PageStart, limit: u32) -> Vec<File> {
        let filter = FileFilter { owner: Some(Owner::local()), ..FileFilter::default() };
        self.ledger.list_files(&filter, start, limit).await.unwrap()
    }
}

/// One in twenty-five goes while the list is read, before or behind the reader.
const fn goes(nth: u64) -> bool {
    nth.is_multiple_of(25)
}

async fn each_of_a_hundred_thousand_is_seen_exactly_once(gate: Gate) {
    let gate = gate.filled().await;
    side_by_side(&gate).await;
    let (mut seen, mut start, mut pages) = (HashMap::<String, u32>::new(), PageStart::Newest, 0u64);
    // Removed in an order of their own, so that the reader comes by before and after.
    let mut going =
        (1..=FILES).filter(|nth| goes(*nth)).map(|nth| (nth * 7919) % (FILES + 1)).filter(|nth| goes(*nth) && *nth > 0);
    loop {
        let page = gate.page(start, PAGE).await;
        let Some(last) = page.last() else { break };
        start = PageStart::After(last.object.completed_at, last.id);
        for file in page {
            *seen.entry(file.file_id.as_str().to_owned()).or_default() += 1;
        }
        for nth in going.by_ref().take(10) {
            gate.remove(nth).await;
        }
        gate.add(&format!("new{pages}")).await;
        pages += 1;
    }
    assert!(pages >= FILES / u64::from(PAGE), "{pages}");
    let wrong: Vec<u64> =
        (1..=FILES).filter(|nth| !goes(*nth) && seen.get(&format!("f{nth}")) != Some(&1)).take(10).collect();
    assert!(wrong.is_empty(), "not once: {wrong:?}");
    assert!(seen.values().all(|times| *times == 1));
    assert!(!seen.contains_key("new0"), "what came at the front is on no later page");
}

/// A page by its number reads all that is before it; by its cursor, nothing.
async fn side_by_side(gate: &Gate) {
    let (clock, (nth, limit)) = (SystemClock::new(), FAR);
    let skipped = (nth - 1) * u64::from(limit);
    let before = gate.page(PageStart::Skip(skipped - 1), 1).await.remove(0);
    let starts =
        [("number", PageStart::Skip(skipped)), ("cursor", PageStart::After(before.object.completed_at, before.id))];
    let mut pages = Vec::new();
    for (by, start) in starts {
        let mut times = Vec::new();
        for _ in 0..20 {
            let began = clock.monotonic();
            pages.push(gate.page(start, limit).await);
            times.push(clock.monotonic() - began);
        }
        times.sort();
        println!("{}: page {nth} of {limit} by {by}: {:?}", gate.ledger.backend(), times[times.len() / 2]);
    }
    assert!(pages.iter().all(|page| page.len() == limit as usize && page == &pages[0]));
}
