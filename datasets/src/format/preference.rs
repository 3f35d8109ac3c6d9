//! Format `preference`: `{"prompt", "chosen", "rejected"}`, a better and a worse answer, as strings or as messages.
//!
//! Without `prompt`, both answers are whole dialogues, and their common beginning is the prompt. Two strings have a
//! common prompt only where they are written with `\n\nHuman:` and `\n\nAssistant:`. Answers that repeat the prompt's
//! messages are also read.
//!
//! `{"prompt_ids", "chosen_ids", "rejected_ids"}` are the same in tokens, taken as they are. Where a row has these, its
//! texts are not read.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use super::{messages, tokens};
use crate::error::DataError;
use crate::record::{Answered, Chat, Content, Message, Role};
use crate::source::Row;

/// The text before each answer in a dialogue that is one string.
const ASSISTANT: &str = "\n\nAssistant:";
const WHAT: &str = "a string or a list of messages";
/// The keys of a pair in tokens.
pub(super) const IDS: [&str; 3] = ["prompt_ids", "chosen_ids", "rejected_ids"];

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    let fits =
        |key| row.get(key).is_some_and(|value: &Value| value.is_string() || value.is_array() || value.is_object());
    let is_list = |key: &str| row.get(key).is_some_and(Value::is_array);
    (fits("chosen") && fits("rejected")) || IDS.into_iter().all(is_list)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    if ["chosen_ids", "rejected_ids"].into_iter().any(|key| row.object.contains_key(key)) {
        let [prompt, chosen, rejected] = IDS.map(|key| tokens::ids(row, key));
        let prompt = prompt?;
        let chosen = Answered::Tokens { prompt: prompt.clone(), answer: chosen? };
        return Ok(Content::Preference { chosen, rejected: Answered::Tokens { prompt, answer: rejected? } });
    }
    let chosen = required(row, "chosen", WHAT)?;
    let rejected = required(row, "rejected", WHAT)?;
    let (chosen, rejected) = match (row.object.get("prompt"), chosen, rejected) {
        (Some(Value::String(prompt)), Value::String(chosen), Value::String(rejected)) => {
            let plain =
                |completion: &String| Answered::Plain { prompt: prompt.clone(), completion: completion.clone() };
            (plain(chosen), plain(rejected))
        }
        (None, Value::String(chosen), Value::String(rejected)) => {
            let (prompt, chosen, rejected) = split(row, chosen, rejected)?;
            let plain = |completion: &str| Answered::Plain { prompt: prompt.into(), completion: completion.into() };
            (plain(chosen), plain(rejected))
        }
        (prompt, chosen, rejected) => {
            let prompt = prompt.map(|prompt| side(row, "prompt", prompt, Role::User)).transpose()?;
            let chosen = side(row, "chosen", chosen, Role::Assistant)?;
            let rejected = side(row, "rejected", rejected, Role::Assistant)?;
            dialogues(row, prompt, chosen, rejected)?
        }
    };
    Ok(Content::Preference { chosen, rejected })
}

/// The prompt and the answer of a row with one answer; `key` is the answer's key, for messages.
pub(super) fn answered(row: &Row, prompt: &Value, key: &str, answer: &Value) -> Result<Answered, DataError> {
    if let (Some(prompt), Some(completion)) = (prompt.as_str(), answer.as_str()) {
        return Ok(Answered::Plain { prompt: prompt.into(), completion: completion.into() });
    }
    let prompt = side(row, "prompt", prompt, Role::User)?;
    let answer = side(row, key, answer, Role::Assistant)?;
    joined(row, key, &prompt, answer, messages::tools(row)?)
}

fn side(row: &Row, key: &str, value: &Value, role: Role) -> Result<Vec<Message>, DataError> {
    match value {
        Value::String(text) => Ok(vec![Message::new(role, text)]),
        Value::Array(_) | Value::Object(_) => messages::one_or_list(row, key, value),
        other => Err(wrong(row, key, WHAT, other)),
    }
}

