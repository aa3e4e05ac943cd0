//! The way from a gateway to its store, its database, and those who are told.
//!
//! Nothing here is special to a kind of store but `target`, which says where it
//! is and who we are to it; all else goes through the trait.

mod bucket;
mod callback;
mod cors;
mod database;
mod descriptors;
mod disk;
mod identity;
mod lifecycle;
mod permissions;
mod receivers;
mod scratch;
mod target;
mod throughput;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Environment};
use crate::doctor::course::{Course, Listener};
use crate::doctor::net;
use crate::doctor::report::{Report, Verdict};
use crate::ledger::Ledger;
use crate::store::Store;
use scratch::Scratch;

/// How long cleaning up may take.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// What is examined.
pub struct Outward {
    /// As it is in force.
    pub config: Config,
    /// What works, but is probably not meant.
    pub warnings: Vec<String>,
    /// What the configuration falls back to.
    pub environment: Environment,
    /// The store, open; or why it is not.
    pub store: Result<Arc<dyn Store>, String>,
    /// The ledger of the gateway that asks; none where no gateway runs in this process.
    pub ledger: Option<Ledger>,
    /// A page that is to upload straight to the store: `https://app.example.com`.
    pub origin: Option<String>,
    /// Time and lots.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Outward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outward").field("store", &self.store).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A configuration that cannot be used: nothing else can be looked at.
pub fn of_configuration(error: &ConfigError, clock: &dyn Clock, listener: Listener<'_>) -> Report {
    let mut course = Course::new(clock, listener);
    let verdict = Verdict::failed(
        error.to_string(),
        "no gateway starts with it",
        "correct what is named above; chunkgate --print-config shows what is in force and where it comes from",
    );
    course.tell("configuration", &[], verdict);
    course.end()
}

/// Goes the way to its end. What is put into the store is removed again,
/// whatever happens; also when `stop` ends first.
pub async fn outward(subject: &Outward, listener: Listener<'_>, stop: impl Future<Output = ()>) -> Report {
    let clock = &*subject.clock;
    let mut course = Course::new(clock, listener);
    let scratch = subject
        .store
        .as_ref()
        .ok()
        .and_then(|store| Scratch::new(store.clone(), &subject.config.upload.key_template, clock.random()));
    tokio::select! {
        () = Box::pin(go(subject, scratch.as_ref(), &mut course)) => {}
        () = stop => course.tell("interrupted", &[], Verdict::skipped("it was told to stop")),
    }
    if let Some(scratch) = &scratch {
        let left = tokio::time::timeout(CLEAN_UP, scratch.clean()).await.unwrap_or_else(|_| scratch.keys());
        if !left.is_empty() {
            course.tell("clean-up", &[], permissions::left_behind(&left));
        }
    }
    course.end()
}

async fn go(subject: &Outward, scratch: Option<&Scratch>, course: &mut Course<'_>) {
    let Outward { config, environment, clock, .. } = subject;
    course.tell("configuration", &[], configuration(subject));
    descriptors::check(course, config);
    let target = target::of(&config.store, environment);
    if let Some(target) = &target {
        net::walk(course, &target.place, &**clock, config.store.connect_timeout).await;
    }
    if target.is_none() {
        course.check("disk", &["configuration"], disk::check(&config.file_store_dir(), clock)).await;
    }
    match (&subject.store, scratch) {
        (Ok(store), Some(scratch)) => {
            bucket::check(course, target.as_ref(), &**store, &**clock).await;
            permissions::check(course, scratch).await;
            let origin = subject.origin.as_deref();
            let pages = cors::Pages { origin, allowed: &config.cors.allowed_origins };
            course.check("cors", &["permission to begin"], cors::check(scratch, pages)).await;
            course.check("lifecycle", &["bucket"], lifecycle::check(scratch, target.is_some())).await;
            let needs = ["permission to begin", "permission to put part", "permission to complete"];
            course.check("throughput", &needs, throughput::check(scratch, clock)).await;
            if let Some(target) = &target {
                callback::check(course, target, scratch).await;
            }
        }
        (Ok(_), None) => {
            course.tell("bucket", &["configuration"], Verdict::skipped("upload.key_template makes no key"))
        }
        (Err(reason), _) => course.tell("bucket", &["configuration"], disk::not_open(reason)),
    }
    receivers::check(course, config, &**clock).await;
    database::check(course, config, subject.ledger.as_ref(), clock.clone()).await;
}

fn configuration(subject: &Outward) -> Verdict {
    let config = &subject.config;
    let kind = format!("{:?}", config.store.kind).to_ascii_lowercase();
    let what = format!("store.kind = \"{kind}\", listen = {}", config.listen);
    if subject.warnings.is_empty() {
        return Verdict::ok(what);
    }
    Verdict::warning(what, subject.warnings.join("; "), "chunkgate --print-config shows where each value comes from")
}
