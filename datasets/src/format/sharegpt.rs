//! Format `sharegpt`: `{"conversations": [{"from": "human", "value": ".."}, ..]}`, as in collections of shared
//! conversations.
//!
//! `role` and `content` may stand in place of `from` and `value`, and roles have many names (`Role::by_alias`). A turn
//! of `function_call` holds the JSON of one call or of a list of calls. The row may hold `system` and `tools`.
//! Everything else is as in `messages`.

use serde_json::{Map, Value, json};

use super::keys::{optional_text, required, wrong};
use super::messages;
use crate::error::DataError;
use crate::record::{Chat, Content, Message, Role};
use crate::source::columns::nearest;
use crate::source::{Row, kind, shown};

const KEY: &str = "conversations";
/// Names of turns that are calls of tools.
const CALLS: [&str; 2] = ["function_call", "tool_call"];

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.get(KEY).is_some_and(Value::is_array)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let value = required(row, KEY, "a list of turns")?;
    let Value::Array(items) = value else {
        return Err(wrong(row, KEY, "a list of turns", value));
    };
    let turns = items.iter().enumerate().map(|(index, item)| {
        turn(item)
            .map_err(|(expected, found)| DataError::row(&row.location, format!("{KEY}[{index}]{expected}"), found))
    });
    let mut turns = turns.collect::<Result<Vec<Message>, _>>()?;
    if turns.is_empty() {
        return Err(DataError::row(&row.location, format!("`{KEY}` to hold at least one turn"), "an empty list"));
    }
    if let Some(system) = optional_text(row, "system")?.filter(|system| !system.is_empty()) {
        if turns[0].role == Role::System {
            let expected = format!("one system prompt, in `system` or in `{KEY}`");
            return Err(DataError::row(&row.location, expected, "both"));
        }
        turns.insert(0, Message::new(Role::System, system));
    }
    Ok(Content::Chat(Chat { messages: turns, tools: messages::tools(row)?, prompt_messages: None }))
}

fn turn(value: &Value) -> Result<Message, (String, String)> {
    let found = |value: &Value| format!("{}: {}", kind(value), shown(value));
    let Value::Object(object) = value else {
        return Err((" to be an object".into(), found(value)));
    };
    let either = |ours: &'static str, theirs: &'static str| match (object.get(ours), object.get(theirs)) {
        (Some(_), Some(_)) => Err((format!(": one of `{ours}` and `{theirs}`"), "both".to_string())),
        (Some(value), None) | (None, Some(value)) => Ok(Some(value)),
        (None, None) => Ok(None),
    };
    let name = either("from", "role")?.ok_or_else(|| (".from".to_string(), "no such key".to_string()))?;
    let said = either("value", "content")?.cloned().unwrap_or(Value::Null);
    let name = name.as_str().ok_or_else(|| (".from to be a string".to_string(), found(name)))?;
    let mut message = Map::new();
    if CALLS.contains(&name) {
        message.insert("role".into(), Role::Assistant.name().into());
        message.insert("tool_calls".into(), calls(&said)?);
    } else {
        let role = Role::by_alias(name).ok_or_else(|| {
            let near = nearest(name, ["human", "gpt", "system", "tool", "user", "assistant"].into_iter());
            (".from to be a role such as human, gpt, system, tool".to_string(), format!("`{name}`{near}"))
        })?;
        message.insert("role".into(), role.name().into());
        message.insert("content".into(), said);
    }
    let others = object.iter().filter(|(key, _)| !matches!(key.as_str(), "from" | "role" | "value" | "content"));
    message.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    messages::message(&Value::Object(message))
}

/// The calls in the text of a turn: `{"name", "arguments"}`, or a list of such objects.
fn calls(said: &Value) -> Result<Value, (String, String)> {
    let what = || (".value to be the JSON of a call, with `name` and `arguments`".to_string(), shown(said));
    let parsed = match said {
        Value::String(text) => serde_json::from_str(text).map_err(|_| what())?,
        other => other.clone(),
    };
    let calls = match parsed {
        Value::Array(calls) if !calls.is_empty() => calls,
        object @ Value::Object(_) => vec![object],
        _ => return Err(what()),
    };
    calls
        .into_iter()
        .map(|call| match call.get("name") {
            Some(Value::String(_)) => Ok(json!({"type": "function", "function": call})),
            _ => Err(what()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
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
    fn roles_have_many_names_and_both_spellings_of_keys_are_read() {
        let names = [
            ("system", Role::System),
            ("human", Role::User),
            ("gpt", Role::Assistant),
            ("user", Role::User),
            ("function_call", Role::Assistant),
            ("observation", Role::Tool),
            ("chatgpt", Role::Assistant),
            ("Human", Role::User),
            ("bot", Role::Assistant),
            ("tool", Role::Tool),
            ("function", Role::Tool),
            ("assistant", Role::Assistant),
        ];
        for [from, value] in [["from", "value"], ["role", "content"]] {
            let turns: Vec<_> = names
                .iter()
                .map(
                    |(name, _)| json!({from: name, value: r#"{"name": "sum", "arguments": {"a": 1}}"#, "weight": null}),
                )
                .collect();
            let chat = chat(json!({"conversations": turns})).unwrap();
            for (message, (name, role)) in chat.messages.iter().zip(names) {
                assert_eq!(message.role, role, "{name}");
                assert_eq!(message.fields["role"], role.name());
                assert!(!message.fields.contains_key("from") && !message.fields.contains_key("value"));
            }
            assert_eq!(
                chat.messages[4].fields["tool_calls"],
                json!([{"type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}])
            );
        }
    }

    #[test]
    fn system_and_tools_are_columns() {
        let turns = json!([{"from": "human", "value": "u"}, {"from": "gpt", "value": "a", "weight": 0}]);
        let chat = chat(json!({"conversations": turns, "system": "s", "tools": "[{\"name\": \"sum\"}]"})).unwrap();
        assert_eq!(chat.messages[0], Message::new(Role::System, "s"));
        assert_eq!(chat.tools.unwrap()[0]["name"], "sum");
        assert!(chat.messages[2].is_untrained());
    }

    #[test]
    fn every_mistake_names_its_turn() {
        let cases = [
            (json!({"conversations": []}), "at least one turn"),
            (json!({"conversations": "hi"}), "a list of turns"),
            (json!({"conversations": [{"value": "a"}]}), "conversations[0].from"),
            (json!({"conversations": [{"from": "humen", "value": "a"}]}), "`humen` (`human` is there)"),
            (json!({"conversations": [{"from": "human", "role": "user", "value": "a"}]}), "both"),
            (json!({"conversations": [{"from": "gpt"}]}), "conversations[0].content"),
            (json!({"conversations": [{"from": "function_call", "value": "sum(1)"}]}), "the JSON of a call"),
            (json!({"conversations": [{"from": "system", "value": "a"}], "system": "b"}), "one system prompt"),
        ];
        for (value, said) in cases {
            let error = chat(value).unwrap_err();
            assert!(error.contains("rows.jsonl:3") && error.contains(said), "{error}");
        }
    }
}
