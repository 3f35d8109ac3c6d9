//! Whether rows fit the model that is to read them, and the objective that is to learn from them.

use firebrand_datasets::{Dataset, Format};
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

/// The objective `sft` learns what rows say: it has no use for answers that somebody judged.
///
/// # Errors
/// A source of pairs, or of answers with a label.
pub fn check_objective(dataset: &Dataset) -> Result<(), Error> {
    for decision in &dataset.decisions {
        let (holds, help) = match decision.format {
            Format::Preference => (
                "preference pairs",
                "to train on the better answers, give the source format = \"prompt-completion\" and \
                 columns = { prompt = \"prompt\", completion = \"chosen\" }",
            ),
            Format::Unpaired => {
                ("answers labelled good or bad", "to train on the good answers, take only those, without their label")
            }
            Format::Tensors => {
                ("rows of tensors", "what trains on them is another objective and another kind of model")
            }
            Format::Auto
            | Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Text
            | Format::Tokens => continue,
        };
        return Err(Error::Request {
            problem: format!("objective sft trains on dialogues and text; {} holds {holds}", decision.path),
            help: help.into(),
        });
    }
    Ok(())
}
