//! The configuration: `chunkgate.toml` (or YAML, or JSON), then the
//! environment, then flags. Each module owns its own struct; this one sums
//! them.
//!
//! A source is read into settings, each of which remembers where it was
//! written; settings are tried one by one against the structs, so that all
//! mistakes are told at once, each with its place and its remedy.

mod check;
mod environment;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod load;
mod mask;
mod merge;
mod model;
mod node;
mod print;
mod problem;
mod reference;
mod secrets;
mod setting;
mod yaml;

pub use environment::Environment;
pub use load::{Loaded, Sources, load};
pub use model::{Config, Strictness};
pub use print::to_toml;
pub use problem::{ConfigError, Problem};
pub use reference::{KEYS, Key};
pub use secrets::SecretFiles;
pub use setting::{Origin, Raw, Setting};

#[cfg(test)]
mod tests;
