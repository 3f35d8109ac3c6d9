//! Scores rows outside of training: log-probabilities of tokens, losses, or embeddings. See [`score`] and [`measure`].

use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{
    Batch, BatchContent, Dataset, Example, ExampleContent, Label, Location, NamedArrays, Pack, Part, RowKind, RowScore,
    Target, TokenBatch, Tokens,
};
use firebrand_models::parts::Inputs;
use firebrand_models::{Model, PooledInputs, Predictor};
use serde::Serialize;

use super::classes::{classes_of, no_classes};
use super::predictor;
use crate::error::Error;
use crate::objective::{
    Embeddings, LabelledImages, LabelledTokens, Learned, Pairs, Recompute, Score, Sft, TokenSums, denoising_error,
};

/// The scores of one row: one line of `firebrand score`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scored {
    /// A row of tokens.
    Tokens(ScoredTokens),
    /// A text that is classified.
    Text(ScoredText),
    /// A pair of an image and a text.
    Pair(ScoredPair),
    /// An image that is classified.
    Image(ScoredImage),
    /// A picture and its noise.
    Picture(ScoredPicture),
}

/// The scores of an image that is classified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredImage {
    /// Where the row stands.
    pub source: Location,
    /// The score of each class.
    pub logits: Vec<f32>,
    /// The number of the row's class, if it has a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The loss of the row by its label; absent where there is none.
    pub loss: Option<f64>,
}

/// The scores of a text that is classified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredText {
    /// Where the row stands.
    pub source: Location,
    /// Whether it is an answer of a pair, and which.
    #[serde(skip_serializing_if = "Part::is_alone")]
    pub part: Part,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The score of each class.
    pub logits: Vec<f32>,
    /// The row's label, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// The loss of the row by its label; absent where there is none that can be learned.
    pub loss: Option<f64>,
}

/// The embeddings of a pair, of length one. A pair alone has no contrastive loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredPair {
    /// Where the row stands.
    pub source: Location,
    /// Embedding of the image.
    pub image_embeds: Vec<f32>,
    /// Embedding of the text.
    pub text_embeds: Vec<f32>,
}

/// The score of a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredPicture {
    /// Where the row stands.
    pub source: Location,
    /// Mean squared error of what the network tells.
    pub loss: f64,
}

/// The scores of a row of tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredTokens {
    /// Where the row stands.
    pub source: Location,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Natural log-probability of every token after the first.
    pub logprobs: Vec<f32>,
    /// Whether each token is labelled.
    pub labels: Vec<bool>,
    /// Mean loss in nats over the labelled tokens after the first; absent when there are none.
    pub loss: Option<f64>,
}

/// Scores one row. The model must be on a device without autodiff.
///
/// # Errors
/// A row that the model cannot read.
pub fn score(model: &Model, dataset: &Dataset, example: &Example) -> Result<Scored, Error> {
    if let (ExampleContent::Tensors(_) | ExampleContent::Pictured(_), Some(denoiser)) =
        (&example.content, model.network().denoiser())
    {
        let loss = denoising_error(denoiser, &dataset.arrays(example)?)?;
        return Ok(Scored::Picture(ScoredPicture { source: example.source.clone(), loss }));
    }
    match (&example.content, model.network().towers()) {
        (ExampleContent::Tensors(_) | ExampleContent::Pictured(_), None) if model.network().image().is_some() => {
            score_image(model, example, dataset.arrays(example)?)
        }
        (ExampleContent::Tensors(_) | ExampleContent::Pictured(_), Some(towers)) => {
            let content = BatchContent::Tensors(vec![dataset.arrays(example)?]);
            let pairs = Pairs::of(&Batch { examples: vec![], parts: vec![], content }, towers.config())?;
            let [images, texts] = Embeddings::of(towers, &pairs, Mode::Inference).normalised();
            let first = |embeddings: Vec<Vec<f32>>| embeddings.into_iter().next().unwrap_or_default();
            let source = example.source.clone();
            Ok(Scored::Pair(ScoredPair { source, image_embeds: first(images), text_embeds: first(texts) }))
        }
        (ExampleContent::Tokens(tokens), _) if model.classes().is_some() => score_text(model, example, tokens),
        (ExampleContent::Tensors(_) | ExampleContent::Pictured(_) | ExampleContent::Tokens(_), _) => {
            Ok(Scored::Tokens(score_tokens(predictor(model)?, example)?))
        }
    }
}

fn score_image(model: &Model, example: &Example, row: NamedArrays) -> Result<Scored, Error> {
    let network = model.network();
    let (Some(image), Some(view), Some(classes)) = (network.image(), network.pooled(), classes_of(model, None)) else {
        return Err(no_classes());
    };
    let groups = LabelledImages::of_rows(&[row], image.config())?;
    let Some(LabelledImages { pixels, labels, .. }) = groups.into_iter().next() else { return Err(no_classes()) };
    let scores = view.scores(&PooledInputs::Images(pixels), Mode::Inference);
    let logits: Vec<f32> = scores.into_data().iter::<f32>().collect();
    let label = labels.first().copied().flatten();
    let score = Score { recompute: Recompute::Off, from: Learned::Labels(classes), rows: RowKind::Tensors };
    let loss = label.map(|label| score.loss_of(&logits, Target::Class(label), &model.device()));
    Ok(Scored::Image(ScoredImage { source: example.source.clone(), logits, label, loss }))
}

