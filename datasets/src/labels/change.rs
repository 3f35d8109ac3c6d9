//! A message that is changed on purpose: [`variants`] changes one in a place where every template shows it, and
//! [`after`] and [`common_prefix`] tell from two renderings where the message stands in them.
//!
//! The change is one character put into what the message says. Texts are compared, never searched for the character,
//! and one is taken that the message does not hold, so a row may hold it.

use serde_json::{Map, Value};

use crate::record::{Message, Role};

/// A noncharacter: no template trims, escapes or splits at it.
const MARK: char = '\u{fdd2}';

/// The message with a small change, in the order in which they should be tried.
pub(super) fn variants(message: &Message, value: &Value) -> Vec<Value> {
    let places: &[Place] = match message.role {
        Role::Assistant if message.fields.contains_key("tool_calls") => &[Place::Arguments, Place::End],
        Role::Assistant => &[Place::End],
        // How a text begins and ends may decide what a template makes of a message, such as a tool's result.
        Role::System | Role::User | Role::Tool => &[Place::Middle, Place::End],
    };
    places.iter().filter_map(|place| place.changed(value)).collect()
}

/// The message with other words: first nothing but them, then with all else that it holds.
pub(super) fn replaced(value: &Value) -> Vec<Value> {
    let text = Value::from(MARK.to_string());
    let mut bare = Map::new();
    if let Some(role) = value.get("role") {
        bare.insert("role".into(), role.clone());
    }
    bare.insert("content".into(), text.clone());
    let mut kept = value.clone();
    if let Some(fields) = kept.as_object_mut() {
        fields.insert("content".into(), text);
    }
    vec![Value::Object(bare), kept]
}

/// Whether a rendering goes on with the other words of a message.
pub(super) fn is_said(rest: &str) -> bool {
    rest.starts_with(MARK)
}

/// The byte of `plain` from which on it goes on as `changed` does to its end; absent where the two are equal, because
/// the change is not shown then.
pub(super) fn after(plain: &str, changed: &str) -> Option<usize> {
    if plain == changed {
        return None;
    }
    let same = plain.bytes().rev().zip(changed.bytes().rev()).take_while(|(a, b)| a == b).count();
    let at = plain.len() - same;
    (at..=plain.len()).find(|at| plain.is_char_boundary(*at))
}

/// The number of bytes with which both texts begin.
pub(super) fn common_prefix(one: &str, other: &str) -> usize {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    (0..=same).rev().find(|at| one.is_char_boundary(*at)).unwrap_or(0)
}

/// Where a message is changed.
#[derive(Clone, Copy)]
enum Place {
    Middle,
    End,
    /// Behind the arguments of the last call.
    Arguments,
}

impl Place {
    fn changed(self, value: &Value) -> Option<Value> {
        let mut value = value.clone();
        match self {
            Place::Middle | Place::End => {
                let text = value.get("content").and_then(Value::as_str).unwrap_or_default();
                let end = text.len();
                let at = match self {
                    Place::Middle => (0..=end / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0),
                    Place::End | Place::Arguments => end,
                };
                let mark = ('\u{fdd2}'..='\u{fdef}').find(|mark| !text.contains(*mark)).unwrap_or(MARK);
                let text = format!("{}{mark}{}", &text[..at], &text[at..]);
                value.as_object_mut()?.insert("content".into(), text.into());
            }
            Place::Arguments => {
                let call = value.get_mut("tool_calls")?.as_array_mut()?.last_mut()?;
                let function = if call.get("function").is_some() { call.get_mut("function")? } else { call };
                match function.get_mut("arguments")? {
                    Value::Object(arguments) => {
                        arguments.insert(MARK.to_string(), Value::from(MARK.to_string()));
                    }
                    Value::String(arguments) => arguments.push(MARK),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
                }
            }
        }
        Some(value)
    }
}
