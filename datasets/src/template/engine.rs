//! The template engine: [`Engine`] is a Jinja environment, made of minijinja, with transformers' settings, filters and
//! functions.
//!
//! `{% generation %}` marks what the assistant wrote. minijinja has no custom tags, so the tag becomes a `call` block
//! of a function that puts two noncharacters around its body (scoping and whitespace control stay those of Jinja's own
//! implementation, which is a call block too). The noncharacters are removed from the result and give the spans.
//! Templates are untrusted: the engine counts what they do and write, the sandbox they run in bounds the rest, and
//! there is no loader, so no file can be reached.

use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::NaiveDateTime;
use minijinja::value::{Kwargs, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use regex::Regex;

use super::rewrite::{self, Program};
use crate::sandbox::{self, LIMIT};

/// Start and end marks of a generated part: noncharacters, which interchanged text does not contain.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// The function that the tag becomes.
const FUNCTION: &str = "_generation_support";

/// The largest template in bytes; the longest of known models has 17 thousand.
const SOURCE: usize = 256 << 10;
/// Number of instructions that a rendering may take, before what its input adds; 64 written bytes count as one.
const FUEL: u64 = 5_000_000;
/// Each byte of the input adds one instruction, up to this many: values nested with that fuel fit the stack.
const MORE_FUEL: u64 = 25_000_000;
/// Number of bytes that a rendering may write, before what its input adds.
const OUTPUT: usize = 16 << 20;
/// Number of namespaces that a rendering may make: the engine does not count their memory.
const NAMESPACES: i64 = 100_000;

static GENERATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());

/// A compiled template.
#[derive(Clone)]
pub(super) struct Engine {
    environment: Environment<'static>,
    program: Arc<Program>,
    generation: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles `source`. `strftime_now` formats the time `now`, or the clock's.
    pub(super) fn new(source: &str, now: Option<NaiveDateTime>) -> Result<Self, String> {
        if source.len() > SOURCE {
            return Err(format!("it has {} bytes; at most {SOURCE} are taken", source.len()));
        }
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
        let replaced = replaced.into_owned();
        let program = sandbox::run(LIMIT, move || sandbox::timed(|| Program::new(replaced)))?
            .map_err(|problem| format!("{}{}", explain(&problem), shown_line(&problem, source)))?;
        Ok(Self { environment: environment(now), program: Arc::new(program), generation })
    }

    /// Whether the template marks what the assistant wrote.
    pub(super) fn marks_generation(&self) -> bool {
        self.generation
    }

    /// Renders with `variables`, whose texts have about `size` bytes in all. Returns the text, and the byte ranges that
    /// the template marks as generated.
    pub(super) fn render(&self, variables: Value, size: usize) -> Result<(String, Vec<Range<usize>>), String> {
        self.render_within(variables, size, LIMIT)
    }

    pub(super) fn render_within(
        &self,
        variables: Value,
        size: usize,
        time: Duration,
    ) -> Result<(String, Vec<Range<usize>>), String> {
        // Cloning an environment copies a few pointers; the fuel belongs to the environment.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + MORE_FUEL.min(size as u64)));
        let program = Arc::clone(&self.program);
        let work = move || {
            let text = program.run(&environment, variables);
            text.map_err(|problem| explain(&problem))
        };
        let text = sandbox::run(time, || sandbox::timed(work))??;
        if text.len() > OUTPUT + 16 * size {
            return Err(format!("the template writes {} bytes", text.len()));
        }
        if self.generation { take_marks(&text) } else { Ok((text, Vec::new())) }
    }
}

/// The environment of templates: the filters, tests and functions of Jinja, and those that transformers adds.
fn environment(now: Option<NaiveDateTime>) -> Environment<'static> {
    let mut environment = Environment::new();
    // Jinja does not have these, or they print their input without counting it.
    ["bool", "chain", "lines", "pprint", "split", "zip"].iter().for_each(|name| environment.remove_filter(name));
    ["endingwith", "int", "safe", "startingwith"].iter().for_each(|name| environment.remove_test(name));
    environment.remove_global("debug");
    environment.set_unknown_method_callback(super::python::method);
    super::text::register(&mut environment);
    rewrite::register(&mut environment);
    super::generator::register(&mut environment);
    super::python::register(&mut environment);
    environment.add_filter("tojson", super::json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        let now = now.unwrap_or_else(|| chrono::Local::now().naive_local());
        strftime(now, &format)
    });
    environment.add_function("namespace", namespace);
    environment.add_function(FUNCTION, generated);
    environment
}

/// Jinja's `namespace`, with a limit on the number of namespaces.
fn namespace(state: &mut State, defaults: Option<ValueOrKwargs>) -> Result<Value, Error> {
    const COUNT: &str = "namespaces";
    let made = state.get_temp(COUNT).and_then(|count| count.as_i64()).unwrap_or(0);
    if made >= NAMESPACES {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("more than {NAMESPACES} namespaces are made")));
    }
    state.set_temp(COUNT, Value::from(made + 1));
    let defaults: Option<Value> = defaults.map(ValueOrKwargs::into_value);
    for name in defaults.iter().filter_map(|defaults| defaults.try_iter().ok()).flatten() {
        if let Some(value) = defaults.as_ref().and_then(|defaults| defaults.get_item(&name).ok()) {
            rewrite::store(state, value)?;
        }
    }
    minijinja::functions::namespace(defaults.map(ValueOrKwargs::from))
}

/// The body of a `{% generation %}` block between its marks.
fn generated(state: &mut State, kwargs: Kwargs) -> Result<Value, Error> {
    let caller: Value = kwargs.get("caller")?;
    let body = caller.call(state, &[])?;
    Ok(Value::from(format!("{OPEN}{body}{CLOSE}")))
}

/// Removes the marks from a rendered text and returns the marked ranges; nested marks count as one.
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

/// The message of a template's error: for `raise_exception` its text alone, for others also the line.
fn explain(problem: &Error) -> String {
    let mut text = problem.to_string();
    let mut source = std::error::Error::source(problem);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// The line of a template that an error is about, as a part of the error's message.
fn shown_line(problem: &Error, source: &str) -> String {
    const LONGEST: usize = 160;
    let line = problem.line().and_then(|line| Some((line, source.lines().nth(line.checked_sub(1)?)?.trim())));
    match line {
        Some((number, line)) if !line.is_empty() => {
            let end = line.char_indices().nth(LONGEST).map_or(line.len(), |(end, _)| end);
            format!("; line {number} is `{}{}`", &line[..end], if end < line.len() { ".." } else { "" })
        }
        _ => String::new(),
    }
}

/// Converts a JSON value to a template's value; adds the bytes of its texts to `size`.
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

/// Whether a value contains one of the characters that mark generated parts.
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
