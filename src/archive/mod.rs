//! The backup container: reader, writer, manifest. A tar, compressed with zstd or gzip or not at all, that
//! GNU tar reads; what the older Python tool wrote is read too. Formats: `metadata/manifest.json` is
//! described in [`manifest`], names and what is refused in [`name`], the compressed form in [`encode`].

pub mod decode;
pub mod encode;
pub mod error;
pub mod extract;
mod header;
pub mod manifest;
pub mod name;
mod pack;
pub mod reader;
mod walk;
pub mod writer;

pub use decode::{Algorithm, Decoder, decoder};
pub use error::ArchiveError;
pub use extract::{ExtractOptions, Extracted, ExtractedEntry, Owners, extract};
pub use manifest::{Entry, EntryKind, Manifest, Scope};
pub use reader::{Limits, Member, Totals, read_manifest, scan};
pub use writer::{Extra, Payload, Written, write};

#[cfg(test)]
mod tests;
