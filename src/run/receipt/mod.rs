//! The receipt of a run: what was applied, by whom, approved by whom, with which end, as one JSON document
//! to be kept beside the plan. [`model`] is the document and its digests, [`mod@build`] makes it from a run's
//! directory, [`check`] holds one against a plan and a run. Changes nothing.

pub mod build;
pub mod check;
pub mod error;
pub mod model;

pub use build::build;
pub use error::ReceiptError;
pub use model::Receipt;
