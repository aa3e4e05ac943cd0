//! chunkgate: a resumable chunked-upload HTTP gateway. Browsers send a file in
//! chunks, and one object arrives in the store.
//!
//! # The layers
//!
//! ```text
//! domain  ←  ledger | store | notify  ←  engine | access  ←  http  ←  app  ←  cli, main
//! clock units rotating serve share logging         emulator  config  bench  doctor
//! ```
//!
//! [`domain`] decides and does nothing. [`ledger`] knows what was acknowledged,
//! [`store`] has the bytes, [`notify`] tells the application; none of the three
//! knows the others. [`engine`] carries the use cases out, one per file;
//! [`access`] knows who is asking and what they may do, and neither knows the other.
//! [`http`] decodes requests, asks the engine and encodes answers. [`app`] puts
//! it all together. `tests/tidy` proves that no layer names a higher one.
//!
//! # An upload's life
//!
//! 1. [`engine::create`]: a row with a plan (how the file is cut) and a key
//!    (where the object will lie). The store knows nothing yet. A form creates
//!    its upload by itself, and its plan is learnt from the chunks.
//! 2. [`engine::put_chunk`]: the first chunk begins the store's multipart
//!    upload ([`engine::session`]); each one streams into it as one part,
//!    verified on its way ([`engine::intake`]). 200 is said when the store's
//!    proof matches and the row is committed.
//! 3. Whoever commits the last row sees, in a snapshot begun after its commit,
//!    that nothing is missing, and merges ([`engine::finish`]): under a lease,
//!    comparing what was acknowledged with what the store lists, before and
//!    after.
//! 4. State, file and event are committed together; the event is delivered
//!    until its receiver takes it ([`engine::deliver`]).
//! 5. What dies on the way is finished or cleaned up by the sweeper
//!    ([`engine::sweep`]), on any gateway.
//!
//! # To add a store
//!
//! Implement [`store::Store`] in a folder of its own beside `store::oss`, state
//! its [`store::Limits`], give it a config struct, build it in [`app`], and run
//! [`store::conformance`] on it. The engine needs no change.
//!
//! # To add a dialect
//!
//! A folder in [`http`] with `routes`, `decode` and `encode`: decode a foreign
//! request into what the engine takes ([`engine::create::CreateUpload`],
//! [`engine::put_chunk::PutChunk`]), and encode what it answers, refusals
//! included, as that client expects it. Merge its routes in [`http::public`].

// Tests that are shared with `tests/it` name us as they do there.
#[cfg(test)]
extern crate self as chunkgate;

pub mod access;
pub mod app;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod emulator;
pub mod engine;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod held;
pub mod http;
pub mod ledger;
pub mod logging;
pub mod notify;
pub mod rotating;
pub mod serve;
mod share;
pub mod store;
pub mod units;
