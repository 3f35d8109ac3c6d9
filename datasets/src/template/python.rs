//! Methods of Python's strings, lists and dicts that templates call and minijinja's own set lacks, or does slightly
//! otherwise. Methods that change their object are absent: the reference's sandbox refuses them as well.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Called for every method that a value does not have itself.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => string(value.as_str().unwrap_or_default(), name, args)?,
        ValueKind::Map if name == "copy" => from_args(args).map(|()| Some(value.clone()))?,
        ValueKind::Seq => list(value, name, args)?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None if name == "format" => {
            let args =
                args.iter().map(|arg| super::text::printable(state, arg.clone())).collect::<Result<Vec<_>, _>>()?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, &args)
        }
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.strip()`, as the filter `trim` does it too.
pub(super) fn trim(text: &str, characters: Option<&str>) -> String {
    text.trim_matches(stripped(characters)).to_string()
}

/// The test `iterable`: what Python's `iter` takes, and Jinja's undefined, which is an empty sequence.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// The test `sequence`: what has a length and items.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

fn string(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match name {
        "strip" => {
            let (characters,) = from_args(args)?;
            Value::from(trim(text, characters))
        }
        "lstrip" => {
            let (characters,) = from_args(args)?;
            Value::from(text.trim_start_matches(stripped(characters)))
        }
        "rstrip" => {
            let (characters,) = from_args(args)?;
            Value::from(text.trim_end_matches(stripped(characters)))
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let from_left = name == "partition";
            let cut = if from_left { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match (cut, from_left) {
                (Some((before, after)), _) => [before, separator, after],
                (None, true) => [text, "", ""],
                (None, false) => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "rsplit" => {
            let (separator, times): (Option<&str>, Option<i64>) = from_args(args)?;
            let Some(separator) = separator.filter(|separator| !separator.is_empty()) else {
                return Ok(None);
            };
            let mut parts: Vec<&str> = match times {
                Some(times) if times >= 0 => text.rsplitn(times as usize + 1, separator).collect(),
                _ => text.rsplit(separator).collect(),
            };
            parts.reverse();
            parts.into_iter().collect()
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            match text.find(wanted) {
                Some(at) => Value::from(text[..at].chars().count()),
                None => return Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn list(value: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "copy" => from_args(args).map(|()| Some(value.clone())),
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            match value.try_iter()?.position(|item| item == *wanted) {
                Some(at) => Ok(Some(Value::from(at))),
                None => Err(Error::new(ErrorKind::InvalidOperation, "value is not in list")),
            }
        }
        _ => Ok(None),
    }
}

/// Whether a character is stripped: one of those given, else what Python takes for whitespace.
fn stripped(characters: Option<&str>) -> impl Fn(char) -> bool {
    move |c| match characters {
        Some(characters) => characters.contains(c),
        None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
    }
}

/// A capital after everything that is no letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        in_word = c.is_alphabetic();
    }
    out
}
