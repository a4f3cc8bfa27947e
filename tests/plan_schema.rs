//! The published JSON Schemas (of plans and of facts) are those that the loaders use, are schemas, and take
//! what we write.

use abssctl::facts::schema::{facts_schema, facts_schema_text};
use abssctl::plan::schema::{plan_schema, plan_schema_text};
use abssctl::plan::testing::{sample, sample_dest, sample_with_service};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/plan.schema.json");
const FACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/facts.schema.json");

#[test]
fn the_published_schema_is_the_one_in_use() {
    let published = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        published == plan_schema_text().unwrap(),
        "schemas/plan.schema.json is not what the types say.\n\
         If the change is meant: cargo run -- schema plan > schemas/plan.schema.json\n\
         A plan that was valid before and is not now needs a new apiVersion."
    );
}

#[test]
fn the_published_schema_of_receipts_is_what_the_types_say() {
    let published = include_str!("../schemas/receipt.schema.json");
    let schema = abssctl::run::receipt::model::schema();
    assert!(
        published == serde_json::to_string_pretty(&schema).unwrap() + "\n",
        "schemas/receipt.schema.json is not what the types say.\n\
         If the change is meant: cargo run -- schema receipt > schemas/receipt.schema.json"
    );
    assert!(jsonschema::meta::is_valid(&schema));
}

#[test]
fn the_published_schema_of_facts_is_the_one_in_use() {
    let published = std::fs::read_to_string(FACTS).unwrap_or_default();
    assert!(
        published == facts_schema_text().unwrap(),
        "schemas/facts.schema.json is not what the types say.\n\
         If the change is meant: cargo run -- schema facts > schemas/facts.schema.json"
    );
}

#[test]
fn they_are_schemas() {
    for schema in [plan_schema(), facts_schema()] {
        let errors: Vec<String> =
            jsonschema::meta::validate(schema).err().into_iter().map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(jsonschema::validator_for(schema).is_ok());
    }
}

#[test]
fn it_takes_the_samples_and_not_everything() {
    let validator = jsonschema::validator_for(plan_schema()).unwrap();
    for plan in [sample(), sample_with_service(), sample_dest()] {
        let mut value = serde_json::to_value(&plan).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
        value["spec"]["shell"] = serde_json::json!("rm -rf /");
        assert!(!validator.is_valid(&value));
    }
}
