//! A recipe that is YAML or JSON, as other trainers have it: it is recognised, and its keys are said by their names here.
//!
//! Only lines `key: value` at the left and lists below them are looked at. What comes out is advice and is never run.

use serde_json::Value as Json;

use super::document::{Document, Node, Origin, Value};
use super::error::{Complaint, ComplaintKind};
use super::expectation::kinds;
use super::foreign::{self, Here};

/// A complaint that the text is no TOML but YAML or JSON, with its keys in TOML.
pub(super) fn complaint(document: &Document, name: &str, text: &str, schema: &Json) -> Option<Complaint> {
    let (language, keys) = match json_keys(text) {
        Some(keys) => ("JSON", keys),
        None if is_yaml(name, text) => ("YAML", yaml_keys(text)),
        None => return None,
    };
    let advice = match in_toml(&keys, schema) {
        lines if lines.is_empty() => "docs/recipe.md shows every key of a recipe".to_owned(),
        lines => format!("its keys by their names here, as far as they are known:\n\n{lines}"),
    };
    let first = text.find(|letter: char| !letter.is_whitespace()).unwrap_or(0);
    let line = text[first..].lines().next().map_or(0, str::len);
    Some(
        document
            .at(ComplaintKind::Syntax, &Origin { source: 0, span: first..first + line })
            .message(format!("this is {language}, and a recipe is written in TOML"))
            .label(language)
            .advice(advice),
    )
}

fn json_keys(text: &str) -> Option<Vec<(String, Node)>> {
    let Ok(Json::Object(object)) = serde_json::from_str(text) else { return None };
    Some(object.into_iter().filter_map(|(key, value)| Some((key, of_json(value)?))).collect())
}

fn of_json(value: Json) -> Option<Node> {
    Some(node(match value {
        Json::Null => return None,
        Json::Bool(flag) => Value::Boolean(flag),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().filter_map(of_json).collect()),
        Json::Object(_) => Value::Table(vec![]),
    }))
}

fn node(value: Value) -> Node {
    Node { value, origin: Origin { source: 0, span: 0..0 } }
}

/// Lines at the left that are no comments.
fn outer(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.chars().next().is_some_and(|first| !first.is_whitespace() && first != '#' && first != '-'))
}

/// By the ending of the name, or by what most of its lines look like.
fn is_yaml(name: &str, text: &str) -> bool {
    let named = [".yaml", ".yml"].iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    let pairs = outer(text).filter(|line| pair(line).is_some()).count();
    pairs > 0 && (named || pairs * 2 > outer(text).count())
}

/// `key: value`.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let is_key = !key.is_empty() && key.chars().all(plain);
    (is_key && (value.is_empty() || value.starts_with([' ', '\t']))).then(|| (key, value.trim()))
}

fn yaml_keys(text: &str) -> Vec<(String, Node)> {
    let mut keys: Vec<(String, Node)> = vec![];
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t', '-']);
        match (indented, pair(line)) {
            (false, Some((key, value))) => {
                keys.push((key.to_owned(), scalar(value).unwrap_or(node(Value::Table(vec![])))))
            }
            (true, _) => {
                if let (Some((_, list)), Some(item)) = (keys.last_mut(), line.trim().strip_prefix("- ")) {
                    append(list, item);
                }
            }
            (false, None) => {}
        }
    }
    // A list of one file is that file.
    for (_, value) in &mut keys {
        if let Value::Array(items) = &value.value
            && let [only] = items.as_slice()
        {
            *value = only.clone();
        }
    }
    keys
}

/// Adds an item of a list: a word, or the path in `- path: x`.
fn append(list: &mut Node, item: &str) {
    let item = match pair(item) {
        Some(("path" | "name" | "file", value)) => scalar(value),
        Some(_) => None,
        None => scalar(item),
    };
    let Some(item) = item else { return };
    match &mut list.value {
        Value::Array(items) => items.push(item),
        Value::Table(_) => list.value = Value::Array(vec![item]),
        _ => {}
    }
}

