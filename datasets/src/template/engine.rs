//! The Jinja environment that hub templates expect: transformers' settings, filters and functions, in minijinja.
//!
//! `{% generation %}` marks what the assistant wrote. minijinja has no custom tags, so the tag becomes a `call` block
//! of a function that puts two noncharacters around its body (scoping and whitespace control stay those of Jinja's
//! own implementation, which is a call block too); they are taken out of the result, and become spans.
//! Templates are untrusted: time and output are bounded, and there is no loader, so no file can be reached. One gap is
//! known: minijinja adds lists lazily and without fuel, so a list that is added to itself dozens of times takes forever.

use std::io;
use std::ops::Range;
use std::sync::LazyLock;

use chrono::NaiveDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use regex::Regex;

/// Begin and end of a generated part: noncharacters, which no interchange of text contains.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// The function that the tag becomes.
const FUNCTION: &str = "_generation_support";

/// Instructions a rendering may take, before what its input adds.
const FUEL: u64 = 5_000_000;
/// Bytes a rendering may write, before what its input adds.
const OUTPUT: usize = 16 << 20;

static GENERATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());

/// A compiled template.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    environment: Environment<'static>,
    generation: bool,
}

impl Engine {
    /// Compiles `source`. `strftime_now` tells the time `now`, or the clock's.
    pub(super) fn new(source: &str, now: Option<NaiveDateTime>) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|problem| explain(&problem))?,
        );
        environment.set_unknown_method_callback(super::python::method);
        environment.set_formatter(super::text::write);
        environment.add_filter("trim", super::text::trim);
        environment.add_filter("join", super::text::join);
        environment.add_filter("string", super::text::string);
        environment.add_test("iterable", super::python::is_iterable);
        environment.add_test("sequence", super::python::is_sequence);
        environment.add_filter("tojson", super::json::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            let now = now.unwrap_or_else(|| chrono::Local::now().naive_local());
            strftime(now, &format)
        });
        environment.add_function(FUNCTION, generated);
        let replaced = match GENERATION.as_ref() {
            Some(tag) => tag.replace_all(source, |found: &regex::Captures<'_>| {
                let (left, right) = (&found[1], &found[3]);
                match found.get(2) {
                    None => format!("{{%{left} call {FUNCTION}() {right}%}}"),
                    Some(_) => format!("{{%{left} endcall {right}%}}"),
                }
            }),
            None => source.into(),
        };
        let generation = replaced != source;
        environment.add_template_owned("template", replaced.into_owned()).map_err(|problem| explain(&problem))?;
        Ok(Self { environment, generation })
    }

    /// Whether the template marks what the assistant wrote.
    pub(super) fn marks_generation(&self) -> bool {
        self.generation
    }

    /// Renders with `variables`, whose texts are about `size` bytes together. Returns the text and the parts of it
    /// that the template marks as generated.
    pub(super) fn render(&self, variables: Value, size: usize) -> Result<(String, Vec<Range<usize>>), String> {
        // Cloning an environment copies a few pointers; the fuel is a property of it.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + 64 * size as u64));
        let mut out = Limited { bytes: Vec::new(), limit: OUTPUT + 16 * size };
        environment
            .get_template("template")
            .and_then(|template| template.render_captured_to(variables, &mut out).map(|_| ()))
            .map_err(|problem| explain(&problem))?;
        let text = String::from_utf8(out.bytes).map_err(|problem| problem.to_string())?;
        if self.generation { take_marks(&text) } else { Ok((text, Vec::new())) }
    }
}

/// The body of a `{% generation %}` block, between its marks.
fn generated(state: &mut State, kwargs: Kwargs) -> Result<Value, Error> {
    let caller: Value = kwargs.get("caller")?;
    let body = caller.call(state, &[])?;
    Ok(Value::from(format!("{OPEN}{body}{CLOSE}")))
}

/// Takes the marks out of a rendered text; nested ones count as one.
fn take_marks(marked: &str) -> Result<(String, Vec<Range<usize>>), String> {
    let mut text = String::with_capacity(marked.len());
    let mut spans = Vec::new();
    let mut open: Option<usize> = None;
    for c in marked.chars() {
        match (c, open) {
            (OPEN, None) => open = Some(text.len()),
            (CLOSE, Some(start)) => {
                spans.push(start..text.len());
                open = None;
            }
            (OPEN, Some(_)) | (CLOSE, None) => {
                return Err("the `{% generation %}` blocks are nested or torn apart".into());
            }
            _ => text.push(c),
        }
    }
    match open {
        None => Ok((text, spans)),
        Some(_) => Err("a `{% generation %}` block is torn apart".into()),
    }
}

fn strftime(now: NaiveDateTime, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    write!(text, "{}", now.format(format))
        .map(|()| text)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "strftime_now: no such format"))
}

/// What a template's error says: the words of `raise_exception` alone, everything else with its line.
fn explain(problem: &Error) -> String {
    let mut text = problem.to_string();
    let mut source = std::error::Error::source(problem);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// A writer that refuses to grow past its limit.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for &mut Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other("the template writes too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A JSON value as a template's value; adds the bytes of its texts to `size`.
pub(super) fn value(json: &serde_json::Value, size: &mut usize) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => {
            *size += text.len();
            Value::from(text.as_str())
        }
        serde_json::Value::Array(items) => {
            *size += 8 * items.len();
            Value::from(items.iter().map(|item| value(item, size)).collect::<Vec<_>>())
        }
        serde_json::Value::Object(object) => Value::from_pairs(object.iter().map(|(key, item)| {
            *size += 8 + key.len();
            (key.as_str(), value(item, size))
        })),
    }
}

/// Whether a value holds one of the characters that mark generated parts.
pub(super) fn holds_marks(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::String(text) => text.contains([OPEN, CLOSE]),
        serde_json::Value::Array(items) => items.iter().any(holds_marks),
        serde_json::Value::Object(object) => {
            object.iter().any(|(key, value)| key.contains([OPEN, CLOSE]) || holds_marks(value))
        }
        _ => false,
    }
}
