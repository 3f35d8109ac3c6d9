//! The objective of distillation, [`Distill`] (Hinton et al. 2015, arXiv:1503.02531; Agarwal et al. 2023, arXiv:2306.13649).
//!
//! With `z` and `t` the logits of student and teacher at a labelled position and `T` the temperature, its loss is
//! `(1 - alpha) CE(z) + alpha T^2 D(softmax(t / T), softmax(z / T))`, where `D` is a divergence of
//! [`firebrand_kernels::linear_distillation`]. A step's loss is the mean over its labelled positions.
//!
//! Answers that the student writes itself ([`super::on_policy`]) count in the divergence and not in the cross-entropy: a
//! student learns nothing from the likelihood of its own draws. Each mean is over the positions that count in it.
//!
//! Outputs of blocks may be matched as well ([`super::hidden`]).
//!
//! The teacher's hidden states are computed without a tape and gathered at labelled positions, as the student's are. Both
//! heads and the loss are one operation that works in chunks, so no `[tokens, vocab]` array exists, of either model.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::{Device, Gradients as Tape, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, TokenBatch};
use firebrand_kernels::{Distillation, Distilled, HeadWeight, Labels, Predicted, TeacherTokens, linear_distillation};
use firebrand_models::parts::{Context, Inputs};
use firebrand_models::{Network, Stack};

use super::backward::{Passage, Recompute, backward};
use super::companion::{Companion, no_companion};
use super::gradients::Gradients;
use super::hidden::Matching;
use super::on_policy::write_answers;
use super::parts::StepLoss;
use super::projections::Projections;
use super::sft::{LabelledTokens, gather};
use super::views::{inputs, predictor, token_batch};
use crate::error::Error;
use crate::features::CachedTokens;
use crate::profile::phase;
use crate::recipe::HiddenRecipe;

