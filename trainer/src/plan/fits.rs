//! Checks that rows fit the model, [`check`] and [`beyond_positions`], and the objective, [`check_objective`].

use firebrand_datasets::{Check, Dataset, ExampleContent, Finding, Format, Location, RowKind, Split, Tokenizer};
use firebrand_models::towers::Towers;
use firebrand_models::{Model, TokenLimits};

use crate::error::Error;
use crate::objective::check_row;
use crate::recipe::ObjectiveRecipe;

/// Checks that the model can read every row: token ids are in its vocabulary, rows are not longer than its number of
/// positions, and tensors have its shapes.
///
/// # Errors
/// A row that it cannot read.
pub fn check(dataset: &Dataset, model: &Model, tokenizer: Option<&Tokenizer>) -> Result<(), Error> {
    match (dataset.kind(), model.network().token_limits(), model.network().towers()) {
        (RowKind::Tokens, Some(limits), _) => check_tokens(dataset, limits, tokenizer),
        (RowKind::Tensors, _, Some(towers)) => check_pairs(dataset, towers),
        (RowKind::Tokens, None, _) => Err(other_rows(dataset, model, RowKind::Tensors)),
        (RowKind::Tensors, _, None) => Err(other_rows(dataset, model, RowKind::Tokens)),
    }
}

fn other_rows(dataset: &Dataset, model: &Model, reads: RowKind) -> Error {
    let kind = dataset.kind();
    Error::Request {
        problem: format!(
            "{}: these are {kind}; a model of type {} reads {reads}",
            dataset.location(0),
            model.family().name()
        ),
        help: format!("docs/data.md shows {reads}"),
    }
}

