//! The strict reader of plans: from bytes to a plan that obeys every rule, or all that is wrong with
//! it at once, each with its place in the file. Pure.
//!
//! `read` is the way from bytes to plan (and to facts, which are read the same way), `form` the kinds of
//! documents, `fits` says quickly that the JSON Schema refuses nothing, `schema` in words what it refuses,
//! `problem` holds what is wrong, `codes` describes every kind of it.

mod codes;
mod fits;
mod form;
mod problem;
mod read;
mod schema;

pub use self::codes::{Code, codes};
pub(crate) use self::form::Form;
pub use self::problem::{LoadErrors, Problem};
pub use self::read::{MAX_BYTES, load, parse};
pub(crate) use self::read::{document, utf8};

#[cfg(test)]
mod tests;
