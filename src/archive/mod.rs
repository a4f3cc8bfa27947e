//! The backup container: reader, writer, manifest. A tar, compressed with zstd or gzip or not at all, that
//! GNU tar reads; what the older Python tool wrote is read too.
//!
//! The formats are described where they are made: `metadata/manifest.json` in [`manifest`], which names and
//! links are refused in `name.rs`, the compressed form with its seek table in `encode.rs`. Only
//! [`fn@extract`] and [`fn@write`] change anything: staging the one, its output and scratch the other; a
//! crash in either leaves parts there that no reader takes for whole.

mod ahead;
mod attributes;
pub mod decode;
mod encode;
pub mod error;
pub mod extract;
mod frames;
pub mod hashed;
mod header;
pub mod manifest;
mod name;
mod over;
mod pack;
mod proof;
pub mod reader;
mod reuse;
mod walk;
pub mod writer;

pub use decode::{Algorithm, Decoder, Skip, decoder, leaping_decoder};
pub use error::ArchiveError;
pub use extract::{ExtractOptions, Extracted, ExtractedEntry, Owners, extract};
pub use hashed::HashingReader;
pub use manifest::{Entry, EntryKind, Manifest, Scope};
pub use name::{DATA, below_data};
pub use reader::{Body, Limits, MAX_ENTRIES, Member, Totals, require_manifest, scan};
pub use reuse::Base;
pub use writer::{Extra, Payload, Written, write};

#[cfg(test)]
mod tests;
