//! Files that abssctl shares with the peer tool: configuration, registry, backup index, operations log.
//! Everything here keeps what it does not know, and writes the bytes that the peer would write.

pub mod asset_places;
pub mod backup_index;
pub mod config;
pub mod config_values;
pub mod freeze;
pub mod instances;
pub mod nearest;
pub mod operations_log;
pub mod pattern;
pub mod python_text;
pub mod restore_config;
pub mod restore_history;
pub mod rules;
mod seen;
pub mod size;
pub mod yaml;

#[cfg(test)]
pub(crate) mod testing;
