//! A recipe as a tree in which every key and value remembers where it was written: in the file, or in a `--set`.
//!
//! The `toml` crate keeps spans while parsing but loses them when values are merged, so the tree is ours. Not here: what
//! keys mean.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::error::{Complaint, ComplaintKind, RecipeError};

/// The recipe file and the overrides, parsed and merged.
#[derive(Clone, Debug)]
pub struct Document {
    sources: Vec<Source>,
    pub(super) root: Node,
}

/// A text that was parsed: the file first, then each override.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
}

/// Bytes of one of the sources.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub source: usize,
    pub span: Range<usize>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(Vec<Entry>),
    Array(Vec<Node>),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
}

/// A key with its value. The origin is the key's.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub origin: Origin,
    pub node: Node,
}

impl Document {
    /// Parses the file's text. `name` is shown in errors.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, RecipeError> {
        let mut document = Document::of_text(name, text);
        document.root.value = Value::Table(document.parse_table(0)?);
        Ok(document)
    }

    /// The file's text without its keys, to point into.
    pub(super) fn of_text(name: &str, text: &str) -> Self {
        let mut document = Document {
            sources: Vec::new(),
            root: Node { value: Value::Table(Vec::new()), origin: Origin { source: 0, span: 0..0 } },
        };
        document.add_source(name, text);
        document
    }

    /// Registers a text so that origins can point into it.
    pub(super) fn add_source(&mut self, name: &str, text: &str) -> usize {
        self.sources.push(Source { name: name.to_owned(), text: text.to_owned() });
        self.sources.len() - 1
    }

    /// Parses all of a source as a TOML document.
    pub(super) fn parse_table(&self, source: usize) -> Result<Vec<Entry>, RecipeError> {
        match DeTable::parse(&self.sources[source].text) {
            Ok(table) => self.entries(table.into_inner(), source, 0),
            Err(error) => Err(self.syntax(&error, source, 0)),
        }
    }

    /// Parses the rest of a source, from `offset`, as one TOML value.
    pub(super) fn parse_value(&self, source: usize, offset: usize) -> Result<Node, RecipeError> {
        match DeValue::parse(&self.sources[source].text[offset..]) {
            Ok(value) => self.node(value, source, offset),
            Err(error) => Err(self.syntax(&error, source, offset)),
        }
    }

    fn syntax(&self, error: &toml::de::Error, source: usize, offset: usize) -> RecipeError {
        let span = error.span().unwrap_or(0..0);
        let origin = Origin { source, span: span.start + offset..span.end + offset };
        let message = error.message().lines().next().unwrap_or_default();
        self.at(ComplaintKind::Syntax, &origin)
            .message(format!("not valid TOML: {message}"))
            .advice(match message.contains("escape") {
                true => "a backslash begins an escape in \"...\"; '...' keeps it as it is, and paths may be written with /",
                false => {
                    "strings need quotes, sections are [name], lists of sections [[name]]; https://toml.io explains the rest"
                }
            })
            .into()
    }

    /// A complaint about the bytes of `origin`.
    pub(super) fn at(&self, kind: ComplaintKind, origin: &Origin) -> Complaint {
        let source = &self.sources[origin.source];
        Complaint::new(kind, &source.name, &source.text, origin.span.clone())
    }

    /// A complaint about the value at a key path such as `data.train.0.path`, or, when nothing is written there, about the
    /// closest section around it.
    pub(super) fn at_key(&self, kind: ComplaintKind, path: &str) -> Complaint {
        let mut node = &self.root;
        let mut origin = node.origin.clone();
        for segment in path.split('.') {
            match node.get(segment) {
                Some((next, place)) => {
                    node = next;
                    origin = place;
                }
                None => break,
            }
        }
        self.at(kind, &origin)
    }

    /// The node at a key path.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(&self.root, |node, segment| node.get(segment).map(|(next, _)| next))
    }

    /// Takes a key away when it was written in the file, not in an override.
    pub(super) fn remove_from_file(&mut self, path: &str) {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut node = &mut self.root;
        for segment in section.split('.').filter(|segment| !segment.is_empty()) {
            match node.get_mut(segment) {
                Some(next) => node = next,
                None => return,
            }
        }
        if let Value::Table(entries) = &mut node.value {
            entries.retain(|entry| entry.key != key || entry.origin.source != 0);
        }
    }

    fn entries(&self, table: DeTable<'_>, source: usize, offset: usize) -> Result<Vec<Entry>, RecipeError> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let span = key.span();
            entries.push(Entry {
                origin: Origin { source, span: span.start + offset..span.end + offset },
                key: key.into_inner().into_owned(),
                node: self.node(value, source, offset)?,
            });
        }
        Ok(entries)
    }

    fn node(&self, value: Spanned<DeValue<'_>>, source: usize, offset: usize) -> Result<Node, RecipeError> {
        let span = value.span();
        let origin = Origin { source, span: span.start + offset..span.end + offset };
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Datetime(datetime) => Value::Datetime(datetime),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => {
                    return Err(self
                        .at(ComplaintKind::OutOfRange, &origin)
                        .message("this number is too large for TOML")
                        .advice(format!(
                            "the largest integer is {}; write larger numbers with a point or exponent",
                            i64::MAX
                        ))
                        .into());
                }
            },
            DeValue::Float(digits) => Value::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.node(item, source, offset)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.entries(table, source, offset)?),
        };
        Ok(Node { value, origin })
    }
}

impl Node {
    /// The child with this key, or index in an array, and where it was written.
    pub(super) fn get(&self, segment: &str) -> Option<(&Node, Origin)> {
        match &self.value {
            Value::Table(entries) => {
                entries.iter().find(|entry| entry.key == segment).map(|entry| (&entry.node, entry.place()))
            }
            Value::Array(items) => {
                let item = items.get(segment.parse::<usize>().ok()?)?;
                Some((item, item.origin.clone()))
            }
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, segment: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Table(entries) => entries.iter_mut().find(|entry| entry.key == segment).map(|entry| &mut entry.node),
            Value::Array(items) => items.get_mut(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The same without places.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Table(entries) => {
                toml::Value::Table(entries.iter().map(|entry| (entry.key.clone(), entry.node.to_toml())).collect())
            }
            Value::Array(items) => toml::Value::Array(items.iter().map(Node::to_toml).collect()),
            Value::String(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Float(number) => toml::Value::Float(*number),
            Value::Boolean(flag) => toml::Value::Boolean(*flag),
            Value::Datetime(datetime) => toml::Value::Datetime(*datetime),
        }
    }
}

impl Entry {
    /// What to underline when the entry is wrong: the value, or the key when the value is a section.
    pub(super) fn place(&self) -> Origin {
        match &self.node.value {
            Value::Table(_) => self.origin.clone(),
            Value::Array(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
                self.origin.clone()
            }
            _ => self.node.origin.clone(),
        }
    }
}
