//! `{"messages": [{"role", "content"}, ..]}`, as OpenAI's API writes dialogues.
//!
//! `content` is a string, or a list of text parts, which are joined. A row may hold `tools` (a list, or the JSON text
//! of one) and `weight`; a message may hold `train: false`. Other keys (`name`, `tool_calls`, `reasoning_content`)
//! go to the template as they are; keys whose value is null are dropped, as transformers does.

use serde_json::{Map, Value};

use super::{required, wrong};
use crate::error::DataError;
use crate::record::{Chat, Content, Message, Role};
use crate::source::{Row, kind, shown};

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.get("messages").is_some_and(Value::is_array)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let value = required(row, "messages", "a list of messages")?;
    Ok(Content::Chat(Chat { messages: list(row, "messages", value)?, tools: tools(row)?, prompt_messages: None }))
}

/// The messages under `key`.
pub(super) fn list(row: &Row, key: &str, value: &Value) -> Result<Vec<Message>, DataError> {
    let Value::Array(items) = value else {
        return Err(wrong(row, key, "a list of messages", value));
    };
    if items.is_empty() {
        return Err(DataError::row(&row.location, format!("`{key}` to hold at least one message"), "an empty list"));
    }
    items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            message(item)
                .map_err(|(expected, found)| DataError::row(&row.location, format!("{key}[{index}]{expected}"), found))
        })
        .collect()
}

/// The row's `tools`.
pub(super) fn tools(row: &Row) -> Result<Option<Vec<Value>>, DataError> {
    let what = "a list of objects, or the JSON text of one";
    let Some(value) = row.object.get("tools").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let tools = match value {
        Value::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    };
    match tools {
        Some(Value::Array(tools)) if tools.iter().all(Value::is_object) => Ok(Some(tools)),
        _ => Err(wrong(row, "tools", what, value)),
    }
}

/// One message, or what was expected of it (following its place) and what was found.
fn message(value: &Value) -> Result<Message, (String, String)> {
    let found = |value: &Value| format!("{}: {}", kind(value), shown(value));
    let Value::Object(object) = value else {
        return Err((" to be an object".into(), found(value)));
    };
    let role = match object.get("role") {
        None => return Err((".role".into(), "no such key".into())),
        Some(value) => value.as_str().and_then(Role::by_name).ok_or_else(|| {
            let known = Role::ALL.map(Role::name).join(", ");
            (format!(".role to be one of {known}"), found(value))
        })?,
    };
    let train = match object.get("train") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(train)) => Some(*train),
        Some(other) => return Err((".train to be true or false".into(), found(other))),
    };
    if train == Some(true) && role != Role::Assistant {
        let expected = ".train = true on an assistant message only".to_string();
        return Err((expected, format!("role `{role}`")));
    }
    let mut fields = Map::new();
    for (key, value) in object {
        if key != "train" && !value.is_null() {
            let value = match key.as_str() {
                "content" => Value::String(content(value)?),
                _ => value.clone(),
            };
            fields.insert(key.clone(), value);
        }
    }
    if !fields.contains_key("content") && !fields.contains_key("tool_calls") {
        let expected = ".content (text), or .tool_calls".to_string();
        return Err((expected, "neither of them".into()));
    }
    Ok(Message { role, train, fields })
}

fn content(value: &Value) -> Result<String, (String, String)> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part {
                Value::String(text) => Ok(text.as_str()),
                Value::Object(part) if part.get("type").is_none_or(|kind| kind == "text") => part
                    .get("text")
                    .and_then(Value::as_str)
                    .ok_or((".content: every part to hold `text`".to_string(), "none".to_string())),
                other => Err((".content to hold text parts only".to_string(), shown(other))),
            })
            .collect(),
        other => Err((
            ".content to be a string or a list of text parts".into(),
            format!("{}: {}", kind(other), shown(other)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn chat(value: Value) -> Result<Chat, String> {
        match parse(&row(3, value)) {
            Ok(Content::Chat(chat)) => Ok(chat),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn parts_are_joined_and_nulls_dropped() {
        let chat = chat(json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": 1}], "train": false},
                {"role": "tool", "content": "4", "name": "sum"},
            ],
            "tools": "[{\"type\": \"function\"}]",
        }))
        .unwrap();
        assert_eq!(chat.messages[0].content(), Some("ab"));
        assert_eq!(chat.messages[1].content(), None);
        assert_eq!(chat.messages[1].train, Some(false));
        assert!(!chat.messages[1].fields.contains_key("train"));
        assert_eq!(chat.messages[2].fields["name"], "sum");
        assert_eq!(chat.tools.unwrap()[0]["type"], "function");
    }

    #[test]
    fn every_mistake_names_its_message() {
        let cases = [
            (json!([]), "at least one message"),
            (json!("hi"), "a list of messages"),
            (json!([{"role": "user", "content": "a"}, 5]), "messages[1] to be an object"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "human", "content": "a"}]), "one of system, user, assistant, tool"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 5}]), "a string or a list of text parts"),
            (json!([{"role": "user", "content": [{"type": "image"}]}]), "text parts only"),
            (json!([{"role": "user", "content": "a", "train": 1}]), ".train to be true or false"),
            (json!([{"role": "user", "content": "a", "train": true}]), "assistant message only"),
        ];
        for (messages, said) in cases {
            let error = chat(json!({"messages": messages})).unwrap_err();
            assert!(error.contains("rows.jsonl:3") && error.contains(said), "{error}");
        }
        let error = chat(json!({"text": "a"})).unwrap_err();
        assert!(error.contains("`messages`") && error.contains("`text`"), "{error}");
    }
}
