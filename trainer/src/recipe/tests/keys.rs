//! No key is accepted and ignored: setting any of them to something else than its default changes the resolved recipe.

use serde_json::Value;

use super::super::expectation::kinds;
use super::super::{Recipe, json_schema};
use super::{folder, load_in, shown};

/// Everything a key may need to be there: eval data, and no other choice made.
const BASE: &str = "
model = \"owner/other\"
output = \"runs/a\"
[[data.train]]
path = \"rows.jsonl\"
[[data.eval]]
path = \"rows.jsonl\"
";

/// A key, the `kind` its section must have, and its schema.
pub(super) struct Leaf<'a> {
    pub key: String,
    kind: Option<(String, String)>,
    schema: &'a Value,
}

fn leaves<'a>(key: &str, kind: Option<(String, String)>, schema: &'a Value, found: &mut Vec<Leaf<'a>>) {
    if let Some(kinds) = kinds(schema) {
        for (name, variant) in kinds {
            leaves(key, Some((key.to_owned(), name.to_owned())), variant, found);
        }
    } else if let Some(properties) = schema["properties"].as_object() {
        for (name, inner) in properties {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            leaves(&key, kind.clone(), inner, found);
        }
    } else if schema["items"]["type"] == "object" {
        leaves(&format!("{key}.0"), kind, &schema["items"], found);
    } else {
        found.push(Leaf { key: key.to_owned(), kind, schema });
    }
}

pub(super) fn every_leaf() -> Vec<Leaf<'static>> {
    let mut found = Vec::new();
    leaves("", None, json_schema(), &mut found);
    assert!(found.len() > 50, "only {} keys found", found.len());
    found
}

/// TOML of a JSON value.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<String> =
                object.iter().map(|(key, value)| format!("{key:?} = {}", toml_text(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// What else must be set for a key to be allowed.
fn companions(key: &str) -> &'static [&'static str] {
    match key {
        "base_dtype" => &["adapter.kind=lora"],
        "vocabulary.init" => &["vocabulary.add=[\"<image>\"]"],
        "quantization.block" | "quantization.double" => &["adapter.kind=lora"],
        "data.group_by_length" => &["data.packing=false"],
        "objective.beta" => &["objective.loss=jsd", "objective.teacher=\"owner/teacher\""],
        "objective.teacher_quantization"
        | "objective.loss"
        | "objective.temperature"
        | "objective.alpha"
        | "objective.top_k"
        | "objective.on_policy"
        | "objective.hidden_weight" => &["objective.teacher=\"owner/teacher\""],
        "objective.hidden_loss" | "objective.hidden_layers" => {
            &["objective.teacher=\"owner/teacher\"", "objective.hidden_weight=2"]
        }
        "objective.teacher" => &["objective.cache=\"cache\""],
        "objective.cache" => &["objective.teacher=\"owner/teacher\""],
        "adapter.layers_pattern" => &["adapter.layers=[0]"],
        "adapter.ensure_weight_tying" => &["adapter.modules_to_save=[\"embed_tokens\"]"],
        "optimizer.nesterov" => &["optimizer.momentum=0.9"],
        "eval.weights" | "export.weights" => &["train.ema=0.9"],
        "sample.max_new_tokens" | "sample.every" => &["sample.prompts=[\"Who?\"]"],
        _ => &[],
    }
}

/// Rows set aside are in place of eval data.
fn base_of(key: &str) -> &'static str {
    let without = BASE.split("[[data.eval]]").next().unwrap();
    if key == "data.validation_split" { without } else { BASE }
}

fn resolved(overrides: &[String]) -> String {
    resolved_from(BASE, overrides)
}

fn resolved_from(base: &str, overrides: &[String]) -> String {
    let folder = folder();
    for file in ["data/faq.jsonl", "data/faq-eval.jsonl", "runs/first/adapter/x"] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
    let loaded =
        load_in(folder.path(), base, &overrides).unwrap_or_else(|error| panic!("{overrides:?}: {}", shown(&error)));
    let place = folder.path().display().to_string();
    Recipe::to_toml(&loaded.recipe).unwrap().replace(&place, "")
}

#[test]
fn every_key_changes_the_resolved_recipe() {
    for leaf in every_leaf() {
        let key = &leaf.key;
        if key.ends_with(".kind") {
            continue;
        }
        // Keys of one name may stand in sections of several kinds.
        let needed = match &leaf.kind {
            Some((section, kind)) if section == "objective" && kind != "distill" => &[],
            Some(_) | None => companions(key),
        };
        let mut before: Vec<String> = needed.iter().map(|text| text.to_string()).collect();
        if let Some((section, kind)) = &leaf.kind {
            before.insert(0, format!("{section}.kind={kind}"));
        }
        let example = leaf.schema["examples"].as_array().and_then(|examples| examples.last());
        let example = example.unwrap_or_else(|| panic!("{key} has no example"));
        assert_ne!(Some(example), leaf.schema.get("default"), "the example of {key} is its default");
        let mut after = before.clone();
        after.push(format!("{key}={}", toml_text(example)));
        let resolved = |overrides: &[String]| resolved_from(base_of(key), overrides);
        assert_ne!(resolved(&before), resolved(&after), "{key} = {example} changes nothing");
    }
}

#[test]
fn every_kind_changes_the_resolved_recipe() {
    for section in ["adapter", "objective", "optimizer", "schedule"] {
        let kinds = kinds(&json_schema()["properties"][section]).unwrap();
        let with = |kind: &str| match kind {
            "distill" => vec!["objective.kind=distill".into(), "objective.teacher=\"owner/teacher\"".into()],
            _ => vec![format!("{section}.kind={kind}")],
        };
        let all: Vec<String> = kinds.iter().map(|(kind, _)| resolved(&with(kind))).collect();
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{} of {section} is another kind", kinds[index].0);
        }
    }
    assert_ne!(resolved(&[]), resolved(&["adapter.kind=lora".into()]));
}

#[test]
fn every_key_is_documented() {
    for leaf in every_leaf() {
        let documented = leaf.schema["description"].as_str().is_some_and(|text| text.len() > 10);
        assert!(documented || leaf.key.ends_with(".kind"), "{} has no documentation", leaf.key);
    }
}
