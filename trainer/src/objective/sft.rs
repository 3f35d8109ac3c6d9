//! Supervised fine-tuning: cross-entropy of the next token at labelled positions.
//!
//! Hidden states are gathered at labelled positions before the output head, and the head and its loss are one operation
//! that works in chunks, so no `[tokens, vocab]` array exists.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_models::transformer::{Decoder, Inputs, Routed};

use super::backward::{Charges, Recompute, RoutingCharge, backward};
use super::gradients::Gradients;
use super::router::RouterBalance;

/// The objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sft {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
}

/// What all micro-batches of one optimiser step share.
#[derive(Debug, Clone, PartialEq)]
pub struct StepScale {
    /// Sum of the weights of all labelled tokens of the step.
    pub total_weight: f64,
    /// The load-balancing loss, where it is charged.
    pub router: Option<RouterBalance>,
}

/// The labelled positions of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelledTokens {
    /// Index into `[rows * length]`.
    pub positions: Vec<i32>,
    /// The token that follows.
    pub targets: Vec<i32>,
    /// Weight of its loss.
    pub weights: Vec<f32>,
}

/// Sums over the labelled tokens of some batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenSums {
    /// Weighted negative log-likelihood, in nats.
    pub loss: f64,
    /// Weights.
    pub weight: f64,
    /// Tokens.
    pub tokens: usize,
    /// Tokens whose most likely continuation was right.
    pub correct: usize,
}

impl StepScale {
    /// Over all micro-batches of a step.
    pub fn new<'a>(batches: impl Iterator<Item = &'a TokenBatch>) -> Self {
        let weights = batches.flat_map(|batch| LabelledTokens::of(batch).weights);
        Self { total_weight: weights.map(f64::from).sum(), router: None }
    }
}

impl LabelledTokens {
    /// Those of `batch`.
    pub fn of(batch: &TokenBatch) -> Self {
        let mut labelled = Self::default();
        for (index, (&target, &weight)) in batch.targets.iter().zip(&batch.weights).enumerate() {
            if target >= 0 {
                labelled.positions.push(index as i32);
                labelled.targets.push(target);
                labelled.weights.push(weight);
            }
        }
        labelled
    }

    fn indices(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.positions.clone(), [self.positions.len()]), device)
    }

    fn targets(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.targets.clone(), [self.targets.len()]), device)
    }
}

impl Sft {
    /// Adds the gradient of one micro-batch to `gradients`; gives its share of the step's loss.
    pub fn accumulate(
        &self,
        decoder: &Decoder,
        batch: &TokenBatch,
        scale: &StepScale,
        mode: Mode,
        gradients: &mut Gradients,
    ) -> f64 {
        let labelled = LabelledTokens::of(batch);
        if labelled.positions.is_empty() && scale.router.is_none() {
            return 0.0;
        }
        let weights: Vec<f32> =
            labelled.weights.iter().map(|weight| (f64::from(*weight) / scale.total_weight) as f32).collect();
        let loss = |hidden: Tensor<3>| {
            if labelled.positions.is_empty() {
                return hidden.sum() * 0.0;
            }
            let device = hidden.device();
            let weights = Tensor::from_data(TensorData::new(weights.clone(), [weights.len()]), &device);
            let hidden = gather(hidden, &labelled);
            decoder.head().loss(hidden, labelled.targets(&device), weights)
        };
        let routed = scale.router.as_ref().map(|router| move |routed: &[Routed]| router.term(routed, batch));
        let routing = routed.as_ref().map(|routed| routed as &RoutingCharge<'_>);
        let charges = Charges { hidden: &loss, routing };
        backward(decoder, &inputs(batch), mode, self.recompute, &charges, gradients)
    }

    /// Loss and accuracy sums of one batch, without gradients. The decoder must be on a device without autodiff.
    pub fn evaluate(decoder: &Decoder, batch: &TokenBatch) -> TokenSums {
        let labelled = LabelledTokens::of(batch);
        if labelled.positions.is_empty() {
            return TokenSums::default();
        }
        let mut sums = TokenSums::default();
        for (index, (log_probability, is_best)) in Self::predictions(decoder, batch, &labelled).into_iter().enumerate()
        {
            let weight = f64::from(labelled.weights[index]);
            sums.loss -= f64::from(log_probability) * weight;
            sums.weight += weight;
            sums.tokens += 1;
            sums.correct += usize::from(is_best);
        }
        sums
    }

    /// Of each labelled token, of which there must be one: its log-probability, and whether it was the most likely one.
    /// The decoder must be on a device without autodiff.
    pub fn predictions(decoder: &Decoder, batch: &TokenBatch, labelled: &LabelledTokens) -> Vec<(f32, bool)> {
        let hidden = gather(decoder.forward(&inputs(batch), Mode::Inference), labelled);
        let targets = labelled.targets(&hidden.device());
        let (log_probabilities, best) = decoder.head().statistics(hidden, targets);
        let (log_probabilities, best) = (log_probabilities.into_data(), best.into_data());
        let is_best = best.iter::<i64>().zip(&labelled.targets).map(|(best, target)| best == i64::from(*target));
        log_probabilities.iter::<f32>().zip(is_best).collect()
    }
}

impl std::ops::AddAssign for TokenSums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }
}

/// What the decoder reads of a batch.
pub fn inputs(batch: &TokenBatch) -> Inputs {
    Inputs::new(
        batch.rows,
        batch.length,
        batch.input_ids.clone(),
        batch.positions.clone(),
        Some(batch.segments.clone()),
    )
}

fn gather(hidden: Tensor<3>, labelled: &LabelledTokens) -> Tensor<2> {
    let [batch, time, width] = hidden.dims();
    let indices = labelled.indices(&hidden.device());
    hidden.reshape([batch * time, width]).select(0, indices)
}
