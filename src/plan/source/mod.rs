//! The text of a plan with the place of every key and value, read strictly: one document, no aliases,
//! no tags, no key twice. Knows nothing of what a plan means; pure.

mod json;
mod tree;
mod yaml;

pub use self::tree::{Bytes, Content, Entry, Flaw, FlawKind, Format, Node, Source, Span, pointer_part};
