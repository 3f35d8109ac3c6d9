//! The filter [`tojson`]: Python's `json.dumps` with its defaults, its spacing and its floats. Unlike Jinja's own
//! filter it escapes nothing for HTML.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// The filter `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(state: &mut State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    if args.len() > names.len() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let arg = |index: usize| -> Result<Option<Value>, Error> {
        let value = match args.get(index) {
            Some(value) => Some(value.clone()),
            None => kwargs.get(names[index])?,
        };
        Ok(value.filter(|value: &Value| !value.is_none()))
    };
    let indent = match arg(1)? {
        None => None,
        Some(value) => Some(match (value.as_str(), value.as_i64()) {
            (Some(text), _) => text.to_string(),
            (None, Some(width)) => " ".repeat(width.clamp(0, 64) as usize),
            (None, None) => return Err(wrong("indent must be a number or a string")),
        }),
    };
    let (item, key) = match arg(2)? {
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
        Some(pair) => {
            let part = |index: usize| {
                pair.get_item_by_index(index)
                    .ok()
                    .and_then(|part| part.as_str().map(str::to_string))
                    .ok_or_else(|| wrong("separators must be two strings"))
            };
            (part(0)?, part(1)?)
        }
    };
    let mut writer = Writer {
        state,
        out: String::new(),
        ascii: arg(0)?.is_some_and(|value| value.is_true()),
        sort_keys: arg(3)?.is_some_and(|value| value.is_true()),
        indent,
        item,
        key,
    };
    kwargs.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.out)
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"))
}

/// The greatest depth of a value: deeper ones are refused, because they would overflow the stack.
const DEPTH: usize = 128;

struct Writer<'a, 'template, 'env> {
    /// Gives the fuel for what is written.
    state: &'a State<'template, 'env>,
    out: String,
    ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(wrong("the value is nested too deeply"));
        }
        let before = self.out.len();
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            _ if super::generator::is(value) => return Err(wrong_kind(value.kind())),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.group('[', ']', items.len(), depth, |writer, index| writer.value(&items[index], depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_by_key(ToString::to_string);
                }
                self.group('{', '}', keys.len(), depth, |writer, index| {
                    writer.string(&name(&keys[index])?);
                    let separator = std::mem::take(&mut writer.key);
                    writer.out.push_str(&separator);
                    writer.key = separator;
                    writer.value(&value.get_item(&keys[index])?, depth + 1)
                })?;
            }
            other => return Err(wrong_kind(other)),
        }
        self.state.consume_fuel(1 + (self.out.len() - before) as u64 / 64)
    }

    fn group(
        &mut self,
        open: char,
        close: char,
        len: usize,
        depth: usize,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for index in 0..len {
            if index > 0 {
                self.out.push_str(&self.item);
            }
            self.line(depth + 1);
            each(self, index)?;
        }
        if len > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            let _ = write!(self.out, "{value}");
        } else {
            let number = f64::try_from(value.clone())?;
            self.out.push_str(&python_float(number));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

fn wrong_kind(kind: ValueKind) -> Error {
    let what = format!("tojson: a value of type {kind} is not JSON");
    Error::new(ErrorKind::BadSerialization, what)
}

/// A key as Python writes it: numbers and constants become strings.
fn name(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_string(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number if key.is_integer() => key.to_string(),
        ValueKind::Number => python_float(f64::try_from(key.clone())?),
        other => return Err(wrong_kind(other)),
    })
}

/// `repr(float)` of Python: the shortest digits that round-trip, an exponent below 1e-4 and from 1e16 on.
pub(super) fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => {
            let text = number.to_string();
            if text.contains('.') { text } else { text + ".0" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e300, "-2.5e+300"),
        ] {
            assert_eq!(python_float(number), text);
        }
    }
}
