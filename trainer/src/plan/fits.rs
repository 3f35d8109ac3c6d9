//! Checks that rows fit the model, [`check`] and [`beyond_positions`], and the objective, [`check_objective`].

use firebrand_datasets::{
    Check, Dataset, Example, ExampleContent, Finding, Format, Location, NamedOutlines, RowKind, Split, Tokenizer,
};
use firebrand_models::{Model, TokenLimits};

use crate::error::Error;
use crate::objective::{check_image, check_noisy_row, check_row};
use crate::recipe::{ObjectiveRecipe, Recipe};

/// Checks that the model can read every row: token ids are in its vocabulary, rows are not longer than its number of
/// positions, and tensors have its shapes.
///
/// # Errors
/// A row that it cannot read.
pub fn check(dataset: &Dataset, model: &Model, tokenizer: Option<&Tokenizer>) -> Result<(), Error> {
    let network = model.network();
    match (dataset.kind(), network.token_limits()) {
        (RowKind::Tokens, Some(limits)) => check_tokens(dataset, limits, tokenizer),
        (RowKind::Tokens, None) => Err(other_rows(dataset, model, RowKind::Tensors)),
        (RowKind::Tensors, _) => match (network.towers(), network.image(), network.denoiser()) {
            (Some(towers), ..) => check_tensors(dataset, |row| check_row(row, towers.config())),
            (None, Some(image), _) => check_tensors(dataset, |row| check_image(row, image.config())),
            (None, None, Some(denoiser)) => check_tensors(dataset, |row| check_noisy_row(row, denoiser.config())),
            (None, None, None) => Err(other_rows(dataset, model, RowKind::Tokens)),
        },
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

/// The error names the first row whose tensors `check` refuses.
fn check_tensors(dataset: &Dataset, check: impl Fn(&NamedOutlines) -> Result<(), String>) -> Result<(), Error> {
    for example in dataset.examples() {
        let example = example?;
        if let Err(why) = check(&dataset.outline(&example)?) {
            return Err(unlike_a_row(&example, &why));
        }
    }
    Ok(())
}

/// The error that a row does not have the tensors that the model reads.
fn unlike_a_row(example: &Example, why: &str) -> Error {
    match &example.content {
        ExampleContent::Tensors(file) => Error::Request {
            problem: format!("{}: {}: {why}", example.source, file.path.display()),
            help: "rows of tensors hold what the reference's `forward` takes, without the batch dimension".into(),
        },
        ExampleContent::Pictured(pictured) => Error::Request {
            problem: format!("{}: {}: {why}", example.source, pictured.image.name()),
            help: "preprocessor_config.json makes pictures of another size than the model's config.json says; mend the one \
                   that is wrong"
                .into(),
        },
        ExampleContent::Tokens(_) => Error::Request {
            problem: format!("{}: {why}", example.source),
            help: "`firebrand data RECIPE` shows rows".into(),
        },
    }
}

/// Checks that an objective trains on these rows: on text, on pairs, on judged answers, on labels, or on tensors.
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
    let learns = Learns::of(objective);
    for decision in &dataset.decisions {
        let held = Learns::from_format(decision.format);
        if held.is_none_or(|held| learns.takes(held)) {
            continue;
        }
        let (holds, help) = match (decision.format, learns) {
            (Format::Preference, Learns::Text) => (
                "preference pairs",
                "to train on which answer is better, choose the objective: [objective] kind = \"dpo\" (or \"orpo\", \"simpo\"); to \
                 train on the better answers alone, give the source format = \"prompt-completion\" and columns = { prompt = \
                 \"prompt\", completion = \"chosen\" }",
            ),
            (Format::Preference, Learns::Answers) => (
                "preference pairs",
                "[objective] kind = \"dpo\" trains on pairs; for kto write each answer as a row of its own, with its prompt and \
                 label = true or false",
            ),
            (Format::Unpaired, Learns::Text) => (
                "answers labelled good or bad",
                "to train on both, choose the objective: [objective] kind = \"kto\"; to train on the good answers alone, take \
                 only those, without their label",
            ),
            (Format::Unpaired, Learns::Pairs) => {
                ("answers labelled good or bad", "[objective] kind = \"kto\" trains on answers that have no pair")
            }
            (Format::Labelled, Learns::Text | Learns::Pairs | Learns::Answers) => (
                "labelled rows",
                "objective classify learns labels; to train on their text, write format = \"text\" or the other of their formats",
            ),
            (_, Learns::Labels) => {
                ("rows of another format", "give it rows of format `labelled`; docs/data.md shows them")
            }
            (Format::Captioned, Learns::Text | Learns::Pairs | Learns::Answers) => {
                ("pictures with captions", "what trains on them is another objective and another kind of model")
            }
            (Format::Tensors, Learns::Text | Learns::Pairs | Learns::Answers) => {
                ("rows of tensors", "what trains on them is another objective and another kind of model")
            }
            (_, Learns::Tensors) => (
                "text",
                "give it pictures with captions, {\"image\": \"a.png\", \"text\": ..}, a folder of pictures, or rows of tensors",
            ),
            (_, Learns::Images) => (
                "text",
                "give it pictures with labels, {\"image\": \"a.png\", \"label\": ..}, a folder for each class, or rows of tensors",
            ),
            (_, Learns::Pictures) => (
                "text",
                "give it pictures with captions, {\"image\": \"a.png\", \"text\": ..}, a folder of pictures, or rows of tensors",
            ),
            (_, Learns::Pairs) => (
                "text without a judgement",
                "a row of pairs has `prompt`, `chosen` and `rejected`, or `prompt_ids`, `chosen_ids` and `rejected_ids`",
            ),
            (_, Learns::Answers) => (
                "text without a judgement",
                "a judged row has `prompt`, `completion` and `label`, or `prompt_ids`, `completion_ids` and `label`",
            ),
            (_, Learns::Text) => ("other rows", "give it dialogues or text"),
        };
        return Err(Error::Request {
            problem: format!(
                "objective {} trains on {}; {} holds {holds}",
                objective.name(),
                learns.name(),
                decision.path
            ),
            help: help.into(),
        });
    }
    Ok(())
}

/// What an objective learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learns {
    Text,
    /// A better and a worse answer.
    Pairs,
    /// Answers that are good or bad.
    Answers,
    /// Texts with the label of each.
    Labels,
    /// Images with the label of each, as tensors.
    Images,
    Tensors,
    /// Pictures, as tensors.
    Pictures,
}

