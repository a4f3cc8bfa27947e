//! The strict reader of plans: from bytes to a plan that obeys every rule, or all that is wrong with
//! it at once, each with its place in the file. Pure.
//!
//! `read` is the way from bytes to plan, `schema` says in words what the JSON Schema refuses,
//! `problem` holds what is wrong, `codes` describes every kind of it.

mod codes;
mod problem;
mod read;
mod schema;

pub use self::codes::{Code, codes};
pub use self::problem::{LoadErrors, Problem};
pub use self::read::{MAX_BYTES, load, parse};

#[cfg(test)]
mod tests;
