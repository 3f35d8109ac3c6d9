//! The recipe against its schema: unknown and missing keys, wrong types, unknown words, numbers out of range.
//!
//! The schema is the one `firebrand schema` prints, so an editor and the loader agree. Only the keywords that our own types
//! produce are known. What two keys mean together is in `conflicts.rs`. Everything that is wrong is found in one go.

use std::cell::{Cell, RefCell};

use serde_json::Value as Json;

use super::document::{Document, Entry, Node, Origin, Value};
use super::error::{Complaint, ComplaintKind};
use super::expectation::{alternatives, choices, describe, keys, kinds, nearest, quoted};
use super::foreign;
use super::moved::moved;

/// Checks the whole document, and writes in the `kind` of sections that leave it out. Returns all that is wrong, in the
/// order of the recipe, and whether the rest says what was meant; unknown keys are taken out of the document.
pub(super) fn validate(document: &mut Document, schema: &Json) -> (Vec<Complaint>, bool) {
    let mut root = document.root.clone();
    let walk = Walk { document, root: schema, found: RefCell::default(), whole: Cell::new(true) };
    let origin = root.origin.clone();
    if let Err(complaint) = walk.node(&mut root, &origin, schema, "") {
        walk.broken(complaint);
    }
    let (found, whole) = (walk.found.into_inner(), walk.whole.get());
    document.root = root;
    (found, whole)
}

/// Whether the value at a key path is always a string.
pub(super) fn is_text(schema: &Json, path: &[String]) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        return schema["type"] == "string";
    };
    if segment.parse::<usize>().is_ok() && schema.get("items").is_some() {
        return is_text(&schema["items"], rest);
    }
    match alternatives(schema) {
        Some(variants) => variants.iter().any(|variant| is_text(&variant["properties"][segment], rest)),
        None => is_text(&schema["properties"][segment], rest),
    }
}

struct Walk<'a> {
    document: &'a Document,
    root: &'a Json,
    found: RefCell<Vec<Complaint>>,
    /// Whether every section and value has its form, so that what is left of the recipe says what was meant.
    whole: Cell<bool>,
}