impl Learns {
    fn of(objective: &ObjectiveRecipe) -> Self {
        match objective {
            ObjectiveRecipe::Sft(_) | ObjectiveRecipe::Distill(_) => Self::Text,
            ObjectiveRecipe::Dpo(_)
            | ObjectiveRecipe::Orpo(_)
            | ObjectiveRecipe::Simpo(_)
            | ObjectiveRecipe::Reward(_) => Self::Pairs,
            ObjectiveRecipe::Classify(classify) => match classify.rows {
                RowKind::Tokens => Self::Labels,
                RowKind::Tensors => Self::Images,
            },
            ObjectiveRecipe::Kto(_) => Self::Answers,
            ObjectiveRecipe::Contrastive(_) => Self::Tensors,
            ObjectiveRecipe::Denoise(_) => Self::Pictures,
        }
    }

    /// What rows of a format are for; absent for `auto`, which is decided before.
    fn from_format(format: Format) -> Option<Self> {
        match format {
            Format::Auto => None,
            Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Text
            | Format::Tokens => Some(Self::Text),
            Format::Preference => Some(Self::Pairs),
            Format::Unpaired => Some(Self::Answers),
            Format::Labelled => Some(Self::Labels),
            Format::Captioned | Format::Tensors => Some(Self::Tensors),
        }
    }

    /// Whether rows that are for `held` are what it learns from.
    fn takes(self, held: Self) -> bool {
        match self {
            Self::Images => matches!(held, Self::Tensors | Self::Labels),
            Self::Pictures => held == Self::Tensors,
            Self::Text | Self::Pairs | Self::Answers | Self::Labels | Self::Tensors => self == held,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Images => "labelled images",
            Self::Text => "dialogues and text",
            Self::Pairs => "pairs of a better and a worse answer",
            Self::Answers => "answers that are good or bad",
            Self::Labels => "labelled rows",
            Self::Tensors => "pairs of an image and a text",
            Self::Pictures => "pictures with texts",
        }
    }
}

/// Checks that no step but the last of an epoch holds a single row, where an objective compares the rows of a step.
///
/// # Errors
/// `kto` with steps of one row.
pub fn check_steps(dataset: &Dataset, recipe: &Recipe) -> Result<(), Error> {
    let compares = matches!(recipe.objective, Some(ObjectiveRecipe::Kto(_)));
    let alone = recipe.train.batch_size == 1 && !recipe.data.packing && dataset.rows().nth(1).is_some();
    match compares && alone {
        true => Err(Error::Request {
            problem: "train.batch_size = 1: kto compares each answer with the prompt of the next row of the step, and a step \
                      of one row has none"
                .into(),
            help: "write train.batch_size = 2 or more; 8 and more give a steadier estimate".into(),
        }),
        false => Ok(()),
    }
}
