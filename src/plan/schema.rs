//! The JSON Schema of the plan document, generated from the types. Pure.

use std::sync::OnceLock;

use serde_json::Value;

use super::model::Plan;

/// The schema (draft 2020-12) that `schemas/plan.schema.json` holds and the loader checks against.
pub fn plan_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schemars::schema_for!(Plan).to_value())
}
