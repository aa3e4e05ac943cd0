//! What a doctor puts into the store, and takes out again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{ObjectKey, Plan, SessionId};
use crate::store::{Begin, Store, StoreError, Target};

/// Of what is put.
const CONTENT_TYPE: &str = "application/octet-stream";
/// The names of objects of ours.
const NAMES: [&str; 5] = ["put", "multipart", "aborted", "measured", "told"];

/// Keys of our own, below the prefix that the gateway's keys have.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) store: Arc<dyn Store>,
    /// All that has this beginning is ours.
    folder: String,
    keys: Vec<ObjectKey>,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    keys: Vec<ObjectKey>,
    sessions: Vec<(ObjectKey, SessionId)>,
}

impl Scratch {
    /// None where the template's beginning makes no key.
    pub(super) fn new(store: Arc<dyn Store>, template: &str, random: u128) -> Option<Self> {
        let prefix = template.split('{').next().unwrap_or_default();
        let folder = format!("{prefix}chunkgate-doctor/{random:032x}-");
        let keys: Option<Vec<_>> = NAMES.iter().map(|name| ObjectKey::parse(&format!("{folder}{name}"))).collect();
        Some(Self { store, folder, keys: keys?, used: Mutex::default() })
    }

    /// One of the names. Whatever lies there at the end is removed.
    pub(super) fn key(&self, name: &'static str) -> ObjectKey {
        let nth = NAMES.iter().position(|known| *known == name).unwrap_or_default();
        let key = self.keys[nth].clone();
        let mut used = self.used();
        if !used.keys.contains(&key) {
            used.keys.push(key.clone());
        }
        key
    }

    /// What all keys begin with.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// The keys that were used.
    pub(super) fn keys(&self) -> Vec<ObjectKey> {
        self.used().keys.clone()
    }

    /// Begins a multipart upload, which is aborted at the end if it is still there.
    pub(super) async fn begin(&self, key: &ObjectKey, plan: Option<&Plan>) -> Result<SessionId, StoreError> {
        self.begin_as(Begin { key, content_type: Some(CONTENT_TYPE), plan, direct: false }).await
    }

    /// The same of one whose parts come from a browser.
    pub(super) async fn begin_direct(&self, key: &ObjectKey) -> Result<SessionId, StoreError> {
        self.begin_as(Begin { key, content_type: Some(CONTENT_TYPE), plan: None, direct: true }).await
    }

    async fn begin_as(&self, begin: Begin<'_>) -> Result<SessionId, StoreError> {
        let key = begin.key;
        let session = self.store.begin(begin).await?;
        self.used().sessions.push((key.clone(), session.clone()));
        Ok(session)
    }

    /// Removes all of it, also an upload whose beginning was never answered;
    /// what could not be removed.
    pub(super) async fn clean(&self) -> Vec<ObjectKey> {
        let (keys, mut sessions) = {
            let used = self.used();
            (used.keys.clone(), used.sessions.clone())
        };
        if keys.is_empty() {
            return Vec::new();
        }
        let listed = self.store.list_uploads(&self.folder).await.unwrap_or_default().into_iter();
        let listed = listed.filter_map(|upload| Some((ObjectKey::parse(&upload.key)?, upload.session)));
        sessions.extend(
            listed.filter(|(_, session)| !sessions.iter().any(|(_, known)| known == session)).collect::<Vec<_>>(),
        );
        let mut left = Vec::new();
        for (key, session) in &sessions {
            if self.store.abort(Target { key, session }).await.is_err() {
                left.push(key.clone());
            }
        }
        for key in keys {
            let is_there = || async { matches!(self.store.head(&key).await, Ok(Some(_))) };
            if self.store.delete(&key).await.is_err() && is_there().await && !left.contains(&key) {
                left.push(key);
            }
        }
        left
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
