//! The outside world: files, locks, processes, SQLite, the clock. Only this layer knows Linux, and
//! durability (data before names, file and directory synced) is written here once.

pub mod agent;
pub mod cancel;
pub mod clock;
pub mod copy;
pub mod digest;
mod follow;
pub mod fs;
pub mod health;
pub mod keys;
pub mod lock;
pub mod machine;
pub mod place;
pub mod pool;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod service;
pub mod sqlite;
pub mod stamp;
pub mod terminal;
