//! Set-ups that are broken, each in one way: `chunkgate doctor` names that one
//! as the first cause, and `docs/doctor.md` shows what it says.

mod callback;
mod credentials;
mod front;
mod inward;
pub(crate) mod nginx;
mod outward;
mod patient;
mod running;
mod s3;
