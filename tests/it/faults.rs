//! The catalogue of faults (`tests/README.md`): real processes, real sockets,
//! and something going wrong between them. A test's name begins with the
//! number of its row.

mod chunks;
mod database;
mod disk;
mod stand;
