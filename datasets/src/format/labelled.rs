//! Format `labelled`: what is read and its label, `{"text", "label"}`. In place of `text` stand `messages`, `prompt` with
//! `completion`, `input_ids`, which are taken as they are, or `image` (or `file_name`), a picture. A label is the name or number of a class, a list of them,
//! or a value. What names and numbers mean is decided when all rows were read ([`crate::Classes`]).

use serde_json::Value;

use super::keys::{found, required, wrong};
use super::{image, messages, preference, text, tokens};
use crate::error::DataError;
use crate::label::{Class, Label};
use crate::record::Content;
use crate::reference::Reach;
use crate::source::{Row, read_as};

pub(super) fn parse(row: &Row, reach: Reach) -> Result<Content, DataError> {
    let has = |key: &str| row.object.contains_key(key);
    let content = if has("input_ids") {
        let input_ids = tokens::ids(row, "input_ids")?;
        let labels = vec![crate::tokens::NOT_TRAINED; input_ids.len()];
        Content::Tokens { input_ids, labels }
    } else if has("messages") {
        messages::parse(row)?
    } else if has("prompt") && has("completion") {
        let what = "a string or a list of messages";
        let (prompt, completion) = (required(row, "prompt", what)?, required(row, "completion", what)?);
        preference::answered(row, prompt, "completion", completion)?.into()
    } else if !has("text") && image::is_in(&row.object) {
        if row.object.contains_key("weight") {
            return Err(DataError::row(&row.location, "a labelled picture without `weight`", "one"));
        }
        Content::Image(image::read(row, reach)?)
    } else {
        text::parse(row)?
    };
    let label = row.object.get("label").filter(|label| !label.is_null());
    let label = label.map(|label| read(row, label)).transpose()?;
    Ok(Content::Labelled { content: Box::new(content), label })
}

fn read(row: &Row, value: &Value) -> Result<Label, DataError> {
    let what = "a name, a number, or a list of them";
    let class = |value: &Value| match value {
        Value::String(name) => Some(of_text(row, name)),
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()).map(Class::Number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(items) => {
            let classes = items.iter().map(|item| {
                class(item).ok_or_else(|| {
                    DataError::row(&row.location, "`label` to be a list of names or numbers", found(item))
                })
            });
            Ok(Label::Several(classes.collect::<Result<_, _>>()?))
        }
        value => class(value).map(Label::One).ok_or_else(|| wrong(row, "label", what, value)),
    }
}

/// A class that is written as text. In a table of text every cell is text, so a number is one there.
fn of_text(row: &Row, text: &str) -> Class {
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match (number, read_as(&row.location.path)) {
        (Some(number), "csv" | "tsv") => Class::Number(number),
        _ => Class::Name(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn parsed(value: Value) -> Result<(Content, Option<Label>), String> {
        match parse(&row(4, value), Reach::Below) {
            Ok(Content::Labelled { content, label }) => Ok((*content, label)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_read_and_its_label_are_told_apart() {
        let one = |class| Some(Label::One(class));
        let (content, label) = parsed(json!({"text": "a", "label": "good"})).unwrap();
        assert_eq!((content, label), (Content::Text("a".into()), one(Class::Name("good".into()))));
        let (content, label) = parsed(json!({"input_ids": [5, 6], "label": 2})).unwrap();
        assert_eq!(content, Content::Tokens { input_ids: vec![5, 6], labels: vec![-100, -100] });
        assert_eq!(label, one(Class::Number(2.0)));
        let (content, label) = parsed(json!({"prompt": "a", "completion": "b", "label": [1, "x"]})).unwrap();
        assert_eq!(content, Content::Completion { prompt: "a".into(), completion: "b".into() });
        assert_eq!(label, Some(Label::Several(vec![Class::Number(1.0), Class::Name("x".into())])));
        let (content, label) = parsed(json!({"messages": [{"role": "user", "content": "a"}], "label": -0.5})).unwrap();
        assert!(matches!(content, Content::Chat(_)) && label == one(Class::Number(-0.5)));
        assert_eq!(parsed(json!({"text": "a"})).unwrap().1, None);
        assert_eq!(parsed(json!({"text": "a", "label": null})).unwrap().1, None);
    }

    #[test]
    fn what_is_no_labelled_row_is_refused_by_row() {
        for (value, said) in [
            (json!({"input_ids": [], "label": 1}), "a token id or more"),
            (json!({"input_ids": [-1], "label": 1}), "token ids"),
            (json!({"label": 1}), "`text`"),
            (json!({"text": "a", "label": true}), "`label` to be a name"),
            (json!({"text": "a", "label": {"a": 1}}), "`label` to be a name"),
            (json!({"text": "a", "label": ["a", null]}), "list of names or numbers"),
        ] {
            let error = parsed(value).unwrap_err();
            assert!(error.contains("rows.jsonl:4") && error.contains(said), "{error}");
        }
    }
}
