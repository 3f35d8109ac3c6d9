//! Format `messages`: `{"messages": [{"role", "content"}, ..]}`, dialogues as in OpenAI's API.
//!
//! `content` is a string, or a list of parts, of which those of text are joined; images, sound and video are for the gate
//! (`media`). The list may be JSON text. A row may hold `tools` (a list, or its JSON text)
//! and `weight`; a message may hold `train: false` or a `weight` of its own. `tool_calls` is a list, or its JSON text,
//! of calls whose `arguments` are an object or JSON text. Other keys (`name`, `reasoning_content`) are passed to the
//! template unchanged; keys whose value is null are dropped, as transformers does.

use serde_json::{Map, Value};

use super::keys::{no_text, required, wrong};
use super::media;
use crate::error::DataError;
use crate::record::{Chat, Content, Message, Role};
use crate::source::columns::nearest;
use crate::source::{Row, kind, shown};

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.get("messages").is_some_and(Value::is_array)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let value = required(row, "messages", "a list of messages")?;
    Ok(Content::Chat(Chat { messages: list(row, "messages", value)?, tools: tools(row)?, prompt_messages: None }))
}

/// The messages under `key`: a list of them, or a single message.
pub(super) fn one_or_list(row: &Row, key: &str, value: &Value) -> Result<Vec<Message>, DataError> {
    match value {
        Value::Object(_) => list(row, key, &Value::Array(vec![value.clone()])),
        _ => list(row, key, value),
    }
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

/// Parses one message. The error is what was expected (to be appended to the message's place) and what was found.
pub(super) fn message(value: &Value) -> Result<Message, (String, String)> {
    let found = |value: &Value| format!("{}: {}", kind(value), shown(value));
    let Value::Object(object) = value else {
        return Err((" to be an object".into(), found(value)));
    };
    let role = match object.get("role") {
        None if object.contains_key("from") => {
            let found = "`from`, which is read in `conversations` (columns = { conversations = \"messages\" })";
            return Err((".role".into(), found.into()));
        }
        None => return Err((".role".into(), "no such key".into())),
        Some(value) => role(value)?,
    };
    let train = match object.get("train") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(train)) => Some(*train),
        Some(other) => return Err((".train to be true or false".into(), found(other))),
    };
    let weight = match object.get("weight").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => match value.as_f64() {
            Some(weight) if (0.0..=f64::from(f32::MAX)).contains(&weight) => Some(weight as f32),
            _ => return Err((".weight to be a number that is not negative".into(), found(value))),
        },
    };
    if role != Role::Assistant && (train == Some(true) || weight.is_some_and(|weight| weight > 0.0)) {
        let key = if train == Some(true) { "train = true" } else { "weight" };
        return Err((format!(".{key} on an assistant message only"), format!("role `{role}`")));
    }
    let mut fields = Map::new();
    for (key, value) in object {
        if matches!(key.as_str(), "train" | "weight") || value.is_null() {
            continue;
        }
        let value = match key.as_str() {
            "role" => role.name().into(),
            "content" => Value::String(content(value)?),
            "tool_calls" => match calls(value)? {
                calls if calls.is_empty() => continue,
                calls => Value::Array(calls),
            },
            _ => value.clone(),
        };
        fields.insert(key.clone(), value);
    }
    if !fields.contains_key("content") && !fields.contains_key("tool_calls") {
        let expected = ".content (text), or .tool_calls".to_string();
        return Err((expected, "neither of them".into()));
    }
    Ok(Message { role, train, weight, fields })
}

/// The role of a name in OpenAI's API, ignoring case: the four roles, `developer` for `system`, and the older `function`
/// for `tool`.
fn role(value: &Value) -> Result<Role, (String, String)> {
    let name = value.as_str().unwrap_or_default().trim().to_ascii_lowercase();
    let name = name.as_str();
    let known = Role::ALL.map(Role::name);
    let role = match name {
        "developer" => Some(Role::System),
        "function" => Some(Role::Tool),
        name => Role::by_name(name),
    };
    role.ok_or_else(|| {
        let meant = match Role::by_alias(name) {
            Some(role) => format!(
                " (in `conversations`, format sharegpt, it would be `{role}`: columns = {{ conversations = \"messages\" }})"
            ),
            None => nearest(name, known.into_iter()),
        };
        (format!(".role to be one of {}", known.join(", ")), format!("{}: {}{meant}", kind(value), shown(value)))
    })
}

