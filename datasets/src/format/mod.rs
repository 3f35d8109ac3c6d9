//! Data formats: [`decide`] chooses what the keys of a source's rows mean, and `parse` turns a row into a [`Record`].
//!
//! A format is one file with a function `fits` (do the keys look like it?) and a function `parse`, one variant of
//! [`Format`], and one arm in each match below.

mod alpaca;
mod keys;
mod messages;
mod preference;
mod prompt_completion;
mod sharegpt;
mod tensors;
mod text;
mod tokens;
mod unpaired;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::{BrokenRows, Format};
use crate::error::DataError;
use crate::record::Record;
use crate::reference::Reach;
use crate::source::{Row, shown};
use keys::keys;

/// The formats that `auto` chooses from.
const FORMATS: [Format; 9] = [
    Format::Messages,
    Format::ShareGpt,
    Format::Alpaca,
    Format::PromptCompletion,
    Format::Preference,
    Format::Unpaired,
    Format::Text,
    Format::Tokens,
    Format::Tensors,
];

/// The format of a source's rows, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The source's path, as written in the recipe.
    pub path: String,
    /// The format; never `auto`.
    pub format: Format,
    /// The reason, as a sentence for users.
    pub why: String,
}

/// Parses a row in a format other than `auto`; `reach` says which files it may name.
///
/// # Errors
/// When the row does not have that format; the error names the row, what was expected and what was found.
pub(crate) fn parse(format: Format, row: &Row, reach: Reach) -> Result<Record, DataError> {
    let content = match format {
        Format::Messages => messages::parse(row)?,
        Format::ShareGpt => sharegpt::parse(row)?,
        Format::Alpaca => alpaca::parse(row)?,
        Format::PromptCompletion => prompt_completion::parse(row)?,
        Format::Preference => preference::parse(row)?,
        Format::Unpaired => unpaired::parse(row)?,
        Format::Text => text::parse(row)?,
        Format::Tokens => tokens::parse(row)?,
        Format::Tensors => tensors::parse(row, reach)?,
        Format::Auto => {
            return Err(DataError::Config("the format `auto` must be decided before rows are read".into()));
        }
    };
    let weight = weight(row)?;
    Ok(Record { content, weight })
}

/// Decides the format of a source from its first rows. Where broken rows are skipped, a row that fits no format is
/// skipped.
///
/// # Errors
/// When a row fits no format, when it fits two, or when rows fit different formats.
pub fn decide(path: &str, asked: Format, rows: &[Row], broken: BrokenRows) -> Result<Decision, DataError> {
    let decision = |format, why: String| Decision { path: path.to_string(), format, why };
    if asked != Format::Auto {
        return Ok(decision(asked, "the recipe says so".into()));
    }
    let mut decided: Option<Format> = None;
    for row in rows {
        let refuse = |why: String| DataError::Format {
            path: row.location.path.to_path_buf(),
            why: format!("line {}: {why}", row.location.line),
        };
        let fitting: Vec<Format> = FORMATS.into_iter().filter(|format| fits(*format, &row.object)).collect();
        let format = match (fitting.as_slice(), decided) {
            // Where other rows have a format, this row is a broken one; `parse` will name it.
            ([], Some(_)) => continue,
            ([], None) if broken == BrokenRows::Skip => continue,
            ([], None) => {
                return Err(refuse(format!(
                    "no format fits a row with the keys {}; known are {}; columns of other names are given ours by \
                     `columns` in the recipe",
                    keys(&row.object),
                    FORMATS.map(wanted).join(", ")
                )));
            }
            ([one], None) => *one,
            ([one], Some(before)) if *one == before => before,
            ([one], Some(before)) => {
                return Err(refuse(format!(
                    "the rows before are `{before}`, this one is `{one}`; write the `format` of the source into \
                     the recipe, or split the file"
                )));
            }
            (several, _) => {
                let names: Vec<_> = several.iter().map(|format| format.name()).collect();
                return Err(refuse(format!(
                    "two formats fit ({}); write the `format` of the source into the recipe",
                    names.join(" and ")
                )));
            }
        };
        decided = Some(format);
    }
    match decided {
        Some(format) => Ok(decision(format, format!("the first {} rows have {}", rows.len(), wanted(format)))),
        None => {
            Err(DataError::Source { path: path.to_string(), why: "there is no row to decide the format from".into() })
        }
    }
}

fn fits(format: Format, row: &Map<String, Value>) -> bool {
    match format {
        Format::Auto => false,
        Format::Messages => messages::fits(row),
        Format::ShareGpt => sharegpt::fits(row),
        Format::Alpaca => alpaca::fits(row),
        Format::PromptCompletion => prompt_completion::fits(row) && !unpaired::fits(row),
        Format::Preference => preference::fits(row),
        Format::Unpaired => unpaired::fits(row),
        Format::Text => text::fits(row),
        Format::Tokens => tokens::fits(row),
        Format::Tensors => tensors::fits(row),
    }
}

