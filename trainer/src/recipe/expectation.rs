//! What a piece of the schema asks for, in words. Errors and the reference page speak with these.

use serde_json::Value;

/// `an integer of at least 1`, `one of "a", "b"`, `true or false` ...
pub(super) fn describe(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return match choices.as_slice() {
            [only] => format!("\"{only}\""),
            _ => format!("one of {}", quoted(&choices)),
        };
    }
    if let Some(kinds) = kinds(schema) {
        let names: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
        return format!("a table with kind = one of {}", quoted(&names));
    }
    if let Some(variants) = alternatives(schema) {
        let words: Vec<String> = variants.iter().map(describe).collect();
        return words.join(", or ");
    }
    match schema["type"].as_str() {
        Some("integer") => format!("an integer{}", range(schema)),
        Some("number") => format!("a number{}", range(schema)),
        Some("boolean") => "true or false".into(),
        Some("string") => "a string".into(),
        Some("array") => match schema["items"]["type"].as_str() {
            Some("object") => "a list of sections".into(),
            Some("string") => "a list of strings".into(),
            Some(_) => {
                let items = range(&schema["items"]);
                match schema["maxItems"].as_u64() {
                    Some(count) => format!("a list of {count} numbers{items}"),
                    None => format!("a list of numbers{items}"),
                }
            }
            None => "a list".into(),
        },
        Some("object") => match keys(schema).as_slice() {
            [] => "a table of keys and values".into(),
            [only] => format!("a table {{ {only} = ... }}"),
            _ => "a section".into(),
        },
        _ => "a value".into(),
    }
}

/// The words a string may be; empty when it is no such string.
pub(super) fn choices(schema: &Value) -> Vec<&str> {
    if let Some(word) = schema["const"].as_str() {
        return vec![word];
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).collect();
    }
    let Some(variants) = schema["oneOf"].as_array() else {
        return Vec::new();
    };
    let words: Vec<Vec<&str>> = variants.iter().map(choices).collect();
    if words.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    words.concat()
}

/// The variants of a section with a `kind`, each with its kind.
pub(super) fn kinds(schema: &Value) -> Option<Vec<(&str, &Value)>> {
    let variants = schema["oneOf"].as_array()?;
    variants.iter().map(|variant| Some((variant["properties"]["kind"]["const"].as_str()?, variant))).collect()
}

/// The forms a value may take, when there are several.
pub(super) fn alternatives(schema: &Value) -> Option<&[Value]> {
    let variants = schema.get("anyOf").or(schema.get("oneOf"))?;
    variants.as_array().map(Vec::as_slice)
}

/// The keys of a section.
pub(super) fn keys(schema: &Value) -> Vec<&str> {
    match schema["properties"].as_object() {
        Some(properties) => properties.keys().map(String::as_str).collect(),
        None => Vec::new(),
    }
}

/// `"a", "b"`.
pub(super) fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}

/// The one of `known` closest to `word`, if any is close enough to be a slip of the finger.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn range(schema: &Value) -> String {
    let bound = |key: &str| schema[key].as_f64();
    let least = bound("minimum").map(|least| format!("of at least {least}"));
    let above = bound("exclusiveMinimum").map(|above| format!("above {above}"));
    // The largest TOML integer is no limit worth telling.
    let most = bound("maximum").filter(|most| *most < i64::MAX as f64).map(|most| format!("at most {most}"));
    let below = bound("exclusiveMaximum").map(|below| format!("below {below}"));
    let bounds: Vec<String> = [least, above, most, below].into_iter().flatten().collect();
    match bounds.as_slice() {
        [] => String::new(),
        bounds => format!(" {}", bounds.join(" and ")),
    }
}
