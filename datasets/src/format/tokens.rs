//! Format `tokens`: `{"input_ids": [..], "labels": [..]}`, tokens that were made elsewhere and are not changed. Without
//! `labels` all are trained; -100 = not trained. A label stands at its own token, not at the token before it.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use crate::error::DataError;
use crate::record::Content;
use crate::source::Row;
use crate::tokens::NOT_TRAINED;

/// Batches hold ids as i32.
const LARGEST: i64 = i32::MAX as i64;

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.get("input_ids").is_some_and(Value::is_array)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let ids = integers(row, "input_ids", required(row, "input_ids", "a list")?, 0)?;
    let labels = match row.object.get("labels") {
        None | Some(Value::Null) => ids.clone(),
        Some(value) => integers(row, "labels", value, NOT_TRAINED)?,
    };
    if labels.len() != ids.len() {
        return Err(DataError::row(
            &row.location,
            format!("as many `labels` as `input_ids` ({})", ids.len()),
            format!("{} labels", labels.len()),
        ));
    }
    if let Some(label) = labels.iter().find(|label| (NOT_TRAINED + 1..0).contains(*label)) {
        return Err(DataError::row(&row.location, "`labels` to be token ids, or -100", label.to_string()));
    }
    Ok(Content::Tokens { input_ids: ids.into_iter().map(|id| id as u32).collect(), labels })
}

/// The token ids of a required key, of which there must be one or more.
pub(super) fn ids(row: &Row, key: &str) -> Result<Vec<u32>, DataError> {
    let ids = integers(row, key, required(row, key, "a list of token ids")?, 0)?;
    match ids.is_empty() {
        true => Err(DataError::row(&row.location, format!("`{key}` to hold a token id or more"), "an empty list")),
        false => Ok(ids.into_iter().map(|id| id as u32).collect()),
    }
}

fn integers(row: &Row, key: &str, value: &Value, least: i64) -> Result<Vec<i64>, DataError> {
    let what = "a list of token ids";
    let Value::Array(items) = value else {
        return Err(wrong(row, key, what, value));
    };
    items
        .iter()
        .map(|item| match item.as_i64() {
            Some(id) if (least..=LARGEST).contains(&id) => Ok(id),
            _ => Err(wrong(row, key, what, item)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    #[test]
    fn labels_are_taken_as_they_are_or_all() {
        let Content::Tokens { input_ids, labels } =
            parse(&row(1, json!({"input_ids": [5, 6, 7], "labels": [-100, 6, 9]}))).unwrap()
        else {
            panic!("tokens")
        };
        assert_eq!((input_ids, labels), (vec![5, 6, 7], vec![-100, 6, 9]));
        let all = parse(&row(1, json!({"input_ids": [5, 6]}))).unwrap();
        let Content::Tokens { labels, .. } = all else { panic!("tokens") };
        assert_eq!(labels, [5, 6]);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [
            json!({"input_ids": [1, -1]}),
            json!({"input_ids": [1.5]}),
            json!({"input_ids": [3_000_000_000u32]}),
            json!({"input_ids": "1 2"}),
            json!({"input_ids": [1, 2], "labels": [1]}),
            json!({"input_ids": [1, 2], "labels": [1, -7]}),
            json!({"labels": [1, -7]}),
        ] {
            let error = parse(&row(8, bad)).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:8"), "{error}");
        }
    }
}
