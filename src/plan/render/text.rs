//! stub
/// options
#[derive(Debug)]
pub struct TextOptions {
    /// w
    pub width: usize,
    /// c
    pub color: bool,
    /// n
    pub now: Option<jiff::Timestamp>,
    /// s
    pub stale: Option<String>,
}
/// text
pub fn text(plan: &crate::plan::model::Plan, _o: &TextOptions) -> String {
    format!("{plan:#?}\n")
}