fn score_text(model: &Model, example: &Example, tokens: &Tokens) -> Result<Scored, Error> {
    let (Some(view), Some(classes)) = (model.network().pooled(), classes_of(model, None)) else {
        return Err(no_classes());
    };
    let ids = &tokens.input_ids;
    if ids.is_empty() {
        return Err(Error::Request {
            problem: format!("{}: no token, and a text is read at one", example.source),
            help: "leave the row out".into(),
        });
    }
    let place = view.place(ids.iter().map(|id| i64::from(*id)));
    let scores = view.scores(&PooledInputs::Texts(Inputs::row(ids, 0), vec![place as i32]), Mode::Inference);
    let logits: Vec<f32> = scores.into_data().iter::<f32>().collect();
    let label = tokens.label.as_ref().and_then(|row| row.label.clone());
    let target = label.as_ref().and_then(|label| classes.target(label).ok());
    let score = Score { recompute: Recompute::Off, from: Learned::Labels(classes), rows: RowKind::Tokens };
    let loss = target.map(|target| score.loss_of(&logits, target, &model.device()));
    let (source, part) = (example.source.clone(), example.part);
    Ok(Scored::Text(ScoredText { source, part, tokens: ids.clone(), logits, label, loss }))
}

fn score_tokens(predictor: Predictor<'_>, example: &Example) -> Result<ScoredTokens, Error> {
    let tokens = example.tokens()?;
    let ids = &tokens.input_ids;
    let labels: Vec<bool> = tokens.labels.iter().map(|&label| label >= 0).collect();
    let logprobs = if ids.len() < 2 { vec![] } else { log_probabilities(predictor, ids) };
    let trained = logprobs.iter().zip(&labels[1.min(labels.len())..]).filter(|(_, trained)| **trained);
    let (sum, count) = trained.fold((0.0, 0), |(sum, count), (value, _)| (sum - f64::from(*value), count + 1));
    let loss = (count > 0).then(|| sum / f64::from(count));
    Ok(ScoredTokens { source: example.source.clone(), tokens: ids.clone(), logprobs, labels, loss })
}

/// Loss and accuracy of every row, `None` for a row without labelled tokens; and the sums over all rows. Every token
/// counts once, whatever its weight. At most `room` tokens are computed at a time, or one longer row. `progress` is
/// called with the number of rows done.
///
/// The model must be for inference ([`Model::for_inference`]).
///
/// # Errors
/// A model that does not predict tokens; a row that changed on disk since it was prepared.
pub fn measure(
    model: &Model,
    dataset: &Dataset,
    room: usize,
    mut progress: impl FnMut(usize),
) -> Result<(Vec<Option<RowScore>>, TokenSums), Error> {
    let predictor = predictor(model)?;
    let (mut scores, mut all) = (Vec::with_capacity(dataset.len()), TokenSums::default());
    while scores.len() < dataset.len() {
        let (start, mut tokens) = (scores.len(), 0);
        let fits = |row: &usize| {
            tokens += dataset.length(*row);
            *row == start || tokens <= room
        };
        let tokens = |row| Ok(dataset.example(row)?.tokens()?.clone());
        let examples = (start..dataset.len()).take_while(fits).map(tokens);
        for sums in measure_together(predictor, &examples.collect::<Result<Vec<_>, Error>>()?) {
            let (loss, token_accuracy) = (sums.mean_loss(), sums.accuracy());
            scores.push((sums.tokens > 0).then_some(RowScore { loss, token_accuracy }));
            all += sums;
        }
        progress(scores.len());
    }
    Ok((scores, all))
}

/// The sums of each example. All examples are computed in one pack.
fn measure_together(predictor: Predictor<'_>, examples: &[Tokens]) -> Vec<TokenSums> {
    let length = examples.iter().map(|example| example.input_ids.len()).sum();
    let batch = TokenBatch::new(examples, &[Pack { examples: (0..examples.len()).collect(), length }]);
    let labelled = LabelledTokens::of(&batch);
    let mut sums = vec![TokenSums::default(); examples.len()];
    if labelled.positions.is_empty() {
        return sums;
    }
    let predictions = Sft::predictions(predictor, &batch, &labelled);
    for ((log_probability, is_best), position) in predictions.into_iter().zip(&labelled.positions) {
        // Segments count from 1. Padding (0) has no labels, and there is none here.
        let row = batch.segments[*position as usize].max(1) as usize - 1;
        sums[row] +=
            TokenSums { loss: -f64::from(log_probability), weight: 1.0, tokens: 1, correct: usize::from(is_best) };
    }
    sums
}

fn log_probabilities(predictor: Predictor<'_>, ids: &[u32]) -> Vec<f32> {
    let hidden = predictor.hidden(&Inputs::row(ids, 0), Mode::Inference);
    let [_, time, width] = hidden.dims();
    let hidden = hidden.slice([0..1, 0..time - 1, 0..width]).reshape([time - 1, width]);
    let targets: Vec<i32> = ids[1..].iter().map(|&id| id as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [time - 1]), &hidden.device());
    let (log_probabilities, _) = predictor.head().statistics(hidden, targets);
    log_probabilities.into_data().iter::<f32>().collect()
}
