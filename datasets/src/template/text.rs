//! `str(value)` and `repr(value)` of Python, for values that a template prints: minijinja's are the same but for floats
//! with an exponent, which occur in the schemas of tools.

use std::fmt::Write;

use minijinja::value::{Kwargs, StringInput, ValueKind};
use minijinja::{Error, Output, State, Value, escape_formatter};

use super::json::python_float;

/// Prints a value: the formatter of `{{ .. }}`.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match shown(value) {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

/// The filter `string`.
pub(super) fn string(value: &Value) -> Value {
    match (value.as_str(), shown(value)) {
        (None, Some(text)) => Value::from(text),
        (None, None) => Value::from(value.to_string()),
        (Some(_), _) => value.clone(),
    }
}

/// The filter `trim`, which takes anything by its text; what is undefined has none.
pub(super) fn trim(value: &Value, characters: Option<&str>) -> String {
    let text = string(value);
    super::python::trim(text.as_str().unwrap_or_default(), characters)
}

/// The filter `join`.
pub(super) fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if attribute.is_some() || !is_list || kwargs.args().next().is_some() {
        return minijinja::filters::join(state, value, joiner, attribute, kwargs);
    }
    let items: Value = value.try_iter()?.map(|item| shown(&item).map_or(item, Value::from)).collect();
    minijinja::filters::join(state, &items, joiner, attribute, kwargs)
}

/// The text of a value that minijinja would print otherwise.
fn shown(value: &Value) -> Option<String> {
    if !holds_exponent(value, 0) {
        return None;
    }
    let mut text = String::new();
    repr(value, &mut text);
    Some(text)
}

/// Whether a value is or holds a float that Python writes with an exponent.
fn holds_exponent(value: &Value, depth: usize) -> bool {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).is_ok_and(|number| python_float(number).contains('e'))
        }
        ValueKind::Seq if depth < 64 => items(value).iter().any(|item| holds_exponent(item, depth + 1)),
        ValueKind::Map if depth < 64 => pairs(value).iter().any(|(_, item)| holds_exponent(item, depth + 1)),
        _ => false,
    }
}

fn items(value: &Value) -> Vec<Value> {
    value.try_iter().map(Iterator::collect).unwrap_or_default()
}

fn pairs(value: &Value) -> Vec<(Value, Value)> {
    let pair = |key: Value| value.get_item(&key).ok().map(|item| (key, item));
    items(value).into_iter().filter_map(pair).collect()
}

fn repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&python_float(number)),
            Err(_) => {
                let _ = write!(out, "{value}");
            }
        },
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in items(value).iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(item, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, (key, item)) in pairs(value).iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(key, out);
                out.push_str(": ");
                repr(item, out);
            }
            out.push('}');
        }
        // A list of one prints its item as a list prints it.
        _ => {
            let list = Value::from(vec![value.clone()]).to_string();
            out.push_str(list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(&list));
        }
    }
}
