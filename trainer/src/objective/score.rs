//! The objectives of whole texts and of images, [`Score`]: classification, and rewards from preferences.
//!
//! A text is read at one position, an image as a whole ([`Pooled`](firebrand_models::Pooled)), and scored by a linear map. With `w` the weight of a row and `W` the sum of
//! the weights of the step's rows, or pairs:
//!
//! ```text
//! single      sum w / W * -log softmax(scores)[class]                      cross-entropy
//! multi       sum w / W * mean over classes of -log sigmoid(+-score)       binary cross-entropy
//! regression  sum w / W * (score - value)^2
//! reward      sum w / W * (-log sigmoid(chosen - rejected) + center (chosen + rejected)^2)
//! ```
//! The first three are transformers' `ForSequenceClassificationLoss`, the first is also its `ForImageClassificationLoss`, the last is that of TRL's `RewardTrainer` (Bradley and
//! Terry 1952; Ouyang et al. 2022, arXiv:2203.02155; the centring: Eisenstein et al. 2023, arXiv:2312.09244). All are
//! computed as cross-entropies of two or more scores, so that no large score overflows. `metrics.rs` counts what is right.

use std::cell::RefCell;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, Classes, Part, RowKind, Span, Target, TokenBatch};
use firebrand_kernels::sum;
use firebrand_models::image::ImageConfig;
use firebrand_models::parts::Context;
use firebrand_models::{Network, Pooled, PooledInputs, Stack};

use super::backward::{Passage, Recompute, backward};
use super::gradients::Gradients;
use super::labelled_images::LabelledImages;
use super::metrics::{ScoreSums, Targets};
use super::parts::{Evaluated, StepLoss};
use super::views::{inputs, pooled, token_batch};
use crate::error::Error;

/// An objective of whole texts or of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// What the scores are learned from.
    pub from: Learned,
    /// The kind of rows.
    pub rows: RowKind,
}

/// What scores are learned from.
#[derive(Debug, Clone, PartialEq)]
pub enum Learned {
    /// The labels of rows.
    Labels(Classes),
    /// Pairs of a better and a worse answer.
    Preferences {
        /// Factor of the squared sum of a pair's scores.
        center: Option<f64>,
    },
}

/// Texts of a batch, or images of one size, that are scored together.
#[derive(Debug, Clone)]
struct Group {
    /// Of pairs: all better answers, then all worse ones.
    inputs: PooledInputs,
    /// The place in its batch of the first row that goes through the network.
    first: usize,
    /// Weights of rows, or of pairs.
    weights: Vec<f32>,
    targets: Targets,
}

