//! The choice of a format: [`decide`] looks at the keys of a source's first rows, and says what does not fit where none
//! does.

use serde::Serialize;
use serde_json::{Map, Value};

use super::keys::keys;
use super::{
    alpaca, captioned, messages, preference, prompt_completion, sharegpt, suggest, tensors, text, tokens, unfold,
    unpaired,
};
use crate::config::Format;
use crate::error::DataError;
use crate::source::{Row, kind, shown};

/// The formats that `auto` chooses from. A label beside a text is often there and not meant, so `labelled` is chosen by who
/// learns from labels.
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

/// Decides the format of a source from its first rows. A row that fits no format is a broken row where others have one,
/// and where its columns are those of a format and only their values are not.
///
/// # Errors
/// When no row fits a format, when one fits two, or when rows fit different formats.
pub fn decide(path: &str, asked: Format, rows: &[Row]) -> Result<Decision, DataError> {
    let decision = |format, why: String| Decision { path: path.to_string(), format, why };
    if asked != Format::Auto {
        return Ok(decision(asked, "the recipe says so".into()));
    }
    let refuse = |row: &Row, why: String| DataError::Format {
        path: row.location.path.to_path_buf(),
        why: format!("line {}: {why}", row.location.line),
    };
    let mut decided: Option<Format> = None;
    for row in rows {
        let format = match (fitting(row).as_slice(), decided) {
            // `parse` names it where other rows have a format.
            ([], _) => continue,
            ([one], None) => *one,
            ([one], Some(before)) if *one == before => before,
            ([one], Some(before)) => {
                return Err(refuse(
                    row,
                    format!(
                        "the rows before are `{before}`, this one is `{one}`; write the `format` of the source into the \
                         recipe, or split the file"
                    ),
                ));
            }
            (several, _) => return Err(refuse(row, two(several))),
        };
        decided = Some(format);
    }
    if let Some(format) = decided {
        return Ok(decision(format, format!("the first {} rows have {}", rows.len(), wanted(format))));
    }
    let Some(row) = rows.first() else {
        return Err(DataError::Source {
            path: path.to_string(),
            why: "there is no row to decide the format from".into(),
        });
    };
    let named: Vec<Format> = FORMATS.into_iter().filter(|format| has_columns(*format, row)).collect();
    match named.as_slice() {
        [one] => Ok(decision(*one, format!("the first rows have the columns of {}", wanted(*one)))),
        [] => Err(refuse(row, none(row))),
        several => Err(refuse(row, format!("{}: {}", two(several), values(&row.object)))),
    }
}

/// As [`decide`] for a model that reads pictures: rows with a picture are captioned if it reads captions, else labelled.
///
/// # Errors
/// As [`decide`].
pub fn decide_pictured(path: &str, asked: Format, rows: &[Row], captions: bool) -> Result<Decision, DataError> {
    let pictured = rows.iter().filter(|row| captioned::fits(&row.object)).count();
    let reads = if captions { "pictures and captions" } else { "pictures" };
    match asked == Format::Auto && pictured > 0 {
        true => Ok(Decision {
            path: path.to_string(),
            format: if captions { Format::Captioned } else { Format::Labelled },
            why: format!("{pictured} of the first {} rows have a picture, and the model reads {reads}", rows.len()),
        }),
        false => decide(path, asked, rows),
    }
}

/// The formats that a row fits as it stands; where it fits none, those that it fits with the lists in its texts.
fn fitting(row: &Row) -> Vec<Format> {
    let plain: Vec<Format> = FORMATS.into_iter().filter(|format| fits(*format, &row.object)).collect();
    if !plain.is_empty() {
        return plain;
    }
    let unfolds = |format: &Format| {
        let mut unfolded = row.clone();
        match unfold::unfold(*format, &mut unfolded) {
            Ok(()) => fits(*format, &unfolded.object),
            // What should be a list and is none is a broken row of that format.
            Err(_) => has_columns(*format, row),
        }
    };
    FORMATS.into_iter().filter(unfolds).collect()
}

fn two(several: &[Format]) -> String {
    let names: Vec<_> = several.iter().map(|format| format.name()).collect();
    format!("two formats fit ({}); write the `format` of the source into the recipe", names.join(" and "))
}

/// Why no format fits, with the line that names the columns where their names tell.
fn none(row: &Row) -> String {
    let formats = FORMATS.map(wanted).join(", ");
    let said = match suggest::columns(&row.object) {
        Some(found) => {
            format!("if they are {}, add to the source: {}\n(formats have {formats})", found.meaning, found.line())
        }
        None => format!(
            "formats have {formats}; columns of other names are given ours by `columns` of the source, as in columns = {{ \
             text = \"{}\" }}",
            row.object.keys().next().map_or("theirs", String::as_str)
        ),
    };
    format!("no format fits a row with the keys {}; {said}", keys(&row.object))
}

