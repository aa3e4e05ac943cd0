//! Webhooks: what is said (`envelope`), how it is signed (`sign`), and how one
//! attempt is made (`deliver`). When to try again is the engine's matter.

pub mod config;
pub mod deliver;
pub mod envelope;
pub mod sign;

pub use config::{Endpoint, WebhookConfig};
pub use deliver::{Attempt, Notifier};
