//! `--set a.b=c`: one key of the recipe replaced from the command line.
//!
//! The value is read as TOML, and as a plain string when it is none, so `--set output=runs/second` needs no inner quotes.
//! A number stands for an element of an array: `--set data.train.0.path=faq.jsonl`, one past the end appends.

use super::document::{Document, Entry, Node, Origin, Value};
use super::error::{ComplaintKind, RecipeError};

/// Pairs of which a section may hold only one. An override of one takes the other away.
const EXCLUSIVE: [(&str, &str); 3] = [
    ("train.epochs", "train.steps"),
    ("schedule.warmup_steps", "schedule.warmup_ratio"),
    ("schedule.decay_steps", "schedule.decay_ratio"),
];

/// Applies `text`, the argument of a `--set`. `is_text` says whether the key at a path only takes strings.
pub(super) fn apply(
    document: &mut Document,
    text: &str,
    is_text: impl Fn(&[String]) -> bool,
) -> Result<(), RecipeError> {
    let source = document.add_source("--set", text);
    let whole = Origin { source, span: 0..text.len() };
    let Some(equals) = text.find('=') else {
        return Err(document
            .at(ComplaintKind::Syntax, &whole)
            .message("`--set` needs a key and a value")
            .advice("write --set key=value, for example --set train.steps=100")
            .into());
    };
    let path = key_path(document, source, &text[..equals])?;
    let node = value(document, source, equals + 1, text, is_text(&path))?;
    let key = Origin { source, span: 0..text[..equals].trim_end().len() };
    let dotted = path.join(".");
    for (one, other) in EXCLUSIVE {
        if dotted == one {
            document.remove_from_file(other);
        } else if dotted == other {
            document.remove_from_file(one);
        }
    }
    let mut root = document.root.clone();
    insert(document, &mut root, &path, &key, node)?;
    document.root = root;
    Ok(())
}

/// Splits `a."b.c".0` as TOML does.
fn key_path(document: &mut Document, source: usize, key: &str) -> Result<Vec<String>, RecipeError> {
    let wrong = |document: &Document| {
        let origin = Origin { source, span: 0..key.len() };
        RecipeError::from(
            document
                .at(ComplaintKind::Syntax, &origin)
                .message(format!("`{}` is not a key", key.trim()))
                .advice("write --set section.key=value, for example --set train.steps=100"),
        )
    };
    let Ok(probe) = Document::parse("--set", &format!("{key} = 0")) else {
        return Err(wrong(document));
    };
    let mut path = Vec::new();
    let mut node = &probe.root;
    while let Value::Table(entries) = &node.value {
        let [entry] = entries.as_slice() else {
            return Err(wrong(document));
        };
        path.push(entry.key.clone());
        node = &entry.node;
    }
    Ok(path)
}

fn value(document: &Document, source: usize, offset: usize, text: &str, is_text: bool) -> Result<Node, RecipeError> {
    let raw = text[offset..].trim();
    let start = offset + text[offset..].len() - text[offset..].trim_start().len();
    let plain =
        || Node { value: Value::String(raw.to_owned()), origin: Origin { source, span: start..start + raw.len() } };
    let meant_as_toml = raw.starts_with(['"', '\'', '[', '{']);
    if raw.is_empty() || (is_text && !meant_as_toml) {
        return Ok(plain());
    }
    match document.parse_value(source, start) {
        Ok(node) => Ok(node),
        Err(error) if meant_as_toml => Err(error),
        Err(_) => Ok(plain()),
    }
}

fn insert(document: &Document, node: &mut Node, path: &[String], key: &Origin, new: Node) -> Result<(), RecipeError> {
    let Some((segment, rest)) = path.split_first() else {
        *node = new;
        return Ok(());
    };
    let empty = |next: Option<&String>| Node {
        value: if next.is_some_and(|next| next.parse::<usize>().is_ok()) {
            Value::Array(Vec::new())
        } else {
            Value::Table(Vec::new())
        },
        origin: key.clone(),
    };
    match &mut node.value {
        Value::Table(entries) => {
            let index = match entries.iter().position(|entry| entry.key == *segment) {
                Some(index) => index,
                None => {
                    entries.push(Entry { key: segment.clone(), origin: key.clone(), node: empty(rest.first()) });
                    entries.len() - 1
                }
            };
            if rest.is_empty() {
                entries[index].origin = key.clone();
            }
            insert(document, &mut entries[index].node, rest, key, new)
        }
        Value::Array(items) => {
            let length = items.len();
            match segment.parse::<usize>() {
                Ok(index) if index <= length => {
                    if index == length {
                        items.push(empty(rest.first()));
                    }
                    insert(document, &mut items[index], rest, key, new)
                }
                _ => Err(document
                    .at(ComplaintKind::OutOfRange, key)
                    .message(format!("`{segment}` is not an element of this list of {length}"))
                    .advice(format!("elements are counted from 0; {length} appends one"))
                    .into()),
            }
        }
        _ => Err(document
            .at(ComplaintKind::WrongType, key)
            .message(format!("`{segment}` is looked for inside a plain value"))
            .advice("only sections have keys; `firebrand schema` lists every key")
            .into()),
    }
}