impl Score {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    ///
    /// # Errors
    /// A row that cannot be learned from.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(Batch, Mode)],
        gradients: &mut Gradients,
    ) -> Result<StepLoss, Error> {
        let groups = batches.iter().map(|(batch, _)| self.groups(network, batch)).collect::<Result<Vec<_>, Error>>()?;
        let total: f64 = groups.iter().flatten().map(Group::weight).sum();
        let mut step = StepLoss::default();
        let mut sums = ScoreSums::default();
        for ((_, mode), groups) in batches.iter().zip(groups).filter(|(_, groups)| !groups.is_empty()) {
            let weight: f64 = groups.iter().map(Group::weight).sum();
            for group in groups {
                let shares = group.weights.iter().map(|weight| (f64::from(*weight) / total) as f32).collect();
                let mode = from_row(*mode, group.first);
                let passage = ScorePassage { score: self, group: &group, shares, mode, seen: RefCell::default() };
                step.loss.add(backward(&passage, network, self.recompute, gradients));
                sums.add(&group.targets, &scores_of(passage.seen.into_inner()));
            }
            gradients.end_micro_batch(weight / total);
        }
        sums.report(&mut step.parts);
        Ok(step)
    }

    /// Adds the rows of a batch to the sums of an evaluation. The network must be on a device without autodiff.
    ///
    /// # Errors
    /// A row that cannot be learned from.
    pub(super) fn evaluate(&self, network: &Network, batch: &Batch, sums: &mut ScoreSums) -> Result<(), Error> {
        for group in self.groups(network, batch)? {
            let scores = pooled(network).scores(&group.inputs, Mode::Inference);
            sums.loss += f64::from(self.loss(scores.clone(), &group.targets, &group.weights).into_scalar::<f32>());
            sums.weight += group.weight();
            sums.add(&group.targets, &scores_of(Some(scores)));
        }
        Ok(())
    }

    /// The result of an evaluation with these sums.
    pub(super) fn evaluated(&self, sums: &ScoreSums) -> Evaluated {
        sums.evaluated(match &self.from {
            Learned::Labels(classes) => Some(classes.problem),
            Learned::Preferences { .. } => None,
        })
    }

    /// The loss of one text, given its scores and what is learned of it.
    pub fn loss_of(&self, scores: &[f32], target: Target, device: &Device) -> f64 {
        let scores = Tensor::from_data(TensorData::new(scores.to_vec(), [1, scores.len()]), device);
        let targets = match target {
            Target::Class(class) => Targets::Class(vec![class]),
            Target::Classes(classes) => Targets::Classes(vec![classes]),
            Target::Value(value) => Targets::Values(vec![value]),
        };
        f64::from(self.loss(scores, &targets, &[1.0]).into_scalar::<f32>())
    }

    /// The rows of a batch, those of weight zero left out.
    fn groups(&self, network: &Network, batch: &Batch) -> Result<Vec<Group>, Error> {
        let groups = match (&self.from, network.image()) {
            (Learned::Labels(_), Some(image)) => images(batch, image.config())?,
            (Learned::Labels(classes), None) => vec![labelled(pooled(network), token_batch(batch)?, classes)?],
            (Learned::Preferences { .. }, _) => vec![pairs(pooled(network), token_batch(batch)?)?],
        };
        Ok(groups.into_iter().filter(|group| !group.weights.is_empty()).collect())
    }

    /// The sum of the losses of `scores` `[texts, classes]`, each times its share, `[1]`.
    fn loss(&self, scores: Tensor<2>, targets: &Targets, shares: &[f32]) -> Tensor<1> {
        let device = scores.device();
        let [texts, classes] = scores.dims();
        let row = |values: Vec<f32>| {
            let count = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [count]), &device)
        };
        let of = row(shares.to_vec());
        match targets {
            Targets::Class(of_rows) => sum(chosen(scores, of_rows.iter().copied()) * of).neg(),
            Targets::Classes(of_rows) => {
                // Each score against zero: log softmax([s, 0]) is log sigmoid(s) and log sigmoid(-s).
                let scores = against_zero(scores.reshape([texts * classes]));
                let of_no_class = of_rows.iter().flatten().map(|is| usize::from(!is));
                let losses = chosen(scores, of_no_class).reshape([texts, classes]).mean_dim(1).squeeze_dim::<1>(1);
                sum(losses * of).neg()
            }
            Targets::Values(values) => {
                let apart = scores.reshape([texts]) - row(values.iter().map(|value| *value as f32).collect());
                sum(apart.clone() * apart * of)
            }
            Targets::Pairs => {
                let half = texts / 2;
                let side = |from: usize| scores.clone().slice([from..from + half, 0..1]);
                let (better, worse) = (side(0), side(half));
                let both = Tensor::cat(vec![better.clone(), worse.clone()], 1);
                let losses = chosen(both, std::iter::repeat_n(0, half)).neg();
                let losses = match &self.from {
                    Learned::Preferences { center: Some(center) } => {
                        let sum = (better + worse).reshape([half]);
                        losses + sum.clone() * sum * *center
                    }
                    Learned::Preferences { center: None } | Learned::Labels(_) => losses,
                };
                sum(losses * of)
            }
        }
    }
}

/// Scores `[n]` beside zeros, `[n, 2]`.
fn against_zero(scores: Tensor<1>) -> Tensor<2> {
    let zeros = scores.zeros_like();
    Tensor::stack(vec![scores, zeros], 1)
}

/// The log-probability of the class that is named for each row of `scores` `[n, classes]`.
fn chosen(scores: Tensor<2>, classes: impl Iterator<Item = usize>) -> Tensor<1> {
    let classes: Vec<i32> = classes.map(|class| class as i32).collect();
    let rows = classes.len();
    let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [rows, 1]), &scores.device());
    log_softmax(scores, 1).gather(1, classes).squeeze_dim::<1>(1)
}

/// The scores of each text or image.
fn scores_of(scores: Option<Tensor<2>>) -> Vec<Vec<f32>> {
    let Some(scores) = scores else { return vec![] };
    let [_, classes] = scores.dims();
    let values: Vec<f32> = scores.into_data().iter::<f32>().collect();
    values.chunks(classes.max(1)).map(<[f32]>::to_vec).collect()
}