/// The objective of distillation.
#[derive(Debug, Clone)]
pub struct Distill {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// How cross-entropy and divergence make the loss.
    pub settings: Distillation,
    /// Share of rows whose answers the student writes.
    pub on_policy: f64,
    /// The hidden states that are matched, where any are.
    pub hidden: Option<HiddenRecipe>,
    /// The learned maps of hidden states, where student and teacher differ in width.
    pub projections: Option<Projections>,
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
        let parts: Vec<Part<'_>> =
            batches.iter().map(|(batch, mode)| self.part(network, batch, *mode)).collect::<Result<_, _>>()?;
        let total = |weights: for<'p> fn(&'p Part<'_>) -> &'p [f32]| -> f64 {
            parts.iter().flat_map(weights).map(|weight| f64::from(*weight)).sum()
        };
        let totals = [total(|part| &part.of_cross_entropy), total(|part| &part.labelled.weights)];
        let mut step = StepLoss::default();
        let mut means = [0.0; 3];
        let matching = self.matching(network);
        for part in parts {
            if part.labelled.positions.is_empty() {
                continue;
            }
            let (teacher, hidden) = self.taught(&part, matching.as_ref(), &network.device())?;
            let share = part.labelled.weights.iter().map(|weight| f64::from(*weight)).sum::<f64>() / totals[1];
            let passage = DistillPassage {
                inputs: inputs(&part.tokens),
                teacher,
                hidden,
                matching: matching.as_ref(),
                projections: self.projections.as_ref(),
                apart: RefCell::default(),
                of_cross_entropy: shares(&part.of_cross_entropy, totals[0]),
                of_divergence: shares(&part.labelled.weights, totals[1]),
                labelled: part.labelled,
                settings: self.settings,
                mode: part.mode,
                parts: RefCell::default(),
            };
            step.loss.add(backward(&passage, network, self.recompute, gradients));
            gradients.end_micro_batch(share);
            for (mean, part) in means.iter_mut().zip(passage.parts()) {
                *mean += part;
            }
        }
        step.parts.set("distill/ce", means[0]);
        step.parts.set("distill/divergence", means[1]);
        if matching.is_some() {
            step.parts.set("distill/hidden", means[2]);
        }
        Ok(step)
    }

    /// A micro-batch, its answers written anew where rows are chosen for that.
    fn part<'a>(&self, network: &Network, batch: &'a Batch, mode: Mode) -> Result<Part<'a>, Error> {
        let mut tokens = Cow::Borrowed(token_batch(batch)?);
        let mut written = vec![];
        if self.on_policy > 0.0 {
            written = write_answers(network, tokens.to_mut(), mode, self.on_policy);
        }
        let labelled = LabelledTokens::of(&tokens);
        let is_written = |position: &i32| written.get(*position as usize).copied().unwrap_or(false);
        let weights = labelled.positions.iter().zip(&labelled.weights);
        let of_cross_entropy = weights.map(|(at, weight)| if is_written(at) { 0.0 } else { *weight }).collect();
        Ok(Part { examples: &batch.examples, tokens, labelled, of_cross_entropy, mode })
    }

    /// Makes the maps of hidden states, where student and teacher differ in width.
    pub(super) fn begin(&mut self, student: &Network) {
        let (Some(matching), Companion::Network(teacher)) = (self.matching(student), &self.teacher) else { return };
        let width = |network: &Network| predictor(network).width();
        if width(student) != width(teacher) {
            let count = matching.pairs.len();
            let maps = Projections::identity(count, width(student), width(teacher), &student.device());
            self.projections = Some(maps);
        }
    }

    /// The blocks whose outputs are matched.
    fn matching(&self, student: &Network) -> Option<Matching> {
        let Companion::Network(teacher) = &self.teacher else { return None };
        let blocks = |network: &Network| predictor(network).stack().blocks.len();
        self.hidden.as_ref().map(|hidden| Matching::new(hidden, blocks(student), blocks(teacher)))
    }

    /// The teacher's distributions at the labelled positions of a micro-batch, and the hidden states that are matched.
    fn taught(
        &self,
        part: &Part<'_>,
        matching: Option<&Matching>,
        device: &Device,
    ) -> Result<(TeacherTokens, Vec<Tensor<2>>), Error> {
        phase!("teacher");
        let (batch, labelled) = (&part.tokens, &part.labelled);
        Ok(match &self.teacher {
            Companion::Network(network) => {
                let teacher = predictor(network);
                let (last, hidden) = match matching {
                    Some(matching) => matching.taught(teacher, &inputs(batch), labelled),
                    None => (gather(teacher.hidden(&inputs(batch), Mode::Inference), labelled), vec![]),
                };
                (TeacherTokens::Head(lifted(teacher.head().predicted(last))), hidden)
            }
            // Labelled positions lie in the order of packs and, within them, of examples.
            Companion::Cache(cache) => {
                (cells(cache.read(part.examples.iter().flatten().copied())?, labelled, device)?, vec![])
            }
            Companion::Pairs(_) => return Err(no_companion("distill", "teacher")),
        })
    }
}

/// A micro-batch of a step.
struct Part<'a> {
    examples: &'a [Vec<usize>],
    tokens: Cow<'a, TokenBatch>,
    /// With the weights of the divergence.
    labelled: LabelledTokens,
    /// Weights of the cross-entropy.
    of_cross_entropy: Vec<f32>,
    mode: Mode,
}

/// Each weight as a share of the whole step's; zeros where the step has none.
fn shares(weights: &[f32], total: f64) -> Vec<f32> {
    let share = |weight: &f32| if total > 0.0 { (f64::from(*weight) / total) as f32 } else { 0.0 };
    weights.iter().map(share).collect()
}

/// Cached distributions as tensors.
///
/// # Errors
/// Other positions than the labelled ones.
fn cells(cached: CachedTokens, labelled: &LabelledTokens, device: &Device) -> Result<TeacherTokens, Error> {
    let CachedTokens { positions, cells, ids, log_probabilities, others } = cached;
    if positions != labelled.positions.len() {
        return Err(Error::Request {
            problem: format!(
                "the teacher's cache has {positions} positions for rows with {} labelled tokens",
                labelled.positions.len()
            ),
            help: "run `firebrand distill cache RECIPE` again".into(),
        });
    }
    Ok(TeacherTokens::Cells {
        ids: Tensor::from_data(TensorData::new(ids, [positions, cells]), device),
        log_probabilities: Tensor::from_data(TensorData::new(log_probabilities, [positions, cells]), device),
        others: others.map(|others| Tensor::from_data(TensorData::new(others, [positions]), device)),
    })
}

