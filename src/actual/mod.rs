//! What this program knows of Actual Budget's sync server: where its data lies, what its tables mean,
//! what belongs together. Facts and their sources are in `docs/formats.md`.

pub mod account;
pub mod blob;
pub mod clients;
pub mod layout;
pub mod log;
pub mod logins;
pub mod messages;
pub mod migrations;
pub mod single;
pub mod whole;
