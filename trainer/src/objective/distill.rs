//! The objective of distillation, [`Distill`] (Hinton et al. 2015, arXiv:1503.02531; Agarwal et al. 2023, arXiv:2306.13649).
//!
//! With `z` and `t` the logits of student and teacher at a labelled position and `T` the temperature, its loss is
//! `(1 - alpha) CE(z) + alpha T^2 D(softmax(t / T), softmax(z / T))`, where `D` is a divergence of
//! [`firebrand_kernels::linear_distillation`]. A step's loss is the mean over its labelled positions.
//!
//! The teacher's hidden states are computed without a tape and gathered at labelled positions, as the student's are. Both
//! heads and the loss are one operation that works in chunks, so no `[tokens, vocab]` array exists, of either model.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, TokenBatch};
use firebrand_kernels::{Distillation, Distilled, HeadWeight, Labels, Predicted, TeacherTokens, linear_distillation};
use firebrand_models::parts::{Context, Inputs};
use firebrand_models::{Network, Stack};

use super::backward::{Passage, Recompute, backward};
use super::companion::Companion;
use super::gradients::Gradients;
use super::parts::StepLoss;
use super::sft::{LabelledTokens, StepScale, gather};
use super::views::{inputs, predictor, token_batch};
use crate::error::Error;

/// The objective of distillation.
#[derive(Debug, Clone)]
pub struct Distill {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// How cross-entropy and divergence make the loss.
    pub settings: Distillation,
    /// Where the teacher's distributions come from.
    pub teacher: Companion,
}

impl Distill {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(Batch, Mode)],
        gradients: &mut Gradients,
    ) -> Result<StepLoss, Error> {
        let tokens: Vec<&TokenBatch> = batches.iter().map(|(batch, _)| token_batch(batch)).collect::<Result<_, _>>()?;
        let scale = StepScale::new(tokens.iter().copied());
        let mut step = StepLoss::default();
        let [mut cross_entropy, mut divergence] = [0.0; 2];
        for (batch, (_, mode)) in tokens.into_iter().zip(batches) {
            let labelled = LabelledTokens::of(batch);
            if labelled.positions.is_empty() {
                continue;
            }
            let passage = DistillPassage {
                inputs: inputs(batch),
                teacher: self.teacher_tokens(batch, &labelled),
                labelled,
                settings: self.settings,
                total_weight: scale.total_weight,
                mode: *mode,
                parts: RefCell::default(),
            };
            step.loss += backward(&passage, network, self.recompute, gradients);
            let [of_labels, of_teacher] = passage.parts();
            cross_entropy += of_labels;
            divergence += of_teacher;
        }
        step.parts.set("distill/ce", cross_entropy);
        step.parts.set("distill/divergence", divergence);
        Ok(step)
    }

    /// The teacher's distributions at the labelled positions of a batch.
    fn teacher_tokens(&self, batch: &TokenBatch, labelled: &LabelledTokens) -> TeacherTokens {
        match &self.teacher {
            Companion::Network(network) => {
                let teacher = predictor(network);
                let hidden = gather(teacher.hidden(&inputs(batch), Mode::Inference), labelled);
                TeacherTokens::Head(lifted(teacher.head().predicted(hidden)))
            }
        }
    }
}

/// What was computed without autodiff, for an operation that has it.
fn lifted(predicted: Predicted) -> Predicted {
    let Predicted { hidden, head: HeadWeight { matrix, low_rank }, bias, softcap } = predicted;
    let head = HeadWeight { matrix: Tensor::from_inner(matrix), low_rank: low_rank.map(Tensor::from_inner) };
    Predicted { hidden: Tensor::from_inner(hidden), head, bias: bias.map(Tensor::from_inner), softcap }
}

/// The forward pass of a micro-batch of tokens, up to the loss beside the teacher.
struct DistillPassage {
    inputs: Inputs,
    labelled: LabelledTokens,
    teacher: TeacherTokens,
    settings: Distillation,
    total_weight: f64,
    mode: Mode,
    /// Cross-entropy and divergence of the last loss, `[2]`.
    parts: RefCell<Option<Tensor<1>>>,
}

impl DistillPassage {
    /// Cross-entropy and divergence of the last loss, divided by the weight of the step. Waits for the device.
    fn parts(self) -> [f64; 2] {
        let parts = self.parts.into_inner().map(|parts| parts.into_data().iter::<f32>().map(f64::from).collect());
        let parts: Vec<f64> = parts.unwrap_or_default();
        [0, 1].map(|index| parts.get(index).copied().unwrap_or(f64::NAN))
    }
}

impl Passage for DistillPassage {
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
        let hidden = gather(predictor(network).finish(x, self.mode), &self.labelled);
        let device = hidden.device();
        let weights = self.labelled.shares(self.total_weight);
        let weights = Tensor::<1>::from_data(TensorData::new(weights, [self.labelled.weights.len()]), &device);
        let labels = Labels {
            targets: self.labelled.targets(&device),
            of_cross_entropy: weights.clone(),
            of_divergence: weights,
        };
        let student = predictor(network).head().predicted(hidden);
        let Distilled { loss, parts } = linear_distillation(student, self.teacher.clone(), labels, self.settings);
        self.parts.replace(Some(parts));
        loss
    }
}
