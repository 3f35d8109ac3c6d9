//! Rows as a model sees them: probabilities of tokens, outside of training.

use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{DataError, Dataset, Example, Pack, RowScore, TokenBatch, Tokens};
use firebrand_models::CausalLm;
use firebrand_models::transformer::Inputs;
use serde::Serialize;

use crate::objective::{LabelledTokens, Sft, TokenSums};

/// One line of `firebrand score`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Natural log-probability of every token after the first.
    pub logprobs: Vec<f32>,
    /// Whether each token is trained.
    pub labels: Vec<bool>,
    /// Mean loss over the trained tokens after the first; absent when there are none.
    pub loss: Option<f64>,
}

/// Scores one row. The model must be on a device without autodiff.
///
/// # Errors
/// A row that is no row of tokens.
pub fn score(model: &CausalLm, example: &Example) -> Result<Scored, DataError> {
    let tokens = example.tokens()?;
    let ids = &tokens.input_ids;
    let labels: Vec<bool> = tokens.labels.iter().map(|&label| label >= 0).collect();
    let logprobs = if ids.len() < 2 { vec![] } else { log_probabilities(model, ids) };
    let trained = logprobs.iter().zip(&labels[1.min(labels.len())..]).filter(|(_, trained)| **trained);
    let (sum, count) = trained.fold((0.0, 0), |(sum, count), (value, _)| (sum - f64::from(*value), count + 1));
    Ok(Scored { tokens: ids.clone(), logprobs, labels, loss: (count > 0).then(|| sum / f64::from(count)) })
}

/// Loss and accuracy of every row, absent where none of its tokens is trained, and the sums over all of them. A token counts
/// once, whatever its weight. `room` tokens are computed at a time, or the longest row; `progress` is told how many
/// rows are done.
///
/// The model must be for inference ([`CausalLm::for_inference`]).
///
/// # Errors
/// A row that is not on disk as it was prepared.
pub fn measure(
    model: &CausalLm,
    dataset: &Dataset,
    room: usize,
    mut progress: impl FnMut(usize),
) -> Result<(Vec<Option<RowScore>>, TokenSums), DataError> {
    let (mut scores, mut all) = (Vec::with_capacity(dataset.len()), TokenSums::default());
    while scores.len() < dataset.len() {
        let (start, mut tokens) = (scores.len(), 0);
        let fits = |row: &usize| {
            tokens += dataset.length(*row);
            *row == start || tokens <= room
        };
        let tokens = |row| dataset.example(row)?.tokens().cloned();
        let examples = (start..dataset.len()).take_while(fits).map(tokens);
        for sums in measure_together(model, &examples.collect::<Result<Vec<_>, _>>()?) {
            let (loss, token_accuracy) = (sums.mean_loss(), sums.accuracy());
            scores.push((sums.tokens > 0).then_some(RowScore { loss, token_accuracy }));
            all += sums;
        }
        progress(scores.len());
    }
    Ok((scores, all))
}

/// The sums of each row, all rows in one pack.
fn measure_together(model: &CausalLm, examples: &[Tokens]) -> Vec<TokenSums> {
    let length = examples.iter().map(|example| example.input_ids.len()).sum();
    let batch = TokenBatch::new(examples, &[Pack { examples: (0..examples.len()).collect(), length }]);
    let labelled = LabelledTokens::of(&batch);
    let mut sums = vec![TokenSums::default(); examples.len()];
    if labelled.positions.is_empty() {
        return sums;
    }
    let predictions = Sft::predictions(model.decoder(), &batch, &labelled);
    for ((log_probability, is_best), position) in predictions.into_iter().zip(&labelled.positions) {
        // Segments count from 1; those of padding (0) have no label, and there is no padding here.
        let row = batch.segments[*position as usize].max(1) as usize - 1;
        sums[row] +=
            TokenSums { loss: -f64::from(log_probability), weight: 1.0, tokens: 1, correct: usize::from(is_best) };
    }
    sums
}

fn log_probabilities(model: &CausalLm, ids: &[u32]) -> Vec<f32> {
    let decoder = model.decoder();
    let hidden = decoder.forward(&Inputs::row(ids, 0), Mode::Inference);
    let [_, time, width] = hidden.dims();
    let hidden = hidden.slice([0..1, 0..time - 1, 0..width]).reshape([time - 1, width]);
    let targets: Vec<i32> = ids[1..].iter().map(|&id| id as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [time - 1]), &hidden.device());
    let (log_probabilities, _) = decoder.head().statistics(hidden, targets);
    log_probabilities.into_data().iter::<f32>().collect()
}