/// The tool calls of a message.
fn calls(value: &Value) -> Result<Vec<Value>, (String, String)> {
    let what = ".tool_calls to be a list of objects, or the JSON text of one";
    let wrong = || (what.to_string(), format!("{}: {}", kind(value), shown(value)));
    let calls = match value {
        Value::String(text) => serde_json::from_str(text).map_err(|_| wrong())?,
        other => other.clone(),
    };
    let Value::Array(calls) = calls else { return Err(wrong()) };
    for call in &calls {
        if !call.is_object() {
            return Err(wrong());
        }
        let function = call.get("function").unwrap_or(call);
        match function.get("arguments") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(Value::String(text)) if text.trim().is_empty() => {}
            Some(Value::String(text)) if serde_json::from_str::<Map<String, Value>>(text).is_ok() => {}
            Some(other) => {
                let expected = ".tool_calls: `arguments` to be an object, or the JSON text of one".to_string();
                return Err((expected, format!("{}: {}", kind(other), shown(other))));
            }
        }
    }
    Ok(calls)
}

/// The text of a message: of its parts those that are text.
fn content(value: &Value) -> Result<String, (String, String)> {
    let text = |part: &Value| match part {
        Value::String(text) => Ok(text.clone()),
        Value::Object(part) if media::is_part(part) => Ok(String::new()),
        Value::Object(part) if part.get("type").is_none_or(|kind| kind == "text") => {
            part.get("text").and_then(Value::as_str).map(str::to_string).ok_or((
                ".content: every part to hold `text`".to_string(),
                part.get("text").map_or("none".into(), no_text),
            ))
        }
        other => Err((".content to hold text parts only".to_string(), shown(other))),
    };
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().map(text).collect(),
        other => Err((".content to be a string or a list of text parts".into(), no_text(other))),
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
    fn roles_are_read_in_any_case_and_parts_of_other_kinds_are_no_text() {
        let chat = chat(json!({"messages": [
            {"role": "User", "content": [{"type": "image", "text": null}, {"type": "text", "text": "What?"}, {"image": "a.png"}]},
            {"role": " ASSISTANT", "content": [{"type": "text", "text": "A mill."}]},
        ]}))
        .unwrap();
        let said: Vec<_> = chat.messages.iter().map(|message| (message.role, message.content().unwrap())).collect();
        assert_eq!(said, [(Role::User, "What?"), (Role::Assistant, "A mill.")]);
        assert_eq!(chat.messages[0].fields["role"], "user");
    }

    #[test]
    fn calls_and_weights_are_read_in_each_of_their_forms() {
        let call = json!([{"type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}]);
        let chat = chat(json!({
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": "u", "weight": 0, "tool_calls": null},
                {"role": "assistant", "content": "a", "weight": 0.5, "tool_calls": call.to_string(), "thinking": "t"},
                {"role": "function", "name": "sum", "content": "2"},
                {"role": "assistant", "content": "b", "weight": 0, "tool_calls": []},
            ],
            "tools": [],
        }))
        .unwrap();
        let roles: Vec<_> = chat.messages.iter().map(|message| message.role.name()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant"]);
        assert!(chat.messages.iter().all(|message| message.fields["role"] == message.role.name()));
        assert_eq!(chat.messages[2].fields["tool_calls"], call);
        assert_eq!(chat.messages[2].fields["thinking"], "t");
        assert_eq!((chat.messages[2].weight, chat.messages[4].is_untrained()), (Some(0.5), true));
        assert!(!chat.messages[4].fields.contains_key("tool_calls") && !chat.messages[2].fields.contains_key("weight"));
    }

    #[test]
    fn every_mistake_names_its_message() {
        let cases = [
            (json!([]), "at least one message"),
            (json!("hi"), "a list of messages"),
            (json!([{"role": "user", "content": "a"}, 5]), "messages[1] to be an object"),
            (json!([{"content": "a"}]), "messages[0].role"),
            (json!([{"role": "human", "content": "a"}]), "one of system, user, assistant, tool"),
            (json!([{"role": "human", "content": "a"}]), "format sharegpt, it would be `user`"),
            (json!([{"role": "assitant", "content": "a"}]), "(`assistant` is there)"),
            (json!([{"role": "assistant", "tool_calls": "sum(1)"}]), "the JSON text of one"),
            (json!([{"role": "assistant", "tool_calls": [{"function": {"arguments": "x=1"}}]}]), "`arguments`"),
            (json!([{"role": "assistant", "tool_calls": []}]), "messages[0].content"),
            (json!([{"role": "assistant", "content": "a", "weight": -1}]), ".weight to be a number"),
            (json!([{"role": "user", "content": "a", "weight": 1}]), ".weight on an assistant message only"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": 5}]), "a string or a list of text parts"),
            (json!([{"role": "user", "content": [{"type": "document"}]}]), "text parts only"),
            (
                json!([{"role": "user", "content": [{"type": "text", "text": 7}]}]),
                "a number: 7; write it as text, \"7\"",
            ),
            (json!([{"role": "user", "content": true}]), "a boolean: true; write it as text, \"true\""),
            (json!([{"from": "human", "value": "a"}]), "columns = { conversations = \"messages\" }"),
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
