//! Stub until the page lands.
/// Routes.
pub fn routes() -> axum::Router { axum::Router::new() }
