//! stub
/// error
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{0}")]
pub struct LoadErrors(String);
impl LoadErrors {
    /// json
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!([])
    }
}
/// load
pub fn load(_name: &str, bytes: &[u8]) -> Result<crate::plan::model::Plan, LoadErrors> {
    serde_json::from_slice(bytes).map_err(|e| LoadErrors(e.to_string()))
}
/// parse
pub fn parse(name: &str, bytes: &[u8]) -> Result<crate::plan::model::Plan, LoadErrors> {
    load(name, bytes)
}
