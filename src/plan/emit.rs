//! stub
/// error
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{0}")]
pub struct EmitError(#[from] serde_json::Error);
/// yaml
pub fn to_yaml(plan: &crate::plan::model::Plan) -> Result<String, EmitError> {
    to_json(plan)
}
/// json
pub fn to_json(plan: &crate::plan::model::Plan) -> Result<String, EmitError> {
    Ok(serde_json::to_string_pretty(plan)? + "\n")
}
