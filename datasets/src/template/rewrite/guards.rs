//! Checks of loops and namespaces: functions that check a value before a loop goes over it, or before a namespace holds
//! it.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::attributes::is_namespace;
use crate::template::generator;

/// The names of the functions. No template can write them, or set a variable of that name.
pub(super) const LOOP: &str = "loop over";
pub(super) const STORE: &str = "store";

/// Depth to which lists and dicts in a namespace may be nested.
const NESTING: usize = 64;

/// Adds the functions to an environment.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function(LOOP, loop_over);
    environment.add_function(STORE, store);
}

/// Prepares the value that a loop goes over: none is an error, and a text becomes its characters.
fn loop_over(value: Value) -> Result<Value, Error> {
    match (value.as_str(), value.is_none()) {
        (Some(text), _) => Ok(text.chars().map(|c| Value::from(c.to_string())).collect()),
        (None, true) => Err(Error::new(ErrorKind::InvalidOperation, "none cannot be looped over")),
        (None, false) => Ok(value),
    }
}

/// Checks a value that is put into a namespace. A namespace outlives an iteration of a loop, so through it a value
/// could contain itself or be nested without end; comparing such values never ends, and dropping them overflows the
/// stack.
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
