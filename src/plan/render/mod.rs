//! Views of a plan for people. All text of a plan is hostile: every view passes it through
//! [`visible()`]. Pure.

mod accounts;
mod base64;
mod branches;
pub mod diff;
pub mod dot;
pub mod html;
mod layout;
pub mod markdown;
mod markup;
pub mod mermaid;
mod picture;
mod svg;
pub mod text;
mod visible;
mod words;

pub use self::layout::bytes as human_bytes;
pub use self::visible::{is_hidden, visible, visible_json};
