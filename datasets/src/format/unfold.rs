//! Lists that a column holds as JSON text: [`unfold`] puts the list in the place of its text. CSV has no other way to
//! write a dialogue, and tables of mixed schemas are written so.
//!
//! The text of a prompt or an answer may be JSON on purpose, so there only what parses whole into messages is taken as
//! messages. Python's way to print a list is no JSON, and is refused by name.

use serde_json::{Map, Value};

use crate::config::Format;
use crate::error::DataError;
use crate::record::Role;
use crate::source::{Row, shown};

/// What a column holds when its text is unfolded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Messages and nothing else.
    Messages,
    /// Messages or text.
    MessagesOrText,
    /// Any list.
    List,
}

/// The columns of a format that may hold lists.
fn columns(format: Format) -> &'static [(&'static str, Holds)] {
    match format {
        Format::Messages => &[("messages", Holds::Messages)],
        Format::ShareGpt => &[("conversations", Holds::Messages)],
        Format::Alpaca => &[("history", Holds::List)],
        Format::PromptCompletion => &[("prompt", Holds::MessagesOrText), ("completion", Holds::MessagesOrText)],
        Format::Unpaired => &[
            ("prompt", Holds::MessagesOrText),
            ("completion", Holds::MessagesOrText),
            ("prompt_ids", Holds::List),
            ("completion_ids", Holds::List),
        ],
        Format::Preference => &[
            ("prompt", Holds::MessagesOrText),
            ("chosen", Holds::MessagesOrText),
            ("rejected", Holds::MessagesOrText),
            ("prompt_ids", Holds::List),
            ("chosen_ids", Holds::List),
            ("rejected_ids", Holds::List),
        ],
        Format::Tokens => &[("input_ids", Holds::List), ("labels", Holds::List)],
        Format::Labelled => &[
            ("messages", Holds::Messages),
            ("prompt", Holds::MessagesOrText),
            ("completion", Holds::MessagesOrText),
            ("input_ids", Holds::List),
        ],
        Format::Auto | Format::Text | Format::Captioned | Format::Tensors => &[],
    }
}

/// Puts lists in the place of their JSON text, and the messages of `{"messages": [..]}` in the place of that object.
///
/// # Errors
/// A column that must hold a list holds text that is no JSON, or a column holds a list as Python prints it.
pub(super) fn unfold(format: Format, row: &mut Row) -> Result<(), DataError> {
    for (key, holds) in columns(format) {
        let Some(value) = row.object.get(*key) else { continue };
        let unfolded = match value {
            Value::String(text) => of_text(text, *holds).map_err(|found| {
                DataError::row(&row.location, format!("`{key}` to be a list, or its JSON text"), found)
            })?,
            Value::Object(_) if *holds != Holds::List => within(value),
            _ => None,
        };
        if let Some(unfolded) = unfolded {
            row.object.insert((*key).to_string(), unfolded);
        }
    }
    Ok(())
}

/// The list that a text writes; absent where the text stays text. The error says what was found.
fn of_text(text: &str, holds: Holds) -> Result<Option<Value>, String> {
    let text = text.trim();
    if !text.starts_with(['[', '{', '"', 'a']) {
        return Ok(None);
    }
    let parsed = match serde_json::from_str(text) {
        // Text that was made JSON text twice.
        Ok(Value::String(inner)) => serde_json::from_str(&inner).map_err(|_| None),
        Ok(value) => Ok(value),
        Err(problem) => Err(Some(problem)),
    };
    match (parsed, holds) {
        (Ok(value @ Value::Array(_)), Holds::List | Holds::Messages) => Ok(Some(value)),
        (Ok(value), Holds::Messages | Holds::MessagesOrText) => Ok(within(&value).or(match &value {
            Value::Array(items) if !items.is_empty() && items.iter().all(is_message) => Some(value),
            Value::Object(_) if is_message(&value) => Some(Value::Array(vec![value])),
            _ => None,
        })),
        (Ok(_), Holds::List) => Ok(None),
        (Err(_), _) if is_python(text) => Err(format!(
            "a list as Python prints it, which is no JSON: {}; write it with json.dumps",
            shown(&Value::from(text))
        )),
        (Err(Some(problem)), Holds::List | Holds::Messages) if text.starts_with(['[', '{']) => {
            Err(format!("text that is no JSON ({problem}): {}", shown(&Value::from(text))))
        }
        (Err(_), _) => Ok(None),
    }
}

/// The messages of an object around them.
fn within(value: &Value) -> Option<Value> {
    let object = value.as_object()?;
    let messages = object.get("messages").or_else(|| object.get("conversations"))?;
    messages.is_array().then(|| messages.clone())
}

