//! The rules that make every plan that loads safe to run in any order its graph allows, the order
//! itself, and the default graph. Pure.
//!
//! `rule` names the rules, `structure` checks the graph (1 to 7), `content` what the document says
//! (8 and 9), `preview` what of the preview follows from the rest (10), `order` walks the graph, `default` makes one.

mod content;
mod default;
mod order;
mod preview;
mod rule;
mod structure;

pub use self::default::default_steps;
pub use self::order::{order, reaches};
pub use self::rule::{Rule, Violation, check};
