//! Python's methods of strings, lists and dicts: [`method`] has those that templates call and that minijinja lacks or
//! implements differently. Methods that change their object are absent: the reference's sandbox refuses them as well.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::strings::{lines, stripped, trim};

/// Adds tests, functions and filters that behave as in Python to an environment.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter(
        "int",
        |state: &mut State, value: &Value, other: Option<Value>, base: Option<u32>, kwargs: Kwargs| {
            let other = other.map_or_else(|| kwargs.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
            filters::int(state, &stripped_text(value), Some(other.unwrap_or(Value::from(0))), base, kwargs)
        },
    );
    environment.add_filter("float", |state: &mut State, value: &Value, other: Option<Value>, kwargs: Kwargs| {
        let other = other.map_or_else(|| kwargs.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
        filters::float(state, &stripped_text(value), Some(other.unwrap_or(Value::from(0.0))), kwargs)
    });
}

/// Jinja's `default(value, default_value='', boolean=False)`.
fn default(value: &Value, other: Option<Value>, boolean: Option<bool>, kwargs: Kwargs) -> Result<Value, Error> {
    let other = other.map_or_else(|| kwargs.get::<Option<Value>>("default_value"), |other| Ok(Some(other)))?;
    let boolean = boolean.map_or_else(|| kwargs.get::<Option<bool>>("boolean"), |boolean| Ok(Some(boolean)))?;
    kwargs.assert_all_used()?;
    let absent = value.is_undefined() || (boolean == Some(true) && !value.is_true());
    Ok(if absent { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// Text without the whitespace around it, since Python ignores that when it reads numbers; other values unchanged.
fn stripped_text(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| Value::from(trim(text, None)))
}

/// A width to pad text to must have fewer digits than this.
const WIDE: usize = 6;

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
            let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= WIDE);
            if value.as_str().is_some_and(digits) {
                return Err(Error::new(ErrorKind::InvalidOperation, "format: a width is too large"));
            }
            let args =
                args.iter().map(|arg| super::text::printable(state, arg.clone())).collect::<Result<Vec<_>, _>>()?;
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, &args)
        }
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// The test `iterable`: the values that Python's `iter` takes, and Jinja's undefined, which is an empty sequence.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// The test `sequence`: the values with a length and items.
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
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            lines(text, keep_ends.unwrap_or(false)).map(Value::from).collect()
        }
        "split" => {
            let (separator, times, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let separator = separator.map_or_else(|| kwargs.get::<Option<Value>>("sep"), |given| Ok(Some(given)))?;
            let times = times.map_or_else(|| kwargs.get::<Option<i64>>("maxsplit"), |given| Ok(Some(given)))?;
            kwargs.assert_all_used()?;
            let separator = separator.filter(|separator| !separator.is_none());
            let times = times.filter(|times| *times >= 0);
            filters::split(&Value::from(text), separator.as_ref().and_then(Value::as_str).map(Arc::from), times)?
                .try_iter()?
                .collect()
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            justified(text, name, width, fill)?
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

fn justified(text: &str, name: &str, width: usize, fill: Option<&str>) -> Result<Value, Error> {
    let wrong = |why: &'static str| Err(Error::new(ErrorKind::InvalidOperation, why));
    if width >= 10_usize.pow(WIDE as u32) {
        return wrong("the width is too large");
    }
    let fill = fill.unwrap_or(if name == "zfill" { "0" } else { " " });
    if fill.chars().count() != 1 {
        return wrong("a text is filled up with one character");
    }
    let missing = width.saturating_sub(text.chars().count());
    let (left, right) = match name {
        "ljust" => (0, missing),
        "rjust" => (missing, 0),
        // The same rounding as in CPython.
        "center" => {
            let left = missing / 2 + (missing & width & 1);
            (left, missing - left)
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            return Ok(Value::from(format!("{sign}{}{digits}", fill.repeat(missing))));
        }
    };
    Ok(Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(right))))
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

/// `str.title()`: a capital after every character that is not a letter.
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
