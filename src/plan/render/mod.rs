//! Views of a plan for people. All text of a plan is hostile: every view passes it through
//! [`visible`]. Pure.

mod branches;
mod layout;
pub mod text;
mod visible;

pub use self::layout::bytes as human_bytes;
pub use self::visible::{is_hidden, visible};