fn dialogues(
    row: &Row,
    prompt: Option<Vec<Message>>,
    chosen: Vec<Message>,
    rejected: Vec<Message>,
) -> Result<(Answered, Answered), DataError> {
    let tools = messages::tools(row)?;
    let alike = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
    let common = &chosen[..alike];
    // The prompt ends after the last common message that is not the assistant's, so equal answers stay answers.
    let last = common.iter().rposition(|message| message.role != Role::Assistant).map_or(0, |index| index + 1);
    let prompt = match prompt {
        Some(prompt) if common.starts_with(&prompt) => chosen[..last.max(prompt.len())].to_vec(),
        // `prompt` holds the text of the first question, and both answers are whole dialogues that begin with it.
        Some(prompt) if alike > 0 && prompt.len() == 1 && asks(common, &prompt[0]) => common[..last].to_vec(),
        Some(prompt) => {
            let prompt_and = |answer, key| joined(row, key, &prompt, answer, tools.clone());
            return Ok((prompt_and(chosen, "chosen")?, prompt_and(rejected, "rejected")?));
        }
        None if last == 0 => {
            let expected = "`prompt`, or dialogues in `chosen` and `rejected` that begin alike";
            return Err(DataError::row(&row.location, expected, "neither"));
        }
        None => common[..last].to_vec(),
    };
    let rest = |whole: Vec<Message>, key| joined(row, key, &prompt, whole[prompt.len()..].to_vec(), tools.clone());
    Ok((rest(chosen, "chosen")?, rest(rejected, "rejected")?))
}

/// Whether one of `messages` has the role and the text of `prompt`.
fn asks(messages: &[Message], prompt: &Message) -> bool {
    messages.iter().any(|message| message.role == prompt.role && message.content() == prompt.content())
}

fn joined(
    row: &Row,
    key: &str,
    prompt: &[Message],
    answer: Vec<Message>,
    tools: Option<Vec<Value>>,
) -> Result<Answered, DataError> {
    match answer.first() {
        Some(first) if first.role == Role::Assistant => {
            let messages = prompt.iter().cloned().chain(answer).collect();
            Ok(Answered::Chat(Chat { messages, tools, prompt_messages: Some(prompt.len()) }))
        }
        first => {
            let found = first.map_or("nothing".to_string(), |first| format!("role `{}`", first.role));
            let expected = format!("an assistant message in `{key}` after the prompt");
            Err(DataError::row(&row.location, expected, found))
        }
    }
}