/// The error names the row with the largest id, or the longest row.
fn check_tokens(dataset: &Dataset, limits: TokenLimits, tokenizer: Option<&Tokenizer>) -> Result<(), Error> {
    let vocabulary = limits.vocab_size;
    if let Some((id, location)) = dataset.largest_id().filter(|(id, _)| *id as usize >= vocabulary) {
        return Err(outside(id, &location, vocabulary, tokenizer));
    }
    let positions = dataset.most_positions();
    match (dataset.longest(), limits.positions) {
        (_, Some(limit)) if dataset.documents().is_joined() && positions > limit => Err(Error::Request {
            problem: format!(
                "packs of joined documents may be {positions} tokens long, but the model has positions for {limit}"
            ),
            help: format!("its table of positions ends there: pack at most {limit} tokens (max_length)"),
        }),
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

/// The error for an id that the model has no row for: either the tokenizer knows it, and the model was not enlarged with
/// it, or the ids are of another tokenizer.
fn outside(id: u32, location: &Location, vocabulary: usize, tokenizer: Option<&Tokenizer>) -> Error {
    let known = tokenizer.and_then(|tokenizer| Some((tokenizer.id_to_token(id)?, tokenizer.id_limit())));
    match known {
        Some((token, tokens)) => Error::Request {
            problem: format!(
                "{location}: token id {id} ({token:?}): the tokenizer has {tokens} tokens, the model rows for {vocabulary}"
            ),
            help:
                "tokens were added to the tokenizer and the model was not enlarged: add a [vocabulary] section to the \
                   recipe, which trains the missing rows, or write an enlarged model with `firebrand enlarge`"
                    .into(),
        },
        None => Error::Request {
            problem: format!("{location}: token id {id}, but the model's vocabulary has {vocabulary} tokens"),
            help: "the rows were tokenised for another model, or the tokenizer does not belong to these weights".into(),
        },
    }
}

/// The finding that some rows are longer than what the model was trained on. They can be computed, with positions that
/// the model never saw.
pub fn beyond_positions(dataset: &Dataset, split: Split, model: &Model) -> Option<Finding> {
    let limits = model.network().token_limits().filter(|_| dataset.kind() == RowKind::Tokens)?;
    let limit = limits.unscaled_positions?;
    if dataset.documents().is_joined() {
        let positions = dataset.most_positions();
        return (positions > limit).then(|| Finding {
            check: Check::BeyondPositions,
            split,
            count: dataset.len(),
            of: dataset.len(),
            message: format!(
                "joined to packs of up to {positions} tokens, more than the {limit} positions the model was trained on \
                 (max_position_embeddings): positions beyond are new to the model; pack fewer with data.max_length = {limit}, \
                 or scale its positions (rope_scaling in config.json)"
            ),
            examples: vec![],
        });
    }
    let longest = dataset.longest().filter(|row| dataset.length(*row) > limit)?;
    let beyond = || (0..dataset.len()).filter(|row| dataset.length(*row) > limit);
    Some(Finding {
        check: Check::BeyondPositions,
        split,
        count: beyond().count(),
        of: dataset.len(),
        message: format!(
            "longer than the {limit} positions the model was trained on (max_position_embeddings), the longest with {} \
             tokens at {}: positions beyond are new to the model; cut rows with data.max_length = {limit}, or scale its \
             positions (rope_scaling in config.json)",
            dataset.length(longest),
            dataset.location(longest),
        ),
        examples: beyond().take(EXAMPLES).map(|row| dataset.location(row)).collect(),
    })
}

/// Rows that a finding names.
const EXAMPLES: usize = 3;

/// The error names the first row whose tensors are not those of a pair.
fn check_pairs(dataset: &Dataset, towers: &Towers) -> Result<(), Error> {
    for example in dataset.examples() {
        let example = example?;
        let ExampleContent::Tensors(file) = &example.content else { continue };
        if let Err(why) = check_row(&file.outline(&example.source)?, towers.config()) {
            return Err(Error::Request {
                problem: format!("{}: {}: {why}", example.source, file.path.display()),
                help: "rows of tensors hold what the reference's `forward` takes, without the batch dimension".into(),
            });
        }
    }
    Ok(())
}

/// The format of the rows that scores are learned from, in a word for users; absent for other objectives.
fn scored(objective: &ObjectiveRecipe) -> Option<(Format, &'static str)> {
    match objective {
        ObjectiveRecipe::Classify(_) => Some((Format::Labelled, "labelled rows")),
        ObjectiveRecipe::Reward(_) => Some((Format::Preference, "pairs of a better and a worse answer")),
        ObjectiveRecipe::Sft(_) | ObjectiveRecipe::Distill(_) | ObjectiveRecipe::Contrastive(_) => None,
    }
}

/// Checks that an objective trains on these rows. `sft` trains neither on preference rows nor on answers labelled good
/// or bad.
///
/// # Errors
/// A source of other rows.
pub fn check_objective(dataset: &Dataset, objective: &ObjectiveRecipe) -> Result<(), Error> {
    if let (ObjectiveRecipe::Contrastive(_), 1) = (objective, dataset.len()) {
        return Err(Error::Request {
            problem: format!(
                "{}: the only pair: it has no other to tell it from, so its loss is always 0",
                dataset.location(0)
            ),
            help: "give objective contrastive at least two rows".into(),
        });
    }
    for decision in &dataset.decisions {
        if let Some((wanted, what)) = scored(objective) {
            if decision.format == wanted {
                continue;
            }
            return Err(Error::Request {
                problem: format!(
                    "objective {} learns from {what}; {} holds rows of {}",
                    objective.name(),
                    decision.path,
                    decision.format
                ),
                help: format!("give it rows of format `{wanted}`; docs/data.md shows them"),
            });
        }
        let (holds, help) = match (decision.format, objective.rows()) {
            (Format::Preference, RowKind::Tokens) => (
                "preference pairs",
                "to train on the better answers, give the source format = \"prompt-completion\" and \
                 columns = { prompt = \"prompt\", completion = \"chosen\" }",
            ),
            (Format::Unpaired, RowKind::Tokens) => {
                ("answers labelled good or bad", "to train on the good answers, take only those, without their label")
            }
            (Format::Labelled, RowKind::Tokens) => (
                "labelled rows",
                "objective classify learns labels; to train on their text, write format = \"text\" or the other of their formats",
            ),
            (Format::Tensors, RowKind::Tokens) => {
                ("rows of tensors", "what trains on them is another objective and another kind of model")
            }
            (Format::Tensors, RowKind::Tensors) => continue,
            (_, RowKind::Tensors) => {
                ("text", "give it rows of tensors, {\"tensors\": \"row.safetensors\"}, with pixel_values and input_ids")
            }
            (
                Format::Auto
                | Format::Messages
                | Format::ShareGpt
                | Format::Alpaca
                | Format::PromptCompletion
                | Format::Text
                | Format::Tokens,
                RowKind::Tokens,
            ) => continue,
        };
        let learns = match objective.rows() {
            RowKind::Tokens => "dialogues and text",
            RowKind::Tensors => "pairs of an image and a text",
        };
        return Err(Error::Request {
            problem: format!("objective {} trains on {learns}; {} holds {holds}", objective.name(), decision.path),
            help: help.into(),
        });
    }
    Ok(())
}