/// What was computed without autodiff, for an operation that has it.
fn lifted(predicted: Predicted) -> Predicted {
    let Predicted { hidden, head: HeadWeight { matrix, low_rank, precision }, bias, softcap } = predicted;
    let head = HeadWeight { matrix: Tensor::from_inner(matrix), low_rank: low_rank.map(Tensor::from_inner), precision };
    Predicted { hidden: Tensor::from_inner(hidden), head, bias: bias.map(Tensor::from_inner), softcap }
}

/// The forward pass of a micro-batch of tokens, up to the loss beside the teacher.
struct DistillPassage<'a> {
    inputs: Inputs,
    labelled: LabelledTokens,
    teacher: TeacherTokens,
    /// Outputs of the teacher's blocks, `[tokens, width]` each, in the order of the matched pairs.
    hidden: Vec<Tensor<2>>,
    matching: Option<&'a Matching>,
    projections: Option<&'a Projections>,
    /// Distances of matched blocks, by their place among the pairs.
    apart: RefCell<BTreeMap<usize, Tensor<1>>>,
    /// Weights as shares of the step's.
    of_cross_entropy: Vec<f32>,
    of_divergence: Vec<f32>,
    settings: Distillation,
    mode: Mode,
    /// Cross-entropy and divergence of the last loss, `[2]`.
    parts: RefCell<Option<Tensor<1>>>,
}

impl DistillPassage<'_> {
    /// Cross-entropy, divergence and hidden distance of the last loss, divided by the weight of the step. Waits for the
    /// device.
    fn parts(self) -> [f64; 3] {
        let of = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        let parts = self.parts.into_inner().map(of).unwrap_or_default();
        let part = |index: usize| parts.get(index).copied().unwrap_or(f64::NAN);
        let apart = self.apart.into_inner().into_values().flat_map(of).sum();
        [part(0), part(1), apart]
    }
}

impl Passage for DistillPassage<'_> {
    fn context(&self, network: &Network) -> Context {
        predictor(network).context(&self.inputs, self.mode)
    }

    fn embed(&self, network: &Network) -> Tensor<3> {
        predictor(network).embed(&self.inputs, self.mode)
    }

    fn stack<'n>(&self, network: &'n Network) -> Stack<'n> {
        predictor(network).stack()
    }

    fn tap(&self, block: usize, x: &Tensor<3>) -> Option<Tensor<1>> {
        let matching = self.matching?;
        let place = matching.place(block)?;
        let taught = self.hidden.get(place)?.clone();
        let student = gather(x.clone(), &self.labelled);
        let student = match self.projections {
            Some(projections) => projections.project(place, student),
            None => student,
        };
        let device = student.device();
        let taught = if taught.device() == device { taught } else { Tensor::from_inner(taught) };
        let weights = TensorData::new(self.of_divergence.clone(), [self.of_divergence.len()]);
        let apart = matching.distance(student, taught, Tensor::from_data(weights, &device));
        self.apart.borrow_mut().insert(place, apart.clone().detach());
        Some(apart * matching.weight)
    }

    fn collect(&self, tape: &mut Tape, gradients: &mut Gradients) {
        if let Some(projections) = self.projections {
            projections.collect(tape, gradients);
        }
    }

    fn learns(&self) -> bool {
        self.projections.is_some()
    }

    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1> {
        let hidden = gather(predictor(network).finish(x, self.mode), &self.labelled);
        let device = hidden.device();
        let weights = |shares: &[f32]| Tensor::from_data(TensorData::new(shares.to_vec(), [shares.len()]), &device);
        let labels = Labels {
            targets: self.labelled.targets(&device),
            of_cross_entropy: weights(&self.of_cross_entropy),
            of_divergence: weights(&self.of_divergence),
        };
        let student = predictor(network).head().predicted(hidden);
        let Distilled { loss, parts } = linear_distillation(student, self.teacher.clone(), labels, self.settings);
        self.parts.replace(Some(parts));
        loss
    }
}