/// Splits two dialogues, each one string, into their common prompt and the two answers.
fn split<'t>(row: &Row, chosen: &'t str, rejected: &'t str) -> Result<(&'t str, &'t str, &'t str), DataError> {
    let alike = chosen.bytes().zip(rejected.bytes()).take_while(|(left, right)| left == right).count();
    let alike = (0..=alike).rev().find(|at| chosen.is_char_boundary(*at)).unwrap_or(0);
    match chosen[..alike].rfind(ASSISTANT) {
        Some(at) => {
            let end = at + ASSISTANT.len();
            Ok((&chosen[..end], &chosen[end..], &rejected[end..]))
        }
        None => {
            let expected = "`prompt`, or dialogues that begin alike and have `\\n\\nAssistant:` before the answers";
            Err(DataError::row(&row.location, expected, "two strings"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn pair(value: Value) -> Result<(Answered, Answered), String> {
        match parse(&row(3, value)) {
            Ok(Content::Preference { chosen, rejected }) => Ok((chosen, rejected)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The texts of the prompt and of the answer.
    fn shown(answered: &Answered) -> (String, String) {
        match answered {
            Answered::Plain { prompt, completion } => (prompt.clone(), completion.clone()),
            Answered::Tokens { prompt, answer } => (format!("{prompt:?}"), format!("{answer:?}")),
            Answered::Chat(chat) => {
                let (prompt, answer) = chat.messages.split_at(chat.prompt_messages.unwrap());
                let text = |messages: &[Message]| {
                    let said =
                        messages.iter().map(|message| format!("{}:{}", message.role, message.content().unwrap()));
                    said.collect::<Vec<_>>().join("|")
                };
                (text(prompt), text(answer))
            }
        }
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn assistant(text: &str) -> Value {
        json!({"role": "assistant", "content": text})
    }

    #[test]
    fn each_way_to_write_a_pair_is_read() {
        let chat = ("user:q", "assistant:a", "assistant:b");
        let cases = [
            (json!({"prompt": "q", "chosen": "a", "rejected": "b"}), ("q", "a", "b")),
            (json!({"prompt": [user("q")], "chosen": [assistant("a")], "rejected": "b"}), chat),
            (json!({"prompt": "q", "chosen": assistant("a"), "rejected": assistant("b")}), chat),
            (json!({"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}), chat),
            // A prompt beside whole dialogues.
            (
                json!({"prompt": "q", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}),
                chat,
            ),
            (
                json!({"chosen": "\n\nHuman: q\n\nAssistant: abc", "rejected": "\n\nHuman: q\n\nAssistant: abd"}),
                ("\n\nHuman: q\n\nAssistant:", " abc", " abd"),
            ),
            // Earlier answers belong to the prompt; the last answers do not, even when they are equal.
            (
                json!({"chosen": [user("p"), assistant("o"), user("q"), assistant("a")],
                    "rejected": [user("p"), assistant("o"), user("q"), assistant("a")]}),
                ("user:p|assistant:o|user:q", "assistant:a", "assistant:a"),
            ),
        ];
        for (value, (prompt, good, bad)) in cases {
            let (chosen, rejected) = pair(value.clone()).unwrap();
            assert_eq!(shown(&chosen), (prompt.into(), good.into()), "{value}");
            assert_eq!(shown(&rejected), (prompt.into(), bad.into()), "{value}");
        }
    }

    #[test]
    fn a_pair_in_tokens_is_taken_as_it_is() {
        let value = json!({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5], "chosen": "not read"});
        assert!(fits(value.as_object().unwrap()));
        let tokens = |answer: &[u32]| Answered::Tokens { prompt: vec![1, 2], answer: answer.to_vec() };
        assert_eq!(pair(value).unwrap(), (tokens(&[3]), tokens(&[4, 5])));
        for (key, bad, said) in [
            ("prompt_ids", json!([]), "`prompt_ids` to hold a token id or more, found an empty list"),
            ("chosen_ids", json!([]), "`chosen_ids` to hold a token id or more"),
            ("rejected_ids", json!([-1]), "`rejected_ids` to be a list of token ids"),
            ("rejected_ids", json!("5"), "`rejected_ids` to be a list of token ids"),
        ] {
            let mut value = json!({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]});
            value[key] = bad;
            let error = pair(value).unwrap_err();
            assert!(error.contains("rows.jsonl:3") && error.contains(said), "{error}");
        }
        let error = pair(json!({"prompt_ids": [1], "chosen_ids": [3]})).unwrap_err();
        assert!(error.contains("expected `rejected_ids`"), "{error}");
    }

    #[test]
    fn what_is_no_pair_says_what_is_missing() {
        for (value, said) in [
            (json!({"prompt": "q", "chosen": "a"}), "`rejected`"),
            (json!({"chosen": "a", "rejected": "b"}), "`prompt`"),
            (json!({"chosen": [assistant("a")], "rejected": [assistant("b")]}), "begin alike"),
            (json!({"prompt": "q", "chosen": [user("a")], "rejected": "b"}), "an assistant message in `chosen`"),
            (json!({"prompt": "q", "chosen": [user("q")], "rejected": [user("q")]}), "nothing"),
            (json!({"prompt": 5, "chosen": "a", "rejected": "b"}), "`prompt` to be"),
        ] {
            let error = pair(value).unwrap_err();
            assert!(error.contains("rows.jsonl:3") && error.contains(said), "{error}");
        }
    }
}