/// A plain value; `None` for none at all.
fn scalar(text: &str) -> Option<Node> {
    let quoted =
        |quote| text.strip_prefix(quote).and_then(|rest: &str| rest.split_once(quote)).map(|(inside, _)| inside);
    if let Some(inside) = quoted('"').or_else(|| quoted('\'')) {
        return Some(node(Value::String(inside.to_owned())));
    }
    let plain = text.split(" #").next().unwrap_or_default().trim();
    Some(node(match plain {
        "" | "null" | "~" => return None,
        "true" | "True" | "yes" => Value::Boolean(true),
        "false" | "False" | "no" => Value::Boolean(false),
        _ => match (plain.parse::<i64>(), plain.parse::<f64>()) {
            (Ok(number), _) => Value::Integer(number),
            (_, Ok(number)) if number.is_finite() => Value::Float(number),
            _ => match plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(items) => Value::Array(items.split(',').filter_map(|item| scalar(item.trim())).collect()),
                None => Value::String(plain.to_owned()),
            },
        },
    }))
}

fn in_toml(keys: &[(String, Node)], schema: &Json) -> String {
    let mut lines: Vec<(String, String)> = batch(keys).into_iter().collect();
    let (mut remarks, mut without) = (vec![], vec![]);
    for (key, value) in keys {
        let known = match (foreign::here(key), own(key, schema)) {
            (Some(Here::Key(path)), _) => foreign::translated(path, value),
            (Some(Here::Set(_, _)), _) if matches!(value.value, Value::Boolean(false)) => continue,
            (Some(Here::Set(path, text)), _) => vec![(path.to_owned(), text.to_owned())],
            (Some(Here::Words(words)), _) => {
                remarks.push(format!("# {key}: {words}"));
                continue;
            }
            (None, Some(path)) => foreign::translated(&path, value),
            (None, None) => {
                without.push(key.as_str());
                continue;
            }
        };
        for line in known {
            if lines.iter().all(|(path, _)| *path != line.0) {
                lines.push(line);
            }
        }
    }
    let section = |path: &str| path.split_once('.').is_some_and(|(section, _)| section == "adapter");
    let adapted = lines.iter().any(|(path, _)| section(path));
    if adapted && lines.iter().all(|(path, _)| path != "adapter.kind") {
        lines.push(("adapter.kind".into(), "\"lora\"".into()));
    }
    let mut text = foreign::lines(&lines);
    for remark in remarks {
        text += &format!("\n{remark}");
    }
    if !without.is_empty() {
        text += &format!("\n# not known: {}", without.join(", "));
    }
    text.trim_start().to_owned()
}

/// The rows of a step, of rows on a device and accumulation.
fn batch(keys: &[(String, Node)]) -> Option<(String, String)> {
    let number = |names: &[&str]| {
        keys.iter().find(|(key, _)| names.contains(&key.as_str())).and_then(|(_, node)| match node.value {
            Value::Integer(number) => Some(number),
            _ => None,
        })
    };
    let rows = number(&["per_device_train_batch_size", "micro_batch_size"])?;
    let times = number(&["gradient_accumulation_steps"])?;
    Some(("train.batch_size".into(), rows.checked_mul(times)?.to_string()))
}

/// The path of one of our own keys, by its last name.
fn own(key: &str, schema: &Json) -> Option<String> {
    let properties = schema["properties"].as_object()?;
    let section = |name: &String, section: &Json| match kinds(section) {
        Some(kinds) => {
            kinds.iter().any(|(_, kind)| kind["properties"].get(key).is_some()).then(|| format!("{name}.{key}"))
        }
        None => section["properties"].get(key).map(|_| format!("{name}.{key}")),
    };
    match properties.get(key) {
        Some(schema) if kinds(schema).is_some() => Some(format!("{key}.kind")),
        Some(schema) if schema["properties"].is_object() => None,
        Some(_) => Some(key.to_owned()),
        None => properties.iter().find_map(|(name, inner)| section(name, inner)),
    }
}
