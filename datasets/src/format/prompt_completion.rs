//! Format `prompt-completion`: `{"prompt", "completion"}`. Both are strings, which are joined without a template, or
//! lists of messages. A single string beside a list is the user's prompt or the assistant's completion.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use super::messages;
use crate::error::DataError;
use crate::record::{Chat, Content, Message, Role};
use crate::source::Row;

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    let fits = |key| row.get(key).is_some_and(|value: &Value| value.is_string() || value.is_array());
    fits("prompt") && fits("completion")
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let what = "a string or a list of messages";
    let prompt = required(row, "prompt", what)?;
    let completion = required(row, "completion", what)?;
    for (key, value) in [("prompt", prompt), ("completion", completion)] {
        if !value.is_string() && !value.is_array() {
            return Err(wrong(row, key, what, value));
        }
    }
    if let (Some(prompt), Some(completion)) = (prompt.as_str(), completion.as_str()) {
        return Ok(Content::Completion { prompt: prompt.to_string(), completion: completion.to_string() });
    }
    let side = |key: &str, value: &Value, role| match value.as_str() {
        Some(text) => Ok(vec![Message::new(role, text)]),
        None => messages::list(row, key, value),
    };
    let mut all = side("prompt", prompt, Role::User)?;
    let prompt_messages = all.len();
    let answers = side("completion", completion, Role::Assistant)?;
    if let Some(first) = answers.first().filter(|first| first.role != Role::Assistant) {
        return Err(DataError::row(
            &row.location,
            "`completion` to begin with an assistant message",
            format!("role `{}`", first.role),
        ));
    }
    all.extend(answers);
    Ok(Content::Chat(Chat { messages: all, tools: messages::tools(row)?, prompt_messages: Some(prompt_messages) }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn strings_stay_strings_and_messages_become_a_chat() {
        let strings = parse(&row(1, json!({"prompt": "2+2=", "completion": "4"}))).unwrap();
        assert_eq!(strings, Content::Completion { prompt: "2+2=".into(), completion: "4".into() });
        let mixed = json!({
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "completion": "a",
        });
        let Content::Chat(chat) = parse(&row(1, mixed)).unwrap() else { panic!("a chat") };
        assert_eq!(chat.prompt_messages, Some(2));
        assert_eq!(chat.messages[2], Message::new(Role::Assistant, "a"));
    }

    #[test]
    fn a_completion_must_begin_with_the_assistant() {
        let bad = json!({"prompt": "p", "completion": [{"role": "user", "content": "u"}]});
        let error = parse(&row(2, bad)).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:2") && error.contains("role `user`"), "{error}");
        let error = parse(&row(2, json!({"prompt": "p"}))).unwrap_err().to_string();
        assert!(error.contains("`completion`"), "{error}");
    }
}
