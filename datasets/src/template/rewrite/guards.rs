//! What is looked at before the engine goes on with it: what a loop goes over, and what is put into a namespace.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::attributes::is_namespace;
use crate::template::generator;

/// The names of the functions. No template can say them, or set a variable of that name.
pub(super) const LOOP: &str = "loop over";
pub(super) const STORE: &str = "store";

/// How deep lists and dicts in a namespace may be nested.
const NESTING: usize = 64;

/// Gives an environment the functions.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function(LOOP, loop_over);
    environment.add_function(STORE, store);
}

/// What a loop goes over: none is an error, and a text is its characters.
fn loop_over(value: Value) -> Result<Value, Error> {
    match (value.as_str(), value.is_none()) {
        (Some(text), _) => Ok(text.chars().map(|c| Value::from(c.to_string())).collect()),
        (None, true) => Err(Error::new(ErrorKind::InvalidOperation, "none cannot be looped over")),
        (None, false) => Ok(value),
    }
}

/// What is put into a namespace. It outlives the turn of a loop, so it is what could hold itself, or a list in a list in
/// a list: things that end no comparison and fill the stack.
pub(in crate::template) fn store(state: &mut State, value: Value) -> Result<Value, Error> {
    fn walk(state: &State, value: &Value, depth: usize, seen: &mut u64) -> Result<(), Error> {
        *seen += 1;
        if seen.is_multiple_of(4) {
            state.consume_fuel(1)?;
        }
        if depth > NESTING {
            let why = format!("what a namespace holds is nested more than {NESTING} times");
            return Err(Error::new(ErrorKind::InvalidOperation, why));
        }
        if is_namespace(value) {
            let why = "a namespace cannot be put into a namespace";
            return Err(Error::new(ErrorKind::InvalidOperation, why));
        }
        if let Some(items) = generator::unread(value) {
            return items.iter().try_for_each(|item| walk(state, item, depth + 1, seen));
        }
        match value.kind() {
            ValueKind::Map => {
                for key in value.try_iter()?.checked() {
                    walk(state, &value.get_item(&key?)?, depth + 1, seen)?;
                }
                Ok(())
            }
            ValueKind::Seq => value.try_iter()?.checked().try_for_each(|item| walk(state, &item?, depth + 1, seen)),
            _ => Ok(()),
        }
    }
    walk(state, &value, 0, &mut 0)?;
    Ok(value)
}
