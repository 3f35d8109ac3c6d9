//! Data formats: [`decide()`] chooses what the keys of a source's rows mean, and `read` turns a row into a [`Record`].
//!
//! A format is one file with a function `fits` (do the keys look like it?) and a function `parse`, one variant of
//! [`Format`], and one arm in each match below and in `decide`.

mod alpaca;
mod captioned;
mod decide;
mod image;
mod keys;
mod labelled;
mod media;
mod messages;
mod preference;
mod prompt_completion;
mod sharegpt;
pub mod suggest;
mod tensors;
mod text;
mod tokens;
mod unfold;
mod unpaired;
mod unread;

pub use decide::{Decision, decide, decide_pictured};
pub(crate) use unread::{Readers, Unread};

use serde_json::Value;

use crate::config::Format;
use crate::error::DataError;
use crate::location::Location;
use crate::record::{Content, Record};
use crate::reference::Reach;
use crate::source::{Row, shown};
use media::Media;

/// A row in the sense of its format.
pub(crate) struct Parsed {
    pub record: Record,
    pub location: Location,
    /// What stands in the row that a model of text does not see.
    pub media: Media,
    /// What nothing reads of the row.
    pub unread: Unread,
}

/// Parses a row in a format other than `auto`; `reach` says which files it may name, `readers` who else reads from it.
///
/// # Errors
/// As [`parse`]; also where a list is written as a text that is none.
pub(crate) fn read(format: Format, mut row: Row, reach: Reach, readers: Readers<'_>) -> Result<Parsed, DataError> {
    unfold::unfold(format, &mut row)?;
    let record = parse(format, &row, reach)?;
    let media = match record.content {
        // Rows of arrays hold what the model reads, whatever it is; a model of pictures sees theirs.
        Content::Tensors(_) | Content::Captioned { .. } | Content::Image(_) => Media::default(),
        Content::Labelled { ref content, .. } if matches!(**content, Content::Image(_)) => Media::default(),
        _ => Media::of(&row.object, |column| readers.recipe_reads(column)),
    };
    let mut unread = Unread::default();
    unread.add(format, &row.object, &record, &media, readers);
    Ok(Parsed { record, location: row.location, media, unread })
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
        Format::Labelled => labelled::parse(row, reach)?,
        Format::Captioned => captioned::parse(row, reach)?,
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

/// Whether a column that a row of this format needs is null, or an empty cell.
pub(crate) fn lacks_text(format: Format, row: &Row) -> bool {
    let needed: &[&str] = match format {
        Format::Messages => &["messages"],
        Format::ShareGpt => &["conversations"],
        Format::Alpaca => &["instruction", "output"],
        Format::PromptCompletion | Format::Unpaired => &["prompt", "completion"],
        Format::Preference => &["chosen", "rejected"],
        Format::Text | Format::Labelled | Format::Captioned => &["text"],
        Format::Tokens | Format::Tensors | Format::Auto => &[],
    };
    row.empty.iter().any(|(ours, _)| needed.contains(&ours.as_str()))
}

/// The row's optional `weight`.
fn weight(row: &Row) -> Result<f32, DataError> {
    match row.object.get("weight") {
        None | Some(Value::Null) => Ok(1.0),
        // In a table of text every cell is text.
        Some(value) => match value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()) {
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
        Row::new(Location::new("rows.jsonl", line), object, 0)
    }

    #[test]
    fn weight_must_be_a_number_that_is_not_negative() {
        let with = |weight: Value| parse(Format::Text, &row(4, json!({"text": "a", "weight": weight})), Reach::Below);
        assert_eq!(with(json!(0.5)).unwrap().weight, 0.5);
        assert_eq!(with(json!(null)).unwrap().weight, 1.0);
        assert_eq!(with(json!(" 0.5")).unwrap().weight, 0.5);
        for bad in [json!(-1), json!("-1"), json!("one"), json!("nan"), json!([1])] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:4") && error.contains("weight"), "{error}");
        }
    }
}
