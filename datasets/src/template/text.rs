//! Text of values: Python's `str(value)` and `repr(value)` for values that a template prints, and the filters `safe`
//! and `escape` for them.
//!
//! Printing consumes fuel: lists may contain each other so often that their text has no end.

use std::borrow::Cow;
use std::fmt::Write;

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters};

use super::json::python_float;
use super::strings;

/// Adds the formatter of `{{ .. }}` and the filters to an environment.
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
    environment.add_filter("indent", indent);
}

/// The text of a value, as `{{ .. }}` prints it.
pub(super) fn of<'a>(state: &State, value: &'a Value) -> Result<Cow<'a, str>, Error> {
    match value.as_str() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => Ok(Cow::Owned(shown(state, value)?.unwrap_or_else(|| value.to_string()))),
    }
}

/// Escapes the characters that mean something in HTML as markupsafe does.
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

/// The filter `trim` for a value of any type; an undefined value gives an empty text.
fn trim(state: &mut State, value: &Value, characters: Option<&str>) -> Result<Value, Error> {
    let text = strings::trim(&of(state, value)?, characters);
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

/// Jinja's `indent(s, width=4, first=False, blank=False)`; a newline at the end is kept.
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.map_or_else(|| kwargs.get::<Option<Value>>("width"), |width| Ok(Some(width)))?;
    let first = first.map_or_else(|| kwargs.get::<Option<bool>>("first"), |first| Ok(Some(first)))?.unwrap_or(false);
    let blank = blank.map_or_else(|| kwargs.get::<Option<bool>>("blank"), |blank| Ok(Some(blank)))?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let wrong = || Error::new(ErrorKind::InvalidOperation, "indent: the width is a text, or a number up to 1000");
    let indention = match width {
        None => " ".repeat(4),
        Some(width) => match (width.as_str(), width.as_i64()) {
            (Some(text), _) if text.len() <= 1000 => text.to_string(),
            (None, Some(width @ ..=1000)) => " ".repeat(width.max(0) as usize),
            _ => return Err(wrong()),
        },
    };
    let whole = format!("{text}\n");
    let mut out = String::new();
    for (index, line) in strings::lines(&whole, false).enumerate() {
        out.push_str(if index > 0 { "\n" } else { "" });
        let indented = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indented { &indention } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

fn format(state: &mut State<'_, '_>, text: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut printed = Vec::new();
    for value in values.0 {
        let value = value.into_value();
        // Numbers stay numbers for `%d`, and keyword arguments stay keyword arguments.
        let is_printed = matches!(value.kind(), ValueKind::Seq | ValueKind::Map) && !value.is_kwargs();
        printed.push(ValueOrKwargs::from(if is_printed { printable(state, value)? } else { value }));
    }
    filters::format(state, text, Rest(printed))
}

/// The value, replaced by its text where minijinja prints it differently from Python.
pub(super) fn printable(state: &State, value: Value) -> Result<Value, Error> {
    Ok(shown(state, &value)?.map_or(value, Value::from))
}

/// Python's text of a list, a dict or a float; `None` for other values, which minijinja prints as Python does.
fn shown(state: &State, value: &Value) -> Result<Option<String>, Error> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    if !is_float && !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
        return Ok(None);
    }
    let mut text = String::new();
    repr(state, value, &mut text, 0)?;
    Ok(Some(text))
}

/// Python's `repr(str)`: characters that are not printable are written by their number.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = c as u32;
                // Writing to a `String` does not fail.
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02x}"),
                    0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// `str.isprintable()` for one character: neither of category "other" nor a separator, except the space.
fn is_printable(c: char) -> bool {
    use GeneralCategory as Category;
    match c {
        ' '..='~' => true,
        c => !matches!(
            CodePointMapData::<Category>::new().get(c),
            Category::Unassigned
                | Category::Control
                | Category::Format
                | Category::PrivateUse
                | Category::Surrogate
                | Category::SpaceSeparator
                | Category::LineSeparator
                | Category::ParagraphSeparator
        ),
    }
}

/// The greatest depth of a value: deeper ones are refused, because they would overflow the stack.
const DEPTH: usize = 128;

fn repr(state: &State, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value that is printed is nested too deeply"));
    }
    let before = out.len();
    match value.kind() {
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            // `json.dumps` writes these differently (`NaN`, `Infinity`).
            Ok(number) if number.is_nan() => out.push_str("nan"),
            Ok(number) if number.is_infinite() => out.push_str(if number > 0.0 { "inf" } else { "-inf" }),
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
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Undefined => out.push_str("Undefined"),
        // minijinja prints an item of a list in its `repr` form, so the brackets of a list of one are removed.
        _ => {
            let list = Value::from(vec![value.clone()]).to_string();
            out.push_str(list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(&list));
        }
    }
    state.consume_fuel(1 + (out.len() - before) as u64 / 64)
}
