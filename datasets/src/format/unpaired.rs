//! Format `unpaired`: `{"prompt", "completion", "label"}`, an answer and whether it is good. `label` is true or false,
//! 1 or 0, or one of these as text.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use super::preference;
use crate::error::DataError;
use crate::record::{Content, Judgement};
use crate::source::Row;

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.contains_key("prompt") && row.contains_key("completion") && row.get("label").and_then(judgement).is_some()
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let what = "a string or a list of messages";
    let prompt = required(row, "prompt", what)?;
    let completion = required(row, "completion", what)?;
    let label = required(row, "label", "true or false")?;
    let judgement = judgement(label).ok_or_else(|| wrong(row, "label", "true or false, or 1 or 0", label))?;
    Ok(Content::Unpaired { answered: preference::answered(row, prompt, "completion", completion)?, judgement })
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
    use crate::record::Answered;

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
