//! The store that is configured: opened, and asked whether it takes us.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use super::{AppError, misconfigured};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::store::file::FileStore;
use crate::store::oss::OssStore;
use crate::store::s3::S3Store;
use crate::store::{Store, StoreError, StoreKind};

/// How long the store may take to answer when we start.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Opens it, and speaks to nobody yet.
pub(super) fn open_store(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, AppError> {
    match config.store.kind {
        StoreKind::File => {
            let folder = config.file_store_dir();
            let failed = |error| AppError::Failed(format!("store.file.dir = {}: {error}", folder.display()));
            Ok(Arc::new(FileStore::open(&folder, clock).map_err(failed)?))
        }
        StoreKind::Oss => {
            let environment = Environment::of_process();
            let store = OssStore::new(&config.store, clock, &|name| environment.get(name));
            Ok(Arc::new(store.map_err(misconfigured)?))
        }
        StoreKind::S3 => {
            let environment = Environment::of_process();
            let store = S3Store::new(&config.store, clock, &|name| environment.get(name));
            Ok(Arc::new(store.map_err(misconfigured)?))
        }
    }
}

/// A store that refuses us will go on doing so: that ends the start. One that
/// is away may come back: clients get 503 until then.
pub(super) async fn check_store(config: &Config, store: &dyn Store) -> Result<(), AppError> {
    let at = |endpoint: &Option<String>| {
        format!("bucket {} at {}", store.bucket(), endpoint.as_deref().unwrap_or("its region's endpoint"))
    };
    let (place, key) = match config.store.kind {
        StoreKind::File => (config.file_store_dir().display().to_string(), "store.file.dir"),
        StoreKind::Oss => (at(&config.store.oss.endpoint), "store.oss.endpoint"),
        StoreKind::S3 => (at(&config.store.s3.endpoint), "store.s3.endpoint"),
    };
    match tokio::time::timeout(CHECK_TIMEOUT, store.check()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem @ (StoreError::Unavailable(_) | StoreError::Full))) => {
            error!(store = %place, %problem, "the store cannot be used right now; uploads get 503 until it can; check {key}");
            Ok(())
        }
        Ok(Err(problem)) => Err(AppError::Failed(format!("the store ({place}) cannot be used: {problem}"))),
        Err(_) => {
            let seconds = CHECK_TIMEOUT.as_secs();
            error!(store = %place, "the store did not answer within {seconds} s; uploads get 503 until it does; check {key}");
            Ok(())
        }
    }
}
