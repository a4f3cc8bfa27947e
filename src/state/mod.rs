//! state

pub mod yaml;
