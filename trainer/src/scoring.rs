//! Rows as a model sees them: probabilities of tokens, outside of training.

use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::Example;
use firebrand_models::CausalLm;
use firebrand_models::transformer::Inputs;
use serde::Serialize;

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
pub fn score(model: &CausalLm, example: &Example) -> Scored {
    let ids = &example.input_ids;
    let labels: Vec<bool> = example.labels.iter().map(|&label| label >= 0).collect();
    let logprobs = if ids.len() < 2 { vec![] } else { log_probabilities(model, ids) };
    let trained = logprobs.iter().zip(&labels[1.min(labels.len())..]).filter(|(_, trained)| **trained);
    let (sum, count) = trained.fold((0.0, 0), |(sum, count), (value, _)| (sum - f64::from(*value), count + 1));
    Scored { tokens: ids.clone(), logprobs, labels, loss: (count > 0).then(|| sum / f64::from(count)) }
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
