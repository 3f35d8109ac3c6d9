//! Python's operators: functions that replace minijinja's `+`, `*`, `%`, `~` and slices. minijinja joins and slices
//! lists lazily; it does not count that, and the results are no lists to templates that ask. In Jinja, text marked by
//! `|safe` escapes what is added to it.
//!
//! `instructions.rs` turns the operators of a compiled template into calls of these functions.

use minijinja::machinery::Instruction;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value, context};

use crate::template::{generator, text};

/// The names of the functions. No template can write them, or set a variable of that name.
const ADD: &str = "+";
const MULTIPLY: &str = "*";
const REMAINDER: &str = "%";
const CONCATENATE: &str = "~";
const SLICE: &str = "[:]";

/// Adds the functions to an environment.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function(ADD, add);
    environment.add_function(MULTIPLY, multiply);
    environment.add_function(REMAINDER, remainder);
    environment.add_function(CONCATENATE, concatenate);
    environment.add_function(SLICE, slice);
}

/// The function that replaces an operator, and its number of arguments.
pub(super) fn function(instruction: &Instruction<'_>) -> Option<(&'static str, u16)> {
    match instruction {
        Instruction::Add => Some((ADD, 2)),
        Instruction::Mul => Some((MULTIPLY, 2)),
        Instruction::Rem => Some((REMAINDER, 2)),
        Instruction::StringConcat => Some((CONCATENATE, 2)),
        Instruction::Slice => Some((SLICE, 4)),
        _ => None,
    }
}

fn add(state: &mut State, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        return Ok(match (a.is_safe(), b.is_safe()) {
            (false, false) => Value::from([left, right].concat()),
            (true, true) => Value::from_safe_string([left, right].concat()),
            (true, false) => Value::from_safe_string([left, &text::escape(right)].concat()),
            (false, true) => Value::from_safe_string([&text::escape(left), right].concat()),
        });
    }
    if let (Some(left), Some(right)) = (integer(a), integer(b))
        && let Some(sum) = left.checked_add(right)
    {
        return Ok(Value::from(sum));
    }
    if is_list(a) && is_list(b) {
        let mut items = Vec::new();
        collect(state, a, &mut items)?;
        collect(state, b, &mut items)?;
        return Ok(Value::from(items));
    }
    if generator::is(a) || generator::is(b) {
        return Err(Error::new(ErrorKind::InvalidOperation, "`+`: a generator is no list; write `| list` behind it"));
    }
    otherwise(state, "a + b", a, b)
}

fn multiply(state: &mut State, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (integer(a), integer(b))
        && let Some(product) = left.checked_mul(right)
    {
        return Ok(Value::from(product));
    }
    let (list, times) = if is_list(a) { (a, b) } else { (b, a) };
    match integer(times) {
        Some(times) if is_list(list) => {
            let mut items = Vec::new();
            for _ in 0..times {
                // Paid for even when the list is empty: the number of repetitions may be very large.
                state.consume_fuel(1)?;
                collect(state, list, &mut items)?;
            }
            Ok(Value::from(items))
        }
        _ => otherwise(state, "a * b", a, b),
    }
}

/// The operator `%`: formatting for text (`'%s' % value`), else the remainder.
fn remainder(state: &mut State, a: &Value, b: &Value) -> Result<Value, Error> {
    if a.as_str().is_none() {
        return otherwise(state, "a % b", a, b);
    }
    let mut arguments = vec![a.clone()];
    match b.is_tuple() {
        true => collect(state, b, &mut arguments)?,
        false => arguments.push(b.clone()),
    }
    state.apply_filter("format", &arguments)
}

fn concatenate(state: &mut State, a: &Value, b: &Value) -> Result<Value, Error> {
    Ok(Value::from([text::of(state, a)?, text::of(state, b)?].concat()))
}

fn slice(state: &mut State, value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "slice step cannot be zero"));
    }
    let (start, stop) = (bound(start)?, bound(stop)?);
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / 64)?;
        let chars: Vec<char> = text.chars().collect();
        let cut: String = indices(chars.len(), start, stop, step).map(|index| chars[index]).collect();
        return Ok(if value.is_safe() { Value::from_safe_string(cut) } else { Value::from(cut) });
    }
    if is_list(value) || value.is_tuple() {
        let mut items = Vec::new();
        collect(state, value, &mut items)?;
        let cut: Vec<Value> = indices(items.len(), start, stop, step).map(|index| items[index].clone()).collect();
        return Ok(if value.is_tuple() { Value::from(minijinja::value::Tuple::from(cut)) } else { Value::from(cut) });
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("a value of type {} cannot be sliced", value.kind())))
}

/// The indices that Python's `start:stop:step` selects from `len` items, in order.
fn indices(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let within = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let (first, end) = if step > 0 { (low, high) } else { (high, low) };
    let (mut next, stop) = (start.map_or(first, within), stop.map_or(end, within));
    std::iter::from_fn(move || {
        let index = next;
        next = next.saturating_add(step);
        (if step > 0 { index < stop } else { index > stop }).then_some(index as usize)
    })
}

/// A bound of a slice.
fn bound(value: &Value) -> Result<Option<i64>, Error> {
    match integer(value) {
        Some(bound) => Ok(Some(bound)),
        None if value.is_none() => Ok(None),
        None => Err(Error::new(ErrorKind::InvalidOperation, "the bounds of a slice are whole numbers")),
    }
}

fn integer(value: &Value) -> Option<i64> {
    if value.is_integer() { value.as_i64() } else { None }
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !value.is_tuple() && !generator::is(value)
}

/// Appends the items of a list to `items` and consumes fuel for them.
fn collect(state: &State, list: &Value, items: &mut Vec<Value>) -> Result<(), Error> {
    for (index, item) in list.try_iter()?.checked().enumerate() {
        if index % 8 == 0 {
            state.consume_fuel(1)?;
        }
        items.push(item?);
    }
    Ok(())
}

/// The result of minijinja's own operator: numbers, and errors.
fn otherwise(state: &State, expression: &'static str, a: &Value, b: &Value) -> Result<Value, Error> {
    let result = state.env().compile_expression(expression).and_then(|operator| operator.eval(context! { a, b }));
    // The position in the error would be that of the expression compiled here, so it is left out.
    result.map_err(|problem| match problem.detail() {
        Some(detail) => Error::new(problem.kind(), detail.to_string()),
        None => Error::from(problem.kind()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_those_of_python() {
        let cut = |start, stop, step| indices(5, start, stop, step).collect::<Vec<_>>();
        assert_eq!(cut(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(cut(Some(-2), None, 1), [3, 4]);
        assert_eq!(cut(Some(1), Some(-1), 2), [1, 3]);
        assert_eq!(cut(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(cut(None, Some(-3), -1), [4, 3]);
        assert_eq!(cut(Some(9), Some(-9), -2), [4, 2, 0]);
        assert_eq!(cut(Some(3), Some(1), 1), [] as [usize; 0]);
        assert_eq!(cut(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
        assert_eq!(cut(Some(i64::MAX), Some(i64::MIN), i64::MIN), [4]);
    }
}
