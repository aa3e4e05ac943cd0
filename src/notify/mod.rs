//! Webhooks: envelope, signature, delivery.

pub mod config;

pub use config::{Endpoint, WebhookConfig};
