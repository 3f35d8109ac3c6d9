//! How a schema is made of a type.
//!
//! Everything is inlined, so a reader of the schema never has to follow references, and `null` is taken out: TOML has none.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// The schema of a type.
pub(super) fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<T>());
    tidy(&mut schema);
    schema
}

/// Makes `kind` optional in the variant named `kind`, which is what a section without one means.
pub(super) fn default_kind(schema: &mut Schema, kind: &str) {
    let Some(variants) = schema.get_mut("oneOf").and_then(Value::as_array_mut) else {
        return;
    };
    for variant in variants {
        if variant["properties"]["kind"]["const"] == kind {
            variant["properties"]["kind"]["default"] = json!(kind);
            if let Some(required) = variant["required"].as_array_mut() {
                required.retain(|key| key != "kind");
            }
        }
    }
}

/// Removes `null` types and defaults, formats that name Rust types, and line breaks of the source in descriptions.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.retain(|key, value| !(key == "default" && value.is_null() || key == "format" && value.is_string()));
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            if let Some(Value::Array(variants)) = object.get_mut("anyOf") {
                variants.retain(|variant| variant["type"] != "null");
                if let [Value::Object(only)] = variants.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.split('\n').collect::<Vec<_>>().join(" ");
            }
            for (_, value) in object.iter_mut() {
                tidy(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
