//! `config.json` of a Hugging Face folder: [`HfConfig`] is the raw map, with typed getters whose errors name file and
//! key.
//!
//! Unknown keys are kept, because the config is written back beside the weights; an unchanged config is written back as
//! it was read. `null` counts as absent, as in transformers. Numbers that decide how much memory is needed have limits,
//! so that a hostile config is refused before anything is allocated. Which keys a family needs, and their defaults, is
//! up to the family.

mod rope;

use std::{
    fs::{self, File},
    io::Read,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::pipeline::trained_folder;
use crate::python_json::with_words_quoted;
use crate::what_is_here::{Found, Wanted};
use crate::wording::{clip, nearest, nearest_note};

pub use rope::{Rope, RopeDefaults, RopeScaling};

/// The largest width, length or count that is accepted. The largest published values are a vocabulary of 256 thousand
/// and a context of 10 million.
const LARGEST_SIZE: usize = 1 << 24;
/// The largest file in bytes. The largest published configs, with a thousand class labels each way, have a few hundred
/// KB.
const LARGEST_FILE: u64 = 4 << 20;

/// A config, or an object inside one.
#[derive(Debug, Clone)]
pub struct HfConfig {
    path: PathBuf,
    /// What messages put in front of a key: nothing, or `rope_scaling.`.
    prefix: String,
    map: Map<String, Value>,
    /// The text as read, until a key is changed.
    text: Option<String>,
}

impl HfConfig {
    /// Opens the `config.json` of a folder, that of the trained network of a pipeline, or the file itself.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let (path, text) = read(path.as_ref())?;
        HfConfig::from_json(path, text)
    }

    /// Opens a file that is only read, whose numbers may be Python's words `NaN`, `Infinity` and `-Infinity`: they are strings.
    pub fn open_with_words(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let (path, text) = read(path.as_ref())?;
        HfConfig::from_json(path, with_words_quoted(&text))
    }

    /// Parses the text of a config; `path` is for messages.
    pub fn from_json(path: impl Into<PathBuf>, text: impl Into<String>) -> Result<Self, ModelError> {
        let (path, text) = (path.into(), text.into());
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Ok(HfConfig { path, prefix: String::new(), map, text: Some(text) }),
            Ok(other) => Err(ModelError::malformed(&path, "a JSON object", kind_of(&other))),
            Err(error) => Err(ModelError::malformed(&path, "a JSON object", clip(&error.to_string()))),
        }
    }

    /// Wraps a config made in memory; `path` is for messages.
    pub fn from_map(path: impl Into<PathBuf>, map: Map<String, Value>) -> Self {
        HfConfig { path: path.into(), prefix: String::new(), map, text: None }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys and values.
    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// Changes or adds a key; the other keys keep their places.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.map.insert(key.to_owned(), value.into());
        self.text = None;
    }

    /// The text to write: as it was read if nothing was changed, else indented by two spaces.
    pub fn to_json(&self) -> String {
        match &self.text {
            Some(text) => text.clone(),
            None => format!("{:#}\n", Value::Object(self.map.clone())),
        }
    }

    /// The same config without `key`.
    pub fn without(&self, key: &str) -> HfConfig {
        let mut config = self.clone();
        if config.map.shift_remove(key).is_some() {
            config.text = None;
        }
        config
    }

    /// The object under `key`, as a config of its own.
    pub fn section(&self, key: &str) -> Result<Option<HfConfig>, ModelError> {
        let object = self.optional(key, "an object", Value::as_object)?;
        Ok(object.map(|map| HfConfig {
            path: self.path.clone(),
            prefix: format!("{}{key}.", self.prefix),
            map: map.clone(),
            text: None,
        }))
    }

    /// An integer of at least 0.
    pub fn usize(&self, key: &str) -> Result<usize, ModelError> {
        self.required(key, self.optional_usize(key)?, "an integer")
    }

    /// An integer of at least 0, if the key is present.
    pub fn optional_usize(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let integer = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        self.optional(key, "an integer, 0 or more", integer)
    }

    /// A width, length or count from 1 to 2^24.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.required(key, self.optional_size(key)?, "a size")
    }

    /// A width, length or count from 1 to 2^24, if the key is present.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.optional_size_in(key, 1..=LARGEST_SIZE)
    }

    /// A count within given limits, such as the number of layers.
    pub fn size_in(&self, key: &str, limits: RangeInclusive<usize>) -> Result<usize, ModelError> {
        self.required(key, self.optional_size_in(key, limits)?, "a size")
    }

    fn optional_size_in(&self, key: &str, limits: RangeInclusive<usize>) -> Result<Option<usize>, ModelError> {
        let size = self.optional_usize(key)?;
        match size.filter(|size| !limits.contains(size)) {
            None => Ok(size),
            Some(size) => Err(self.wrong(key, format!("{} to {}", limits.start(), limits.end()), size.to_string())),
        }
    }

    /// A number.
    pub fn f64(&self, key: &str) -> Result<f64, ModelError> {
        self.required(key, self.optional_f64(key)?, "a number")
    }

    /// A number, if the key is present. JSON has no NaN and no infinity, so it is finite.
    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.optional(key, "a number", Value::as_f64)
    }

    /// A number above 0.
    pub fn positive_f64(&self, key: &str) -> Result<f64, ModelError> {
        self.required(key, self.optional_positive_f64(key)?, "a number above 0")
    }

    /// A number above 0, if the key is present.
    pub fn optional_positive_f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.optional(key, "a number above 0", |value| value.as_f64().filter(|number| *number > 0.0))
    }

    /// A boolean, or `default` where the key is absent.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.optional(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<&str, ModelError> {
        self.required(key, self.optional_string(key)?, "a string")
    }

    /// A string, if the key is present.
    pub fn optional_string(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.optional(key, "a string", Value::as_str)
    }

    /// The one of `spellings` that the config has. Families renamed keys over time, and files keep the names of their
    /// time.
    ///
    /// # Errors
    /// Two spellings with different values.
    pub fn spelling<'a>(&self, spellings: &[&'a str]) -> Result<&'a str, ModelError> {
        let present = |key: &&&str| self.map.get(**key).is_some_and(|value| !value.is_null());
        let mut present = spellings.iter().filter(present);
        let first = present.next().or(spellings.first()).copied().unwrap_or_default();
        match present.find(|other| self.map.get(**other) != self.map.get(first)) {
            Some(other) => Err(self.wrong(other, format!("the same as `{first}`"), "another value")),
            None => Ok(first),
        }
    }

    /// Whether the key is present, even as `null`: some defaults hold only where the key is absent.
    pub fn says(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Error unless the key is absent or has this value: any other value would change the arithmetic in a way that is
    /// not implemented.
    pub fn only(&self, key: &str, supported: impl Into<Value>) -> Result<(), ModelError> {
        let supported = supported.into();
        let same = |value: &Value| match (value.as_f64(), supported.as_f64()) {
            (Some(left), Some(right)) => left == right,
            _ => *value == supported,
        };
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if same(value) => Ok(()),
            Some(value) => Err(self.wrong(key, format!("{supported}; nothing else is supported"), kind_of(value))),
        }
    }

    /// A list of strings, if the key is present.
    pub fn optional_strings(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.optional(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// A list of integers of at least 0, if the key is present.
    pub fn optional_sizes(&self, key: &str) -> Result<Option<Vec<usize>>, ModelError> {
        let integer = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        self.optional(key, "a list of integers, 0 or more", |value| value.as_array()?.iter().map(integer).collect())
    }

    /// A list of numbers, if the key is present.
    pub fn optional_f64s(&self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        self.optional(key, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// A string that must be one of `known`.
    pub fn one_of(&self, key: &str, known: &[&str]) -> Result<&str, ModelError> {
        let value = self.string(key)?;
        if known.contains(&value) {
            return Ok(value);
        }
        Err(self.wrong(key, format!("one of {}", known.join(", ")), format!("`{}`", clip(value))))
    }

    /// The error that the value of `key` is not as expected.
    pub fn wrong(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> ModelError {
        ModelError::Config {
            path: self.path.clone(),
            key: format!("{}{}", self.prefix, clip(key)),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The nearest key to one that is missing, for a message: empty, or a note in brackets.
    pub(crate) fn nearest(&self, key: &str) -> String {
        nearest_note(nearest(key, self.map.keys().map(String::as_str)).as_deref())
    }

    fn required<T>(&self, key: &str, value: Option<T>, expected: &str) -> Result<T, ModelError> {
        value.ok_or_else(|| self.wrong(key, expected, format!("nothing{}", self.nearest(key))))
    }

    fn optional<'a, T: 'a>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, expected, kind_of(value))),
        }
    }
}

/// A value for a message: short values in full, others by their type.
fn kind_of(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the string \"{}\"", clip(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The path and text of a configuration.
fn read(given: &Path) -> Result<(PathBuf, String), ModelError> {
    let mut path = given.to_owned();
    if path.is_dir() {
        path = trained_folder(&path).join("config.json");
    }
    if !path.exists() || path.extension().is_none_or(|ending| ending != "json") {
        // A dangling link is a file that cannot be opened.
        if let Some(error) = Found::error(given, Wanted::Model).filter(|_| !path.is_symlink()) {
            return Err(error);
        }
    }
    let kind = fs::metadata(&path).map_err(ModelError::io("open", &path))?;
    if !kind.is_file() || kind.len() > LARGEST_FILE {
        let expected = format!("a config file of at most {LARGEST_FILE} bytes");
        return Err(ModelError::malformed(&path, expected, format!("{} bytes", kind.len())));
    }
    let mut text = String::new();
    let file = File::open(&path).map_err(ModelError::io("open", &path))?;
    file.take(LARGEST_FILE).read_to_string(&mut text).map_err(ModelError::io("read", &path))?;
    Ok((path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HfConfig {
        HfConfig::from_json("m/config.json", text).unwrap()
    }

    #[test]
    fn getters_read_what_is_there() {
        let config = config(
            r#"{"hidden_size": 64, "eps": 1e-5, "theta": 10000, "act": "silu", "tied": true, "none": null, "v": {"w": 0}}"#,
        );
        assert_eq!(config.size("hidden_size").unwrap(), 64);
        assert_eq!(config.f64("eps").unwrap(), 1e-5);
        assert_eq!(config.positive_f64("theta").unwrap(), 10000.0);
        assert_eq!(config.one_of("act", &["gelu", "silu"]).unwrap(), "silu");
        assert!(config.bool_or("tied", false).unwrap());
        assert!(!config.bool_or("none", false).unwrap());
        assert_eq!(config.optional_size("none").unwrap(), None);
        let section = config.section("v").unwrap().unwrap();
        assert!(section.size("w").unwrap_err().to_string().contains("`v.w`: expected 1 to"));
    }

    #[test]
    fn errors_name_file_key_expected_and_found() {
        let config = config(
            r#"{"hiden_size": 64, "layers": 1e9, "vocab": 99999999999, "heads": -1, "act": "relu", "eps": 0, "big": 18446744073709551616}"#,
        );
        for (error, says) in [
            (
                config.size("hidden_size").unwrap_err(),
                "m/config.json: `hidden_size`: expected a size, found nothing (nearest: `hiden_size`)",
            ),
            (config.size("layers").unwrap_err(), "`layers`: expected an integer, 0 or more, found 1000000000.0"),
            (config.size("vocab").unwrap_err(), "`vocab`: expected 1 to 16777216, found 99999999999"),
            (config.usize("big").unwrap_err(), "`big`: expected an integer"),
            (config.usize("heads").unwrap_err(), "`heads`: expected an integer, 0 or more, found -1"),
            (config.usize("act").unwrap_err(), r#"found the string "relu""#),
            (config.one_of("act", &["silu"]).unwrap_err(), "`act`: expected one of silu, found `relu`"),
            (config.positive_f64("eps").unwrap_err(), "`eps`: expected a number above 0, found 0"),
            (config.size_in("hiden_size", 1..=32).unwrap_err(), "expected 1 to 32, found 64"),
        ] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn other_files_are_errors_without_a_panic() {
        let deep = "[".repeat(100_000);
        for text in ["", "[]", "1", "{", r#"{"a": NaN}"#, r#"{"a": 1e999}"#, &deep] {
            assert!(HfConfig::from_json("c", text).is_err(), "{}", clip(text));
        }
        assert!(
            HfConfig::open("/nonexistent/config.json").unwrap_err().to_string().contains("/nonexistent/config.json")
        );
    }

    #[test]
    fn writing_back_keeps_unknown_keys_and_the_text_if_unchanged() {
        let text = "{\"z\":1,  \"custom\": [1e-05]}";
        let mut config = config(text);
        assert_eq!(config.to_json(), text);
        config.set("tie_word_embeddings", false);
        let again = HfConfig::from_json("c", config.to_json()).unwrap();
        assert_eq!(again.map(), config.map());
        assert_eq!(again.map().keys().collect::<Vec<_>>(), ["z", "custom", "tie_word_embeddings"]);
    }
}
