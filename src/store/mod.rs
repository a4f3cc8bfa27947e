//! Where archives lie. Today: a directory of this machine.

pub mod local;