impl Walk<'_> {
    /// `place` is what to underline: the value, or the key of a section.
    fn node(&self, node: &mut Node, place: &Origin, schema: &Json, path: &str) -> Result<(), Complaint> {
        let words = choices(schema);
        if !words.is_empty() {
            return self.word(node, &words, path);
        }
        if let Some(kinds) = kinds(schema) {
            return self.tagged(node, place, &kinds, schema, path);
        }
        if let Some(variants) = alternatives(schema) {
            return match variants.iter().find(|variant| same_type(node, variant)) {
                Some(variant) => self.node(node, place, variant, path),
                None => Err(self.wrong_type(node, place, schema, path)),
            };
        }
        if !same_type(node, schema) {
            return Err(self.wrong_type(node, place, schema, path));
        }
        match &mut node.value {
            Value::Table(entries) => self.table(entries, place, schema, path),
            Value::Array(items) => self.array(items, place, schema, path),
            Value::Integer(number) => self.range(*number as f64, place, schema, path),
            Value::Float(number) => self.range(*number, place, schema, path),
            Value::String(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(()),
        }
    }

    fn word(&self, node: &Node, words: &[&str], path: &str) -> Result<(), Complaint> {
        match &node.value {
            Value::String(text) if words.contains(&text.as_str()) => Ok(()),
            Value::String(text) => {
                let known = match words {
                    [only] => format!("only \"{only}\" is supported"),
                    _ => format!("supported are {}", quoted(words)),
                };
                Err(self
                    .document
                    .at(ComplaintKind::UnknownValue, &node.origin)
                    .message(format!("unknown value \"{text}\" for `{path}`"))
                    .label("not known")
                    .advice(
                        self.word_meant(text, words, path).map_or(known.clone(), |meant| format!("{meant}\n{known}")),
                    ))
            }
            _ => Err(self
                .document
                .at(ComplaintKind::WrongType, &node.origin)
                .message(format!("`{path}` must be a string, found {}", found(node)))
                .advice(format!("write one of {}", quoted(words)))),
        }
    }

    /// What an unknown word was probably meant to be.
    fn word_meant(&self, text: &str, words: &[&str], path: &str) -> Option<String> {
        if let Some(other) = foreign::words_for(path, text) {
            return Some(other.to_owned());
        }
        match (foreign::value_here(path, text), nearest(text, words)) {
            (Some(ours), _) => Some(format!("what another trainer calls \"{text}\" is {ours} here")),
            (None, Some(near)) => Some(format!("did you mean \"{near}\"?")),
            (None, None) => None,
        }
    }

    fn tagged(
        &self,
        node: &mut Node,
        place: &Origin,
        kinds: &[(&str, &Json)],
        schema: &Json,
        path: &str,
    ) -> Result<(), Complaint> {
        let words: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
        let Value::Table(entries) = &mut node.value else {
            return Err(self.wrong_type(node, place, schema, path));
        };
        let default = kinds.iter().find(|(_, variant)| variant["properties"]["kind"].get("default").is_some());
        let position = entries.iter().position(|entry| entry.key == "kind");
        let kind = match (position, default) {
            (Some(position), _) => {
                let kind = &entries[position].node;
                self.word(kind, &words, &format!("{path}.kind"))?;
                match &kind.value {
                    Value::String(text) => text.clone(),
                    _ => String::new(),
                }
            }
            (None, Some((kind, _))) => {
                entries.insert(
                    0,
                    Entry {
                        key: "kind".into(),
                        origin: place.clone(),
                        node: Node { value: Value::String((*kind).into()), origin: place.clone() },
                    },
                );
                (*kind).to_owned()
            }
            (None, None) => {
                return Err(self
                    .document
                    .at(ComplaintKind::MissingKey, place)
                    .message(format!("[{path}] needs the key `kind`"))
                    .label("without a kind")
                    .advice(format!("add kind = {}", quoted(&words))));
            }
        };
        match kinds.iter().find(|(name, _)| *name == kind) {
            Some((_, variant)) => self.table(entries, place, variant, path),
            None => Ok(()),
        }
    }

    fn table(&self, entries: &mut Vec<Entry>, place: &Origin, schema: &Json, path: &str) -> Result<(), Complaint> {
        let known = keys(schema);
        let meant: Vec<String> = entries.iter().filter_map(|entry| self.meant(entry, &known, path)).collect();
        entries.retain_mut(|entry| {
            let path = join(path, &entry.key);
            let inner = match schema["properties"].get(&entry.key) {
                Some(inner) => inner,
                None if schema["additionalProperties"].is_object() => &schema["additionalProperties"],
                None => {
                    match entry.node.value {
                        Value::Table(_) => self.broken(self.unknown_key(entry, &known, &path)),
                        _ => self.note(self.unknown_key(entry, &known, &path)),
                    }
                    return false;
                }
            };
            let place = entry.place();
            if let Err(complaint) = self.node(&mut entry.node, &place, inner, &path) {
                self.broken(complaint);
            }
            true
        });
        for key in schema["required"].as_array().into_iter().flatten() {
            let Some(key) = key.as_str() else { continue };
            if !entries.iter().any(|entry| entry.key == key) && !meant.contains(&join(path, key)) {
                self.broken(self.missing_key(place, &schema["properties"][key], path, key));
            }
        }
        Ok(())
    }

    /// Keeps a complaint about something without which the recipe is another one, and goes on.
    fn broken(&self, complaint: Complaint) {
        self.whole.set(false);
        self.note(complaint);
    }

    /// The key that an unknown one was probably meant to be.
    fn meant(&self, entry: &Entry, known: &[&str], path: &str) -> Option<String> {
        if known.contains(&entry.key.as_str()) {
            return None;
        }
        match foreign::here(&entry.key) {
            Some(foreign::Here::Key("data.train")) => Some("data".into()),
            Some(foreign::Here::Key(key)) => Some(key.into()),
            Some(foreign::Here::Set(..) | foreign::Here::Words(_)) => None,
            None => nearest(&entry.key, known).map(|near| join(path, near)),
        }
    }

    /// Keeps a complaint and goes on.
    fn note(&self, complaint: Complaint) {
        self.found.borrow_mut().push(complaint);
    }

    fn array(&self, items: &mut [Node], place: &Origin, schema: &Json, path: &str) -> Result<(), Complaint> {
        let count = items.len() as u64;
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        if !(least..=most).contains(&count) {
            return Err(self
                .document
                .at(ComplaintKind::OutOfRange, place)
                .message(format!(
                    "`{path}` has {count} elements where it needs {}",
                    match (least, most) {
                        (least, most) if least == most => format!("{least}"),
                        (least, _) if count < least => format!("at least {least}"),
                        (_, most) => format!("at most {most}"),
                    }
                ))
                .advice(format!("`{path}` is {}", describe(schema))));
        }
        for (index, item) in items.iter_mut().enumerate() {
            let place = item.origin.clone();
            if let Err(complaint) = self.node(item, &place, &schema["items"], &join(path, &index.to_string())) {
                self.broken(complaint);
            }
        }
        Ok(())
    }

    fn range(&self, number: f64, place: &Origin, schema: &Json, path: &str) -> Result<(), Complaint> {
        let bound = |key: &str| schema[key].as_f64();
        let inside = number.is_finite()
            && bound("minimum").is_none_or(|least| number >= least)
            && bound("exclusiveMinimum").is_none_or(|above| number > above)
            && bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMaximum").is_none_or(|below| number < below);
        if inside {
            return Ok(());
        }
        Err(self
            .document
            .at(ComplaintKind::OutOfRange, place)
            .message(format!("`{path}` is out of range"))
            .label(format!("must be {}", describe(schema)))
            .advice(format!("`{path}` must be {}, found {number}", describe(schema))))
    }

    fn wrong_type(&self, node: &Node, place: &Origin, schema: &Json, path: &str) -> Complaint {
        let expected = match kinds(schema) {
            Some(_) => "a section".into(),
            None => describe(schema),
        };
        self.document
            .at(ComplaintKind::WrongType, place)
            .message(format!("`{path}` has the wrong type"))
            .label(format!("this is {}", found(node)))
            .advice(match foreign::form(path, node) {
                Some(form) => format!("`{path}` must be {expected}; write:\n{form}"),
                None => format!("`{path}` must be {expected}"),
            })
    }

    fn unknown_key(&self, entry: &Entry, known: &[&str], path: &str) -> Complaint {
        if let Some(moved) = moved(path) {
            return self
                .document
                .at(ComplaintKind::UnknownKey, &entry.origin)
                .message(format!("`{path}` is now {}", moved.now))
                .label("no longer a key here")
                .advice(format!("write it so:\n{}", moved.example));
        }
        let section = path.rsplit_once('.').map_or("the recipe", |(section, _)| section);
        let within = match section {
            "the recipe" => section.to_owned(),
            _ => format!("[{section}]"),
        };
        if let Some(instead) = foreign::instead(&entry.key, &entry.node) {
            return self
                .document
                .at(ComplaintKind::UnknownKey, &entry.origin)
                .message(format!("unknown key `{}` in {within}", entry.key))
                .label("a name of another trainer")
                .advice(instead);
        }
        let home = self.elsewhere(&entry.key);
        // A key of another section is no slip of two letters.
        let near = nearest(&entry.key, known)
            .filter(|near| home.is_none() || strsim::damerau_levenshtein(&entry.key, near) < 2);
        let help = match (near, home) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(home)) => format!("`{}` belongs into {home}", entry.key),
            (None, None) => String::new(),
        };
        let all = format!("keys of {within}: {}", known.join(", "));
        self.document
            .at(ComplaintKind::UnknownKey, &entry.origin)
            .message(format!("unknown key `{}` in {within}", entry.key))
            .label("not a key here")
            .advice(if help.is_empty() { all } else { format!("{help}\n{all}") })
    }

    fn missing_key(&self, place: &Origin, schema: &Json, path: &str, key: &str) -> Complaint {
        let within = match path {
            "" => "the recipe".to_owned(),
            _ => format!("[{path}]"),
        };
        let advice = match join(path, key).as_str() {
            "data" | "data.train" => "add what to train on:\n[[data.train]]\npath = \"data/train.jsonl\"".to_owned(),
            _ => match schema["examples"][0].as_str() {
                Some(example) => format!("add {key} = \"{example}\""),
                None => format!("add {key} = ..., {}", describe(schema)),
            },
        };
        let meaning = schema["description"].as_str().unwrap_or_default();
        let missing = match join(path, key).as_str() {
            "data" | "data.train" => "[[data.train]]".to_owned(),
            _ => format!("the key `{key}`"),
        };
        self.document.at(ComplaintKind::MissingKey, place).message(format!("{within} needs {missing}")).advice(
            match meaning {
                "" => advice,
                _ if key == "data" || key == "train" => advice,
                _ => format!("{advice}\n{meaning}"),
            },
        )
    }

    /// Where a key is known, when it is written in the wrong section: `[optimizer]` or `[optimizer] with kind = "sgd"`.
    fn elsewhere(&self, key: &str) -> Option<String> {
        if !self.root["properties"][key].is_null() {
            return Some("the top of the recipe, before the first [section]".into());
        }
        self.root["properties"].as_object()?.iter().find_map(|(name, section)| {
            if let Some(kinds) = kinds(section) {
                let with_it = kinds.iter().filter(|(_, variant)| variant["properties"].get(key).is_some());
                let kinds: Vec<String> = with_it.map(|(kind, _)| format!("\"{kind}\"")).collect();
                return (!kinds.is_empty()).then(|| format!("[{name}] with kind = {}", kinds.join(" or ")));
            }
            if section["properties"].get(key).is_some() {
                return Some(format!("[{name}]"));
            }
            // A list of sections, such as [[data.train]].
            section["properties"]
                .as_object()?
                .iter()
                .find_map(|(list, inner)| inner["items"]["properties"].get(key).map(|_| format!("[[{name}.{list}]]")))
        })
    }
}

fn same_type(node: &Node, schema: &Json) -> bool {
    match (&node.value, schema["type"].as_str()) {
        (Value::Table(_), Some("object")) | (Value::Array(_), Some("array")) => true,
        (Value::Table(_), None) => kinds(schema).is_some(),
        (Value::String(_), Some("string")) => true,
        (Value::String(_), None) => !choices(schema).is_empty(),
        (Value::Integer(_), Some("integer" | "number")) | (Value::Float(_), Some("number")) => true,
        (Value::Boolean(_), Some("boolean")) => true,
        _ => false,
    }
}

fn found(node: &Node) -> String {
    match &node.value {
        Value::Table(_) => "a table".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) => format!("the string \"{text}\""),
        Value::Integer(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("the boolean {flag}"),
        Value::Datetime(datetime) => format!("the date {datetime}"),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}