fn wanted(format: Format) -> &'static str {
    match format {
        Format::Auto => "any",
        Format::Messages => "`messages` (a list)",
        Format::ShareGpt => "`conversations` (a list)",
        Format::Alpaca => "`instruction` and `output` (strings)",
        Format::PromptCompletion => "`prompt` and `completion`",
        Format::Preference => "`chosen` and `rejected`",
        Format::Unpaired => "`prompt`, `completion` and `label` (true or false)",
        Format::Text => "`text` (a string)",
        Format::Tokens => "`input_ids` (a list)",
        Format::Tensors => "`tensors` (the path of a file) and nothing else",
    }
}

/// The row's optional `weight`.
fn weight(row: &Row) -> Result<f32, DataError> {
    match row.object.get("weight") {
        None | Some(Value::Null) => Ok(1.0),
        Some(value) => match value.as_f64() {
            Some(weight) if weight.is_finite() && (0.0..=f64::from(f32::MAX)).contains(&weight) => Ok(weight as f32),
            _ => Err(DataError::row(&row.location, "`weight` to be a number that is not negative", shown(value))),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::location::Location;

    pub(crate) fn row(line: usize, value: Value) -> Row {
        let Value::Object(object) = value else { panic!("a row is an object") };
        Row { location: Location::new("rows.jsonl", line), object, bytes: 0 }
    }

    fn auto(values: &[Value]) -> Result<Decision, DataError> {
        let rows: Vec<_> = values.iter().enumerate().map(|(index, value)| row(index + 1, value.clone())).collect();
        decide("rows.jsonl", Format::Auto, &rows, BrokenRows::Stop)
    }

    #[test]
    fn auto_decides_and_says_why() {
        let cases = [
            (json!({"messages": [], "id": 3}), Format::Messages),
            (json!({"conversations": [], "id": 3}), Format::ShareGpt),
            (json!({"instruction": "a", "input": "", "output": "b"}), Format::Alpaca),
            (json!({"prompt": "a", "completion": "b"}), Format::PromptCompletion),
            (json!({"prompt": "a", "completion": "b", "label": 7}), Format::PromptCompletion),
            (json!({"prompt": "a", "completion": "b", "label": true}), Format::Unpaired),
            (json!({"prompt": "a", "chosen": "b", "rejected": "c"}), Format::Preference),
            (json!({"chosen": [], "rejected": []}), Format::Preference),
            (json!({"text": "a", "url": "b"}), Format::Text),
            (json!({"input_ids": [1, 2], "attention_mask": [1, 1]}), Format::Tokens),
            (json!({"tensors": "row.safetensors"}), Format::Tensors),
            (json!({"input_ids": [1, 2], "tensors": "row.safetensors"}), Format::Tokens),
        ];
        for (row, format) in cases {
            let decision = auto(&[row.clone(), row]).unwrap();
            assert_eq!(decision.format, format);
            assert!(decision.why.contains("first 2 rows"), "{}", decision.why);
        }
    }

    #[test]
    fn auto_refuses_two_formats_none_and_a_change() {
        let two = auto(&[json!({"text": "a", "messages": []})]).unwrap_err();
        assert!(two.to_string().contains("messages and text"), "{two}");
        let none = auto(&[json!({"question": "a"})]).unwrap_err();
        assert!(none.to_string().contains("`question`"), "{none}");
        let more = auto(&[json!({"tensors": "row.safetensors", "id": 1})]).unwrap_err();
        assert!(more.to_string().contains("no format fits"), "{more}");
        assert_eq!(auto(&[json!({"text": "a"}), json!({"text": 5})]).unwrap().format, Format::Text);
        let change = auto(&[json!({"text": "a"}), json!({"messages": []})]).unwrap_err();
        assert!(change.to_string().contains("line 2"), "{change}");
        let alpaca = auto(&[json!({"instruction": "a", "output": "b", "text": "a b"})]).unwrap_err();
        assert!(alpaca.to_string().contains("alpaca and text"), "{alpaca}");
        let skipping = [row(1, json!({"question": "a"})), row(2, json!({"text": "a"}))];
        assert!(decide("rows.jsonl", Format::Auto, &skipping, BrokenRows::Skip).is_ok());
        assert!(decide("rows.jsonl", Format::Auto, &skipping, BrokenRows::Stop).is_err());
        assert!(auto(&[]).is_err());
    }

    #[test]
    fn weight_must_be_a_number_that_is_not_negative() {
        let with = |weight: Value| parse(Format::Text, &row(4, json!({"text": "a", "weight": weight})), Reach::Below);
        assert_eq!(with(json!(0.5)).unwrap().weight, 0.5);
        assert_eq!(with(json!(null)).unwrap().weight, 1.0);
        for bad in [json!(-1), json!("1")] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:4") && error.contains("weight"), "{error}");
        }
    }
}
