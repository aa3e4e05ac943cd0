//! What is replaced while it is in use: secrets that rotate.

use std::sync::{Arc, PoisonError, RwLock};

/// A value that somebody may replace. Whoever has got it keeps what it got.
pub struct Rotating<T>(RwLock<Arc<T>>);

impl<T> Rotating<T> {
    /// With this, to begin with.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, this.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> std::fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It is mostly a secret.
        f.write_str("Rotating(********)")
    }
}
