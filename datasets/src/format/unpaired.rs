//! Format `unpaired`: `{"prompt", "completion", "label"}`, an answer and whether it is good. `label` is true or false,
//! 1 or 0, or one of these as text. `{"prompt_ids", "completion_ids", "label"}` is the same in tokens, taken as they are;
//! where a row has these, its texts are not read.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use super::{preference, tokens};
use crate::error::DataError;
use crate::record::{Answered, Content, Judgement};
use crate::source::Row;

/// The keys of an answer in tokens.
pub(super) const IDS: [&str; 2] = ["prompt_ids", "completion_ids"];

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    let text = row.contains_key("prompt") && row.contains_key("completion");
    (text || is_in_tokens(row)) && row.get("label").and_then(judgement).is_some()
}

/// Whether the row's answer is written in tokens.
fn is_in_tokens(row: &Map<String, Value>) -> bool {
    IDS.into_iter().all(|key| row.get(key).is_some_and(Value::is_array))
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let answered = match row.object.contains_key("completion_ids") {
        true => {
            let [prompt, answer] = IDS.map(|key| tokens::ids(row, key));
            Answered::Tokens { prompt: prompt?, answer: answer? }
        }
        false => {
            let what = "a string or a list of messages";
            let prompt = required(row, "prompt", what)?;
            preference::answered(row, prompt, "completion", required(row, "completion", what)?)?
        }
    };
    let label = required(row, "label", "true or false")?;
    let judgement = judgement(label).ok_or_else(|| wrong(row, "label", "true or false, or 1 or 0", label))?;
    Ok(Content::Unpaired { answered, judgement })
}

fn judgement(value: &Value) -> Option<Judgement> {
    let good = match value {
        Value::Bool(good) => *good,
        Value::Number(number) if number.as_f64() == Some(1.0) => true,
        Value::Number(number) if number.as_f64() == Some(0.0) => false,
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "1.0" => true,
            "false" | "0" | "0.0" => false,
            _ => return None,
        },
        _ => return None,
    };
    Some(if good { Judgement::Good } else { Judgement::Bad })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn an_answer_in_tokens_is_taken_as_it_is() {
        let value = json!({"prompt_ids": [1, 2], "completion_ids": [3, 4], "label": false});
        assert!(fits(value.as_object().unwrap()));
        let Content::Unpaired { answered, judgement } = parse(&row(1, value)).unwrap() else { panic!("unpaired") };
        assert_eq!(judgement, Judgement::Bad);
        assert_eq!(answered, Answered::Tokens { prompt: vec![1, 2], answer: vec![3, 4] });
        let empty = json!({"prompt_ids": [1, 2], "completion_ids": [], "label": true});
        let error = parse(&row(7, empty)).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:7: expected `completion_ids` to hold a token id or more"), "{error}");
    }

    #[test]
    fn a_label_is_a_judgement() {
        for (label, expected) in [
            (json!(true), Judgement::Good),
            (json!(0), Judgement::Bad),
            (json!(1.0), Judgement::Good),
            (json!("False"), Judgement::Bad),
        ] {
            let Content::Unpaired { answered, judgement } =
                parse(&row(1, json!({"prompt": "p", "completion": "c", "label": label}))).unwrap()
            else {
                panic!("unpaired")
            };
            assert_eq!(judgement, expected);
            assert_eq!(answered, Answered::Plain { prompt: "p".into(), completion: "c".into() });
        }
        for bad in [json!(2), json!("good"), json!(null)] {
            let value = json!({"prompt": "p", "completion": "c", "label": bad});
            assert!(!fits(value.as_object().unwrap()));
            assert!(parse(&row(4, value)).unwrap_err().to_string().contains("rows.jsonl:4: expected `label`"));
        }
    }
}
