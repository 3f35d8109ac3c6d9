//! The reference page of recipes, `docs/recipe.md`, written from the schema and so from the types' documentation.

use std::fmt::Write;

use serde_json::Value;

use super::expectation::{alternatives, choices, describe, kinds};
use super::schema::json_schema;

const HEAD: &str = "# Recipes

<!-- Generated from trainer/src/recipe/. After a change there: UPDATE_DOCS=1 cargo test -p firebrand recipe_reference -->

A recipe is a TOML file that says everything about a run: `firebrand train RECIPE`. Only `model`, `output` and one
`[[data.train]]` are required. A key that is not listed here is an error that names the nearest one and the line.

- `--set section.key=value` overrides any key: `--set train.steps=100`, `--set data.train.0.path=faq.jsonl`.
- Input paths are looked for in the current directory first, then beside the recipe. `output` is relative to the current directory. A first `~` is your home
  folder, also on the command line; environment variables are not replaced.
- All mistakes are shown at once, each with its line. Names of other trainers' keys are answered with ours.
- `firebrand init --model M --data FILE` writes a first recipe that fits data and model.
- The resolved recipe, with every default written out, is saved as `recipe.toml` in the run directory, and is itself a recipe.
- Editors with TOML support (Taplo, Even Better TOML) complete and check recipes with `firebrand schema > recipe.schema.json`.

```toml
model = \"HuggingFaceTB/SmolLM2-135M-Instruct\"
output = \"runs/support-bot\"

[adapter]
kind = \"lora\"

[[data.train]]
path = \"data/faq.jsonl\"
```
";

/// The whole page, as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let schema = json_schema();
    section(&mut page, "Top of the recipe", "", schema, "");
    if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            subsections(&mut page, name, inner);
        }
    }
    page
}

/// A section and those inside it.
fn subsections(page: &mut String, path: &str, schema: &Value) {
    if let Some(kinds) = kinds(schema) {
        let title = format!("`[{path}]`");
        heading(page, &title, &text(schema, "description"));
        for (kind, variant) in &kinds {
            let default = match variant["properties"]["kind"].get("default") {
                Some(_) => " (the default)",
                None => "",
            };
            let description = text(variant, "description");
            let _ = writeln!(page, "\n### `kind = \"{kind}\"`{default}\n\n{description}");
            table(page, variant);
        }
        for (name, inner) in kinds.iter().flat_map(|(_, variant)| variant["properties"].as_object()).flatten() {
            subsections(page, &format!("{path}.{name}"), inner);
        }
        return;
    }
    if schema["type"] == "array" && schema["items"]["type"] == "object" {
        let items = &schema["items"];
        let title = format!("`[[{path}]]`");
        section(page, &title, &text(schema, "description"), items, path);
        return;
    }
    if schema["type"] == "object" && schema["properties"].is_object() {
        let title = format!("`[{path}]`");
        section(page, &title, &text(schema, "description"), schema, path);
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            subsections(page, &format!("{path}.{name}"), inner);
        }
    }
}

fn section(page: &mut String, title: &str, description: &str, schema: &Value, path: &str) {
    if path.is_empty() || is_section_with_keys(schema) {
        heading(page, title, description);
        table(page, schema);
    }
}

fn heading(page: &mut String, title: &str, description: &str) {
    let _ = writeln!(page, "\n## {title}");
    if !description.is_empty() {
        let _ = writeln!(page, "\n{description}");
    }
}

fn table(page: &mut String, schema: &Value) {
    let rows: Vec<String> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, inner)| *key != "kind" && !is_section(inner))
        .map(|(key, inner)| row(key, inner, is_required(schema, key)))
        .collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n| key | type | default | meaning | example |\n|---|---|---|---|---|");
    for row in rows {
        let _ = writeln!(page, "{row}");
    }
}

fn row(key: &str, schema: &Value, required: bool) -> String {
    let default = match (required, schema.get("default")) {
        (true, _) => "required".to_owned(),
        (false, Some(default)) => format!("`{}`", toml_text(default)),
        (false, None) => "-".to_owned(),
    };
    let example = match schema["examples"].get(0) {
        Some(example) => format!("`{key} = {}`", toml_text(example)),
        None => String::new(),
    };
    let cell = |text: String| text.replace('|', "\\|");
    format!(
        "| `{key}` | {} | {} | {} | {} |",
        cell(describe(schema)),
        cell(default),
        cell(meaning(schema)),
        cell(example)
    )
}

/// The description, and for words with a meaning each of them.
fn meaning(schema: &Value) -> String {
    let mut meaning = text(schema, "description");
    let variants = alternatives(schema).unwrap_or_default();
    if !choices(schema).is_empty() && variants.len() > 1 {
        for variant in variants {
            if let (Some(word), Some(description)) = (variant["const"].as_str(), variant["description"].as_str()) {
                let _ = write!(meaning, "<br>`{word}`: {description}");
            }
        }
    }
    meaning
}

fn is_section(schema: &Value) -> bool {
    kinds(schema).is_some()
        || is_section_with_keys(schema)
        || (schema["type"] == "array" && schema["items"]["type"] == "object")
}

fn is_section_with_keys(schema: &Value) -> bool {
    schema["type"] == "object" && schema["properties"].is_object()
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key))
}

fn text(schema: &Value, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().to_owned()
}

/// A JSON value as one would write it in TOML.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<String> =
                object.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            match pairs.as_slice() {
                [] => "{}".into(),
                _ => format!("{{ {} }}", pairs.join(", ")),
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if text.contains('\\') => format!("'{text}'"),
        other => other.to_string(),
    }
}
