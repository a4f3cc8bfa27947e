//! The kinds of documents that the strict reader reads, and what its messages call them. Pure.

use jsonschema::Validator;
use serde_json::Value;

/// A kind of document.
#[derive(Debug)]
pub(crate) struct Form {
    /// What it is called; also the part of codes after `abssctl::`.
    pub(crate) name: &'static str,
    /// The same in a sentence: "a plan".
    pub(crate) one: &'static str,
    /// The texts that its field `kind` may have.
    pub(crate) kinds: &'static [&'static str],
    /// Kinds of later versions.
    pub(crate) reserved: &'static [&'static str],
    /// The largest file in bytes.
    pub(crate) max_bytes: usize,
    /// Its top-level fields in words.
    pub(crate) fields: &'static str,
    /// How to get one.
    pub(crate) make_one: &'static str,
    /// What to do about one that is not valid.
    pub(crate) help: &'static str,
    /// Its JSON Schema.
    pub(crate) schema: fn() -> &'static Value,
    /// The same, ready for use.
    pub(crate) validator: fn() -> Option<&'static Validator>,
}
