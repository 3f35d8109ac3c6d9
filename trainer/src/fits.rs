//! Whether rows fit the model that is to read them.

use firebrand_datasets::Dataset;
use firebrand_models::transformer::DecoderConfig;

use crate::error::Error;

/// Every token id is in the vocabulary, and no row is longer than the model has positions for.
///
/// # Errors
/// The row with the largest id, or the longest one, if they are not.
pub fn check(dataset: &Dataset, model: &DecoderConfig) -> Result<(), Error> {
    let vocabulary = model.vocab_size;
    if let Some((id, location)) = dataset.largest_id().filter(|(id, _)| *id as usize >= vocabulary) {
        return Err(Error::Request {
            problem: format!("{location}: token id {id}, but the model's vocabulary has {vocabulary} tokens"),
            help: "the rows were tokenised for another model, or the tokenizer does not belong to these weights".into(),
        });
    }
    match (dataset.longest(), model.position_limit()) {
        (Some(row), Some(limit)) if dataset.length(row) > limit => Err(Error::Request {
            problem: format!(
                "{}: {} tokens, but the model has positions for {limit}",
                dataset.location(row),
                dataset.length(row)
            ),
            help: format!("its table of positions ends there: cut rows to at most {limit} tokens (max_length)"),
        }),
        _ => Ok(()),
    }
}