/// The flat index at which the text of a span is read.
fn position(view: Pooled<'_>, batch: &TokenBatch, span: &Span) -> i32 {
    let ids = batch.input_ids[span.start..span.start + span.length].iter().map(|id| i64::from(*id));
    (span.start + view.place(ids)) as i32
}

fn labelled(view: Pooled<'_>, batch: &TokenBatch, classes: &Classes) -> Result<Group, Error> {
    let spans = || batch.spans.iter().filter(|span| span.weight > 0.0);
    let targets = spans().map(|span| {
        let label = span.label.as_ref().and_then(|row| row.label.as_ref());
        let target = label.map(|label| classes.target(label)).transpose();
        let missing = || Error::Request {
            problem: "a row without a label among those that are learned from".into(),
            help: "give every row a `label`".into(),
        };
        target
            .map_err(|misfit| Error::Request {
                problem: format!("expected {}, found {}", misfit.expected, misfit.found),
                help: "mend the labels".into(),
            })?
            .ok_or_else(missing)
    });
    let targets = targets.collect::<Result<Vec<Target>, Error>>()?;
    Ok(Group {
        inputs: PooledInputs::Texts(inputs(batch), spans().map(|span| position(view, batch, span)).collect()),
        first: 0,
        weights: spans().map(|span| span.weight).collect(),
        targets: Targets::of(targets),
    })
}

fn pairs(view: Pooled<'_>, batch: &TokenBatch) -> Result<Group, Error> {
    let (mut better, mut worse, mut weights) = (vec![], vec![], vec![]);
    let mut spans = batch.spans.iter();
    while let Some(chosen) = spans.next() {
        let rejected = spans.next().filter(|rejected| (chosen.part, rejected.part) == (Part::Chosen, Part::Rejected));
        let Some(rejected) = rejected else {
            return Err(Error::Request {
                problem: "rows that are no pairs of a better and a worse answer".into(),
                help: "give a reward model rows of format `preference`".into(),
            });
        };
        if chosen.weight > 0.0 {
            better.push(position(view, batch, chosen));
            worse.push(position(view, batch, rejected));
            weights.push(chosen.weight);
        }
    }
    let inputs = PooledInputs::Texts(inputs(batch), [better, worse].concat());
    Ok(Group { inputs, first: 0, weights, targets: Targets::Pairs })
}

fn images(batch: &Batch, config: &ImageConfig) -> Result<Vec<Group>, Error> {
    let group = |LabelledImages { first, pixels, labels }: LabelledImages| {
        let classes = labels.into_iter().collect::<Option<Vec<usize>>>().ok_or_else(|| Error::Request {
            problem: "a row without a label among those that are learned from".into(),
            help: "give every row of tensors `labels`, the number of its class".into(),
        })?;
        let weights = vec![1.0; classes.len()];
        Ok(Group { inputs: PooledInputs::Images(pixels), first, weights, targets: Targets::Class(classes) })
    };
    LabelledImages::of(batch, config)?.into_iter().map(group).collect()
}

/// The mode of rows that begin `first` rows into a micro-batch.
fn from_row(mode: Mode, first: usize) -> Mode {
    match mode {
        Mode::Training { key, first_row } => Mode::Training { key, first_row: first_row + first },
        Mode::Inference => Mode::Inference,
    }
}

impl Group {
    /// The sum of its weights.
    fn weight(&self) -> f64 {
        self.weights.iter().map(|weight| f64::from(*weight)).sum()
    }
}

/// The forward pass of a group, up to the loss of its scores.
struct ScorePassage<'a> {
    score: &'a Score,
    group: &'a Group,
    shares: Vec<f32>,
    mode: Mode,
    /// The scores, once they are computed.
    seen: RefCell<Option<Tensor<2>>>,
}

impl Passage for ScorePassage<'_> {
    fn context(&self, network: &Network) -> Context {
        pooled(network).context(&self.group.inputs, self.mode)
    }

    fn embed(&self, network: &Network) -> Tensor<3> {
        pooled(network).embed(&self.group.inputs, self.mode)
    }

    fn stack<'n>(&self, network: &'n Network) -> Stack<'n> {
        pooled(network).stack()
    }

    fn loss(&self, network: &Network, x: Tensor<3>) -> Tensor<1> {
        let scores = pooled(network).finish(x, &self.group.inputs, self.mode);
        self.seen.replace(Some(scores.clone().detach()));
        self.score.loss(scores, &self.group.targets, &self.shares)
    }
}
