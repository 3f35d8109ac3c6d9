//! `[data]` is the datasets crate's own type; here it gets the limits and examples that the schema and the reference show.

use schemars::Schema;
use serde_json::{Value, json};

/// Where in the schema of `[data]`, and what is added there.
fn additions() -> Vec<(&'static str, Value)> {
    let share = |example: f64| json!({ "minimum": 0, "maximum": 1, "examples": [example] });
    vec![
        ("/properties/max_length", json!({ "minimum": 2, "examples": [2048] })),
        ("/properties/packing", json!({ "examples": [false] })),
        ("/properties/document_attention", json!({ "examples": ["joined"] })),
        ("/properties/train_on", json!({ "examples": ["last"] })),
        ("/properties/template", json!({ "examples": ["chatml"] })),
        ("/properties/truncation", json!({ "examples": ["drop"] })),
        ("/properties/shuffle", json!({ "examples": [false] })),
        ("/properties/group_by_length", json!({ "examples": [true] })),
        ("/properties/validation_split", json!({ "exclusiveMinimum": 0, "exclusiveMaximum": 1, "examples": [0.05] })),
        ("/properties/cache", json!({ "examples": ["off"] })),
        ("/properties/system", json!({ "examples": ["Answer in one sentence."] })),
        ("/properties/date", json!({ "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "examples": ["2025-01-31"] })),
        ("/properties/broken", json!({ "examples": ["skip"] })),
        ("/properties/empty", json!({ "examples": ["skip"] })),
        ("/properties/allow_outside", json!({ "examples": [true] })),
        ("/properties/max_pixels", json!({ "examples": [16_777_216] })),
        ("/properties/resolution", json!({ "examples": [512] })),
        ("/properties/gate/properties/allow_truncated", share(0.1)),
        ("/properties/gate/properties/allow_empty", share(0.01)),
        ("/properties/gate/properties/allow_unended", share(0.01)),
        ("/properties/gate/properties/allow_media", share(1.0)),
        ("/properties/gate/properties/allow_unlabelled", share(0.0)),
        ("/properties/gate/properties/few_labels", json!({ "examples": [8] })),
        ("/properties/gate/properties/allow_few_labels", share(0.1)),
        ("/properties/gate/properties/allow_duplicates", share(0.0)),
        ("/properties/gate/properties/allow_leaked", share(0.0)),
        ("/properties/gate/properties/allow_control", share(0.0)),
        ("/properties/gate/properties/allow_lossy", share(0.01)),
        ("/properties/gate/properties/allow_odd_order", share(0.1)),
        ("/properties/gate/properties/allow_equal_pairs", share(0.0)),
        ("/properties/gate/properties/allow_broken", share(0.01)),
        ("/properties/train/items/properties/path", json!({ "examples": ["data/faq.jsonl"] })),
        ("/properties/train/items/properties/format", json!({ "examples": ["messages"] })),
        ("/properties/train/items/properties/where", json!({ "examples": ["lang = 'en' AND score >= 4"] })),
        (
            "/properties/train/items/properties/sql",
            json!({ "examples": ["SELECT q AS prompt, a AS completion FROM self"] }),
        ),
        (
            "/properties/train/items/properties/columns",
            json!({ "examples": [{ "prompt": "question", "completion": "answer" }] }),
        ),
        ("/properties/train/items/properties/text_rows", json!({ "examples": ["line"] })),
        ("/properties/train/items/properties/encoding", json!({ "examples": ["windows-1252"] })),
        ("/properties/train/items/properties/delimiter", json!({ "examples": [";"] })),
        ("/properties/train/items/properties/weight", json!({ "minimum": 0, "examples": [0.5] })),
        ("/properties/train/items/properties/rows", json!({ "minimum": 1, "examples": [1000] })),
        ("/properties/train/items/properties/epochs", json!({ "exclusiveMinimum": 0, "examples": [2.0] })),
        ("/properties/eval/items/properties/path", json!({ "examples": ["data/faq-eval.jsonl"] })),
        ("/properties/eval/items/properties/format", json!({ "examples": ["messages"] })),
        ("/properties/eval/items/properties/where", json!({ "examples": ["lang = 'en' AND score >= 4"] })),
        (
            "/properties/eval/items/properties/sql",
            json!({ "examples": ["SELECT q AS prompt, a AS completion FROM self"] }),
        ),
        (
            "/properties/eval/items/properties/columns",
            json!({ "examples": [{ "prompt": "question", "completion": "answer" }] }),
        ),
        ("/properties/eval/items/properties/text_rows", json!({ "examples": ["line"] })),
        ("/properties/eval/items/properties/encoding", json!({ "examples": ["windows-1252"] })),
        ("/properties/eval/items/properties/delimiter", json!({ "examples": [";"] })),
        ("/properties/eval/items/properties/weight", json!({ "minimum": 0, "examples": [0.5] })),
        ("/properties/train", json!({ "minItems": 1 })),
    ]
}

/// Adds limits and examples, and makes `train` a required key.
pub(super) fn constrain(schema: &mut Schema) {
    let mut value = Value::from(schema.clone());
    for (pointer, addition) in additions() {
        if let (Some(Value::Object(place)), Value::Object(addition)) = (value.pointer_mut(pointer), addition) {
            place.extend(addition);
        }
    }
    // Evaluation visits every row once.
    if let Some(Value::Object(source)) = value.pointer_mut("/properties/eval/items/properties") {
        source.retain(|key, _| key != "rows" && key != "epochs");
    }
    if let Some(Value::Object(train)) = value.pointer_mut("/properties/train") {
        train.remove("default");
    }
    value["required"] = json!(["train"]);
    if let Ok(constrained) = Schema::try_from(value) {
        *schema = constrained;
    }
}

#[cfg(test)]
mod tests {
    use firebrand_datasets::DataConfig;
    use serde_json::Value;

    use super::super::inlined::inlined;

    #[test]
    fn every_addition_finds_its_key() {
        let schema = inlined::<DataConfig>();
        for (pointer, _) in super::additions() {
            assert!(Value::pointer(&schema, pointer).is_some(), "{pointer} is not in the schema of [data]");
        }
    }
}
