//! Webhooks and hooks: what is said (`envelope`), how it is signed (`sign`), to
//! whom (`receiver`), and how one attempt is made (`deliver`) or one question
//! asked (`hook`). When to try again is the engine's matter.

pub mod config;
pub mod deliver;
pub mod envelope;
pub mod hook;
mod receiver;
pub mod sign;

pub use config::{Endpoint, HooksConfig, WebhookConfig};
pub use deliver::{Attempt, Notifier, Subscription, attempt_as};
pub use hook::{Hook, Hooks, Reply};