/// The values of a row with their types, for a message.
fn values(row: &Map<String, Value>) -> String {
    let all: Vec<String> =
        row.iter().map(|(key, value)| format!("`{key}` is {} ({})", kind(value), shown(value))).collect();
    all.join(", ")
}

/// Whether a row has the columns of a format, whatever their values are.
fn has_columns(format: Format, row: &Row) -> bool {
    let has = |key: &str| row.object.contains_key(key) || row.empty.iter().any(|(ours, _)| ours == key);
    let all = |keys: &[&str]| keys.iter().all(|key| has(key));
    match format {
        Format::Auto => false,
        Format::Messages => all(&["messages"]),
        Format::ShareGpt => all(&["conversations"]),
        Format::Alpaca => all(&["instruction", "output"]),
        // With a label it may be an answer that is judged, but its completion is trained on either way.
        Format::PromptCompletion => all(&["prompt", "completion"]),
        Format::Preference => all(&["chosen", "rejected"]) || all(&preference::IDS),
        Format::Unpaired => all(&unpaired::IDS),
        // Chosen by who reads pictures.
        Format::Labelled | Format::Captioned => false,
        Format::Text => all(&["text"]),
        Format::Tokens => all(&["input_ids"]),
        Format::Tensors => all(&["tensors"]) && row.object.keys().all(|key| key == "tensors" || key == "source"),
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
        Format::Labelled | Format::Captioned => false,
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
        Format::Preference => "`chosen` and `rejected` (or `prompt_ids`, `chosen_ids` and `rejected_ids`)",
        Format::Unpaired => "`prompt`, `completion` (or `prompt_ids`, `completion_ids`) and `label` (true or false)",
        Format::Labelled => "`label` beside `text`, `messages`, `prompt` and `completion`, `input_ids`, or `image`",
        Format::Captioned => "`image` (or `file_name`) and `text`",
        Format::Text => "`text` (a string)",
        Format::Tokens => "`input_ids` (a list)",
        Format::Tensors => "`tensors` (the path of a file) and nothing else",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn auto(values: &[Value]) -> Result<Decision, DataError> {
        let rows: Vec<_> = values.iter().enumerate().map(|(index, value)| row(index + 1, value.clone())).collect();
        decide("rows.jsonl", Format::Auto, &rows)
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
            (json!({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]}), Format::Preference),
            (json!({"prompt_ids": [1], "completion_ids": [2], "label": false}), Format::Unpaired),
            (json!({"text": "a", "url": "b"}), Format::Text),
            (json!({"input_ids": [1, 2], "attention_mask": [1, 1]}), Format::Tokens),
            (json!({"tensors": "row.safetensors"}), Format::Tensors),
            (json!({"tensors": "row.safetensors", "source": {"file": "a", "line": 1}}), Format::Tensors),
            (json!({"input_ids": [1, 2], "tensors": "row.safetensors"}), Format::Tokens),
        ];
        for (row, format) in cases {
            let decision = auto(&[row.clone(), row]).unwrap();
            assert_eq!(decision.format, format);
            assert!(decision.why.contains("first 2 rows"), "{}", decision.why);
        }
    }

    #[test]
    fn lists_as_json_text_decide_where_nothing_else_does() {
        let talk = json!([{"role": "user", "content": "a"}]).to_string();
        let turns = json!([{"from": "human", "value": "a"}]).to_string();
        for (row, format) in [
            (json!({"messages": talk}), Format::Messages),
            (json!({"messages": "[{'role': 'user'}]"}), Format::Messages),
            (json!({"messages": "[{\"role\""}), Format::Messages),
            (json!({"conversations": turns}), Format::ShareGpt),
            (json!({"chosen": talk, "rejected": talk}), Format::Preference),
            (json!({"input_ids": "[1, 2]"}), Format::Tokens),
            // Text beside it is text.
            (json!({"text": "a", "messages": talk}), Format::Text),
        ] {
            assert_eq!(auto(std::slice::from_ref(&row)).unwrap().format, format, "{row}");
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
        // Without a label it is a broken row of judged answers.
        let unlabelled = json!({"prompt_ids": [1], "completion_ids": [2]});
        assert_eq!(auto(&[unlabelled]).unwrap().format, Format::Unpaired);
        let change = auto(&[json!({"text": "a"}), json!({"messages": []})]).unwrap_err();
        assert!(change.to_string().contains("line 2"), "{change}");
        let alpaca = auto(&[json!({"instruction": "a", "output": "b", "text": "a b"})]).unwrap_err();
        assert!(alpaca.to_string().contains("alpaca and text"), "{alpaca}");
        let skipping = [row(1, json!({"question": "a"})), row(2, json!({"text": "a"}))];
        // The first row is a broken one of the format that the others have.
        assert_eq!(decide("rows.jsonl", Format::Auto, &skipping).unwrap().format, Format::Text);
        assert!(auto(&[]).is_err());
    }
}
