//! The objective of supervised fine-tuning, [`Sft`]: cross-entropy of the next token at labelled positions, in training with label
//! smoothing, z-loss and noise on the embeddings where asked for. Evaluation is plain cross-entropy.
//!
//! Hidden states are gathered at labelled positions before the output head. Head and loss are one operation that works
//! in chunks, so no `[tokens, vocab]` array exists.

use std::cell::Cell;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_kernels::{Regularisation, RegularisedLoss, sum};
use firebrand_models::parts::{Context, Inputs, Routed};
use firebrand_models::{Network, Predictor, Stack};

use super::backward::{Passage, Recompute, backward};
use super::gradients::Gradients;
use super::parts::{EvalMetrics, Evaluated, StepLoss};
use super::pending::PendingLoss;
use super::router::RouterBalance;
use super::views::{inputs, noisy_inputs, predictor};

/// The objective of supervised fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sft {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// Coefficient of the routers' load-balancing loss; without it that loss is not added.
    pub router_aux_loss: Option<f64>,
    /// Label smoothing and z-loss.
    pub terms: Regularisation,
    /// Size of the noise on the embeddings; absent: none.
    pub neftune_alpha: Option<f64>,
}

/// What all micro-batches of one optimiser step share.
#[derive(Debug, Clone, PartialEq)]
pub struct StepScale {
    /// Sum of the weights of all labelled tokens of the step.
    pub total_weight: f64,
    /// The load-balancing loss, where it is added.
    pub router: Option<RouterBalance>,
}

/// The labelled positions of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelledTokens {
    /// Indices into the flattened `[batch * time]` positions.
    pub positions: Vec<i32>,
    /// Ids of the tokens to predict.
    pub targets: Vec<i32>,
    /// Weights of their losses.
    pub weights: Vec<f32>,
}

/// Sums over the labelled tokens of some batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenSums {
    /// Weighted negative log-likelihood, in nats.
    pub loss: f64,
    /// Sum of the weights.
    pub weight: f64,
    /// Number of tokens.
    pub tokens: usize,
    /// Number of tokens that the model found most likely.
    pub correct: usize,
}

impl StepScale {
    /// Measures all micro-batches of a step. The load-balancing loss is left out.
    pub fn new<'a>(batches: impl Iterator<Item = &'a TokenBatch>) -> Self {
        let weights = batches.flat_map(|batch| LabelledTokens::of(batch).weights);
        Self { total_weight: weights.map(f64::from).sum(), router: None }
    }
}

impl LabelledTokens {
    /// The labelled positions of `batch`.
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

    /// Each weight as a share of the whole step's.
    fn shares(&self, total_weight: f64) -> Vec<f32> {
        self.weights.iter().map(|weight| (f64::from(*weight) / total_weight) as f32).collect()
    }

    fn indices(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.positions.clone(), [self.positions.len()]), device)
    }

    /// The targets as a tensor.
    pub(super) fn targets(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(self.targets.clone(), [self.targets.len()]), device)
    }
}

impl Sft {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(&TokenBatch, Mode)],
        gradients: &mut Gradients,
    ) -> StepLoss {
        let router = self.router_aux_loss.and_then(|coefficient| {
            let frozen = network.valid();
            RouterBalance::measure(predictor(&frozen), batches.iter().copied(), coefficient, self.neftune_alpha)
        });
        let scale = StepScale { router, ..StepScale::new(batches.iter().map(|(batch, _)| *batch)) };
        let mut step = StepLoss::default();
        let mut measured = Measured::default();
        for (batch, mode) in batches {
            let (loss, part) = self.accumulate_measured(network, batch, &scale, *mode, gradients);
            step.loss.add(loss);
            let weight: f64 = batch.weights.iter().copied().map(f64::from).sum();
            gradients.end_micro_batch(weight / scale.total_weight);
            measured.cross_entropy += part.cross_entropy;
            measured.squared_log_sum += part.squared_log_sum;
        }
        if self.terms != Regularisation::default() {
            step.parts.set("sft/ce", measured.cross_entropy);
        }
        if self.terms.z_loss > 0.0 {
            step.parts.set("sft/z_loss", measured.squared_log_sum);
        }
        if let Some(router) = &scale.router {
            step.parts.set("router_aux_loss", router.loss);
        }
        step
    }

    /// Adds the gradient of one micro-batch to `gradients` and returns its part of the step's loss.
    pub fn accumulate(
        &self,
        network: &Network,
        batch: &TokenBatch,
        scale: &StepScale,
        mode: Mode,
        gradients: &mut Gradients,
    ) -> f64 {
        self.accumulate_measured(network, batch, scale, mode, gradients).0.wait()
    }

    /// As [`Self::accumulate`], with the parts of the loss.
    fn accumulate_measured(
        &self,
        network: &Network,
        batch: &TokenBatch,
        scale: &StepScale,
        mode: Mode,
        gradients: &mut Gradients,
    ) -> (PendingLoss, Measured) {
        let labelled = LabelledTokens::of(batch);
        if labelled.positions.is_empty() && scale.router.is_none() {
            return (PendingLoss::default(), Measured::default());
        }
        let inputs = noisy_inputs(batch, self.neftune_alpha, mode);
        let passage =
            TokenPassage { batch, inputs, labelled, scale, mode, terms: self.terms, measured: Cell::default() };
        let loss = backward(&passage, network, self.recompute, gradients);
        (loss, passage.measured.get())
    }

    /// Sums of loss and accuracy over one batch, without gradients. The network must be on a device without autodiff.
    pub fn evaluate(predictor: Predictor<'_>, batch: &TokenBatch) -> TokenSums {
        let labelled = LabelledTokens::of(batch);
        if labelled.positions.is_empty() {
            return TokenSums::default();
        }
        let mut sums = TokenSums::default();
        for (index, (log_probability, is_best)) in
            Self::predictions(predictor, batch, &labelled).into_iter().enumerate()
        {
            let weight = f64::from(labelled.weights[index]);
            sums.loss -= f64::from(log_probability) * weight;
            sums.weight += weight;
            sums.tokens += 1;
            sums.correct += usize::from(is_best);
        }
        sums
    }

    /// For each labelled token, of which there must be at least one: its natural log-probability, and whether it was
    /// the most likely token. The network must be on a device without autodiff.
    pub fn predictions(predictor: Predictor<'_>, batch: &TokenBatch, labelled: &LabelledTokens) -> Vec<(f32, bool)> {
        let hidden = gather(predictor.hidden(&inputs(batch), Mode::Inference), labelled);
        let targets = labelled.targets(&hidden.device());
        let (log_probabilities, best) = predictor.head().statistics(hidden, targets);
        let (log_probabilities, best) = (log_probabilities.into_data(), best.into_data());
        let is_best = best.iter::<i64>().zip(&labelled.targets).map(|(best, target)| best == i64::from(*target));
        log_probabilities.iter::<f32>().zip(is_best).collect()
    }
}

