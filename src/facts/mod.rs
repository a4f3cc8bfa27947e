//! Facts: what a planner must know of a machine, as a document, so that a plan can be made elsewhere.
//!
//! Pure: [`model`] is the document, [`load`] the strict reader, [`schema`] its JSON Schema. The planner
//! collects facts, and makes every plan from them: on the machine itself from those about one backup
//! and one target.

pub mod load;
pub mod model;
pub mod schema;
