//! stub
pub mod text;
/// visible
pub fn visible(text: &str) -> String {
    text.to_owned()
}