/// The forward pass of a micro-batch of tokens, up to the loss of the labelled ones.
struct TokenPassage<'a> {
    batch: &'a TokenBatch,
    inputs: Inputs,
    labelled: LabelledTokens,
    scale: &'a StepScale,
    mode: Mode,
    terms: Regularisation,
    /// The parts of the loss, once it is computed.
    measured: Cell<Measured>,
}

/// The parts of a regularised loss over some tokens: each divided by the weights of the whole step.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    cross_entropy: f64,
    /// Of the log-sum-exp of the logits, without the factor of the z-loss.
    squared_log_sum: f64,
}

impl Passage for TokenPassage<'_> {
    fn context(&self, network: &Network) -> Context {
        predictor(network).context(&self.inputs, self.mode)
    }

    fn embed(&self, network: &Network) -> Tensor<3> {
        predictor(network).embed(&self.inputs, self.mode)
    }

    fn stack<'n>(&self, network: &'n Network) -> Stack<'n> {
        predictor(network).stack()
    }

    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1> {
        let hidden = predictor(network).finish(x, self.mode);
        if self.labelled.positions.is_empty() {
            return sum(hidden) * 0.0;
        }
        let device = hidden.device();
        let weights = self.labelled.shares(self.scale.total_weight);
        let weights = Tensor::from_data(TensorData::new(weights, [self.labelled.weights.len()]), &device);
        let hidden = gather(hidden, &self.labelled);
        let (head, targets) = (predictor(network).head(), self.labelled.targets(&device));
        if self.terms == Regularisation::default() {
            return head.loss(hidden, targets, weights);
        }
        let RegularisedLoss { loss, cross_entropy, squared_log_sum } =
            head.regularised_loss(hidden, targets, weights, self.terms);
        let [cross_entropy, squared_log_sum] =
            [cross_entropy, squared_log_sum].map(|part| f64::from(part.into_scalar::<f32>()));
        self.measured.set(Measured { cross_entropy, squared_log_sum });
        loss
    }

    fn charges_routers(&self) -> bool {
        self.scale.router.is_some()
    }

    fn routed(&self, routed: &[Routed]) -> Option<Tensor<1>> {
        self.scale.router.as_ref()?.term(routed, self.batch)
    }
}

impl TokenSums {
    /// Mean loss in nats, weighted.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// Share of tokens that the model found most likely, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.tokens as f64
    }

    /// The sums as the result of an evaluation.
    pub fn evaluated(&self) -> Evaluated {
        let loss = self.mean_loss();
        let (token_accuracy, tokens) = (self.accuracy(), self.tokens as u64);
        Evaluated { loss, metrics: EvalMetrics::Tokens { perplexity: loss.exp(), token_accuracy, tokens } }
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

/// The hidden states at labelled positions, `[tokens, width]`.
pub(super) fn gather(hidden: Tensor<3>, labelled: &LabelledTokens) -> Tensor<2> {
    let [batch, time, width] = hidden.dims();
    let indices = labelled.indices(&hidden.device());
    hidden.reshape([batch * time, width]).select(0, indices)
}
