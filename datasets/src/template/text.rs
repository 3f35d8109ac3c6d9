//! `str(value)` and `repr(value)` of Python, for values that a template prints, and what `|safe` and `|escape` do to them.
//!
//! What is printed is paid for: lists may hold each other so often that their text has no end.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters};

use super::json::python_float;

/// Gives an environment the formatter of `{{ .. }}` and the filters.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.set_formatter(write);
    environment.add_filter("trim", trim);
    environment.add_filter("join", join);
    environment.add_filter("string", string);
    environment.add_filter("format", format);
    for name in ["escape", "e"] {
        environment.add_filter(name, |state: &mut State, value: &Value| match value.is_safe() {
            true => Ok(value.clone()),
            false => force_escape(state, value),
        });
    }
    environment.add_filter("forceescape", force_escape);
}

/// The text of a value, as `{{ .. }}` prints it.
pub(super) fn of<'a>(state: &State, value: &'a Value) -> Result<Cow<'a, str>, Error> {
    match value.as_str() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => Ok(Cow::Owned(shown(state, value)?.unwrap_or_else(|| value.to_string()))),
    }
}

/// Text with the characters that mean something in HTML written as markupsafe writes them.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

fn force_escape(state: &mut State, value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(escape(&of(state, value)?)))
}

fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match shown(state, value)? {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

fn string(state: &mut State, value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => of(state, value).map(Value::from),
    }
}

/// Takes anything by its text; what is undefined has none.
fn trim(state: &mut State, value: &Value, characters: Option<&str>) -> Result<Value, Error> {
    let text = super::python::trim(&of(state, value)?, characters);
    Ok(if value.is_safe() { Value::from_safe_string(text) } else { Value::from(text) })
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if attribute.is_some() || !is_list || kwargs.args().next().is_some() {
        return filters::join(state, value, joiner, attribute, kwargs);
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        items.push(printable(state, item?)?);
    }
    filters::join(state, &Value::from(items), joiner, attribute, kwargs)
}

fn format(state: &mut State<'_, '_>, text: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    for value in values.iter() {
        // Lists in the arguments are printed here once, so that one without end is found.
        shown(state, value)?;
    }
    filters::format(state, text, values)
}

/// A value that minijinja prints as Python does.
pub(super) fn printable(state: &State, value: Value) -> Result<Value, Error> {
    Ok(shown(state, &value)?.map_or(value, Value::from))
}

/// The text of a list, a dict or a float; `None`: minijinja's is that of Python.
fn shown(state: &State, value: &Value) -> Result<Option<String>, Error> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    if !is_float && !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
        return Ok(None);
    }
    let mut text = String::new();
    repr(state, value, &mut text, 0)?;
    Ok(Some(text))
}

/// Deeper values are refused: they would overflow the stack.
const DEPTH: usize = 128;

fn repr(state: &State, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value that is printed is nested too deeply"));
    }
    let before = out.len();
    match value.kind() {
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&python_float(number)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (index, item) in value.try_iter()?.checked().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(state, &item?, out, depth + 1)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                out.push_str(if index > 0 { ", " } else { "" });
                repr(state, &key, out, depth + 1)?;
                out.push_str(": ");
                repr(state, &value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        // A list of one prints its item as a list prints it.
        _ => {
            let list = Value::from(vec![value.clone()]).to_string();
            out.push_str(list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(&list));
        }
    }
    state.consume_fuel(1 + (out.len() - before) as u64 / 64)
}