/// Whether an object is a message: somebody known says or calls something.
fn is_message(value: &Value) -> bool {
    let said = |message: &Map<String, Value>| match (message.get("role"), message.get("from")) {
        (Some(role), None) => {
            Some(role.clone()).filter(|_| message.contains_key("content") || message.contains_key("tool_calls"))
        }
        (None, Some(from)) => Some(from.clone()).filter(|_| message.contains_key("value")),
        _ => None,
    };
    let role = value.as_object().and_then(said);
    role.as_ref().and_then(Value::as_str).is_some_and(|name| Role::by_alias(name).is_some())
}

/// Whether a text is a list of messages as Python prints it.
fn is_python(text: &str) -> bool {
    let inner = text.strip_prefix("array(").unwrap_or(text).trim_start_matches(['[', '{', ' ', '\n']);
    let begins = text.starts_with(['[', '{']) || text.starts_with("array([");
    let key = inner.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
    let known = ["role", "content", "from", "value", "messages", "conversations", "tool_calls", "name"];
    begins && key.is_some_and(|(key, rest)| known.contains(&key) && rest.trim_start().starts_with(':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn unfolded(format: Format, value: Value) -> Result<Value, String> {
        let mut row = row(3, value);
        unfold(format, &mut row).map_err(|error| error.to_string())?;
        Ok(Value::Object(row.object))
    }

    #[test]
    fn json_text_of_messages_is_messages_in_every_column() {
        let talk = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
        let wrapped = json!({"messages": talk});
        for (format, key) in [
            (Format::Messages, "messages"),
            (Format::PromptCompletion, "prompt"),
            (Format::PromptCompletion, "completion"),
            (Format::Unpaired, "completion"),
            (Format::Preference, "prompt"),
            (Format::Preference, "chosen"),
            (Format::Preference, "rejected"),
        ] {
            let twice = Value::String(talk.to_string()).to_string();
            for value in
                [json!(talk.to_string()), json!(wrapped.to_string()), wrapped.clone(), talk.clone(), json!(twice)]
            {
                assert_eq!(unfolded(format, json!({key: value})).unwrap(), json!({key: talk}), "{key}");
            }
        }
        let turns = json!([{"from": "human", "value": "Hi"}]);
        assert_eq!(
            unfolded(Format::ShareGpt, json!({"conversations": turns.to_string()})).unwrap()["conversations"],
            turns
        );
        let one = json!({"role": "assistant", "content": "a"});
        assert_eq!(unfolded(Format::Preference, json!({"chosen": one.to_string()})).unwrap()["chosen"], json!([one]));
        let ids = json!({"input_ids": "[1, 2]", "labels": "[-100, 2]"});
        assert_eq!(unfolded(Format::Tokens, ids).unwrap(), json!({"input_ids": [1, 2], "labels": [-100, 2]}));
        let history = json!({"history": "[[\"q\", \"a\"]]"});
        assert_eq!(unfolded(Format::Alpaca, history).unwrap(), json!({"history": [["q", "a"]]}));
    }

    #[test]
    fn an_answer_that_is_json_stays_text() {
        for text in [
            "[1, 2, 3]",
            "{\"answer\": 4}",
            "[{\"role\": \"admin\", \"content\": \"x\"}]",
            "[{\"role\": \"user\"}]",
            "[]",
            "[draft] an answer",
            "{not json",
            "[{'name' of a person",
            "\"quoted\"",
            "array of things",
        ] {
            for key in ["prompt", "completion"] {
                let row = json!({key: text});
                assert_eq!(unfolded(Format::PromptCompletion, row.clone()).unwrap(), row);
            }
        }
    }

    #[test]
    fn pythons_text_and_broken_json_are_named() {
        for text in [
            "[{'role': 'user', 'content': 'Hi'}]",
            "[{'content': \"it's\", 'role': 'user'}]",
            "array([{'role': 'user'}])",
            "{'messages': []}",
        ] {
            for (format, key) in
                [(Format::Messages, "messages"), (Format::Preference, "chosen"), (Format::PromptCompletion, "prompt")]
            {
                let error = unfolded(format, json!({key: text})).unwrap_err();
                assert!(error.contains(&format!("rows.jsonl:3: expected `{key}` to be a list")), "{error}");
                assert!(error.contains("as Python prints it") && error.contains("json.dumps"), "{error}");
            }
        }
        let error = unfolded(Format::Messages, json!({"messages": "[{\"role\": \"user\""})).unwrap_err();
        assert!(error.contains("text that is no JSON (EOF"), "{error}");
    }
}
