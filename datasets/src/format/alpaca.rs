//! Format `alpaca`: `{"instruction", "input", "output"}`, as in Stanford's Alpaca (Taori et al. 2023). A row becomes a
//! dialogue of one round, with the input below the instruction on its own line. Optional keys are `history`, earlier
//! rounds as pairs of texts, and `system`.
//!
//! The chat template renders such rows as any dialogue; `template = "alpaca"` writes the prompts of the original.

use serde_json::{Map, Value};

use super::keys::{optional_text, required_text, wrong};
use crate::error::DataError;
use crate::record::{Chat, Content, Message, Role};
use crate::source::Row;

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    let is_text = |key| row.get(key).is_some_and(Value::is_string);
    is_text("instruction") && is_text("output")
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let mut messages = Vec::new();
    if let Some(system) = optional_text(row, "system")?.filter(|system| !system.is_empty()) {
        messages.push(Message::new(Role::System, system));
    }
    if let Some(history) = row.object.get("history") {
        let what = "a list of pairs of texts";
        let rounds = history.as_array().ok_or_else(|| wrong(row, "history", what, history))?;
        for round in rounds {
            match round.as_array().map(Vec::as_slice) {
                Some([Value::String(asked), Value::String(answered)]) => {
                    messages.push(Message::new(Role::User, asked));
                    messages.push(Message::new(Role::Assistant, answered));
                }
                _ => return Err(wrong(row, "history", what, round)),
            }
        }
    }
    let instruction = required_text(row, "instruction")?;
    let asked = match optional_text(row, "input")?.filter(|input| !input.is_empty()) {
        Some(input) => format!("{instruction}\n{input}"),
        None => instruction.to_string(),
    };
    messages.push(Message::new(Role::User, asked));
    // An empty cell of a table is an absent key; the gate counts the answers without text.
    messages.push(Message::new(Role::Assistant, optional_text(row, "output")?.unwrap_or_default()));
    Ok(Content::Chat(Chat { messages, tools: None, prompt_messages: None }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn a_row_is_a_dialogue() {
        let value = json!({
            "instruction": "Add.", "input": "1 1", "output": "2", "system": "s", "history": [["q", "a"]],
        });
        let Content::Chat(chat) = parse(&row(1, value)).unwrap() else { panic!("a chat") };
        let said: Vec<_> = chat.messages.iter().map(|message| (message.role, message.content().unwrap())).collect();
        assert_eq!(
            said,
            [
                (Role::System, "s"),
                (Role::User, "q"),
                (Role::Assistant, "a"),
                (Role::User, "Add.\n1 1"),
                (Role::Assistant, "2"),
            ]
        );
        let bare = json!({"instruction": "Say A.", "input": "", "output": "A"});
        let Content::Chat(chat) = parse(&row(1, bare)).unwrap() else { panic!("a chat") };
        assert_eq!(chat.messages[0].content(), Some("Say A."));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bad in [
            json!({"output": "2"}),
            json!({"instruction": 1, "output": "2"}),
            json!({"instruction": "a", "output": ["2"]}),
            json!({"instruction": "a", "output": "2", "history": [["q"]]}),
            json!({"instruction": "a", "output": "2", "history": "q"}),
        ] {
            assert!(parse(&row(8, bad)).unwrap_err().to_string().contains("rows.jsonl:8"));
        }
    }
}
