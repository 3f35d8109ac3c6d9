//! Objectives over judged answers: [`Preference`].
//!
//! ```text
//! dpo.rs orpo.rs simpo.rs   a pair's loss (pair_loss.rs), by its answers' log-probabilities; pairs.rs is the three as one
//! kto.rs                    the loss of an answer that is good or bad
//! mismatched.rs             answers that do not belong to their prompts, for KTO
//! answers.rs                where the answers of a batch lie, and their log-probabilities
//! reference.rs              the model that log-ratios measure from, or what it gave the pairs before
//! sums.rs                   sums over a step, which become the loss and the numbers beside it
//! ```
//! Every loss is a formula of the log-probabilities of whole answers. A micro-batch's answers are scored, the formulas and their
//! derivatives are computed on the host in f64, and the pass goes backward from the sum of the token's log-probabilities, each times the
//! derivative that belongs to it; that sum has the gradient of the loss. Losses are divided by what the whole step holds.
//!
//! The reference is a network without autodiff that is never changed: tensors are shared by counting references, and an optimiser gives
//! a parameter a new tensor. So the base of an adapter is held once, and that of a full run becomes a copy with the first step.

mod answers;
mod dpo;
mod kto;
mod math;
mod mismatched;
mod orpo;
mod pair_loss;
mod pairs;
mod reference;
mod simpo;
mod sums;
#[cfg(test)]
mod tests;

pub use answers::Scored;
pub use dpo::Dpo;
pub use kto::{AnswerLoss, Kto};
pub use orpo::Orpo;
pub use pair_loss::PairLoss;
pub use pairs::PairFormula;
pub use reference::{Reference, keep_pairs, missing_pairs};
pub use simpo::Simpo;

use std::cell::RefCell;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, Judgement, Part, TokenBatch, Tokens};
use firebrand_kernels::sum;
use firebrand_models::parts::{Context, Inputs};
use firebrand_models::{Network, Stack};

use super::backward::{Passage, Recompute, backward};
use super::gradients::Gradients;
use super::parts::{EvalMetrics, Evaluated, StepLoss};
use super::pending::PendingLoss;
use super::views::{inputs, predictor};
use crate::error::Error;
use crate::profile::phase;
use answers::{Answer, Answers, Judged};
use mismatched::{Mismatched, batches};
use sums::Sums;

/// An objective over judged answers.
#[derive(Debug, Clone)]
pub struct Preference {
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// The loss.
    pub formula: Formula,
    /// The model that log-ratios measure from. Without one, log-ratios are log-probabilities.
    pub reference: Option<Reference>,
    /// The most tokens of a row that is made of the prompt and the answer of two others.
    pub longest: usize,
}

/// A loss of judged answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Formula {
    /// Of pairs.
    Pairs(PairFormula),
    /// Of answers that are good or bad.
    Kto(Kto),
}

/// What the losses of a step are divided by, and what they share.
#[derive(Debug, Clone, Copy, Default)]
struct Scale {
    /// Weights of pairs or rows.
    weight: f64,
    /// Weights of the tokens whose likelihood is charged.
    tokens: f64,
    /// How far the model has gone from the base.
    kl: f64,
}

/// The log-probabilities of all predictions of a batch by the model, and of its answers by the reference.
#[derive(Clone, Copy)]
struct Given<'a> {
    model: &'a [f32],
    reference: Option<&'a [f64]>,
}

impl Preference {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    ///
    /// # Errors
    /// Rows that are not judged as the formula needs it.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(Batch, Mode)],
        gradients: &mut Gradients,
    ) -> Result<StepLoss, Error> {
        let step: Vec<Judged<'_>> = batches.iter().map(|(batch, _)| Judged::of(batch)).collect::<Result<_, _>>()?;
        let all: Vec<Answers> = step.iter().map(|batch| Answers::of(*batch, self.charges_likelihood())).collect();
        let mut scale = Scale::default();
        for answers in &all {
            self.measure(answers, &mut scale)?;
        }
        if let Formula::Kto(_) = self.formula {
            let frozen = network.valid();
            let mut apart = Apart::default();
            let mut mismatched = Mismatched::default();
            for batch in &step {
                self.add_apart(&frozen, mismatched.next(*batch), batch.tokens, &mut apart)?;
            }
            if let Some(batch) = step.last() {
                self.add_apart(&frozen, mismatched.end().into_iter().collect(), batch.tokens, &mut apart)?;
            }
            scale.kl = apart.kl();
        }
        let sums = RefCell::new(self.no_sums(scale.kl));
        for ((answers, batch), (_, mode)) in all.iter().zip(step).zip(batches) {
            if answers.is_empty() {
                continue;
            }
            let reference = self.by_reference(answers, batch)?;
            let judge = |model: &[f32]| {
                let given = Given { model, reference: reference.as_deref() };
                self.judge(answers, given, scale, &mut sums.borrow_mut())
            };
            let passage = AnswerPassage { answers, inputs: inputs(batch.tokens), mode: *mode, judge: &judge };
            backward(&passage, network, self.recompute, gradients);
        }
        let sums = sums.into_inner();
        Ok(StepLoss { loss: PendingLoss::known(sums.loss()), parts: sums.parts() })
    }

    /// Loss and numbers over all batches, without gradients. The network must be on a device without autodiff.
    ///
    /// # Errors
    /// Those of the batches; rows that are not judged as the formula needs it.
    pub(super) fn evaluate(
        &self,
        network: &Network,
        all: &mut dyn Iterator<Item = Result<Batch, Error>>,
    ) -> Result<Evaluated, Error> {
        let mut sums = self.no_sums(0.0);
        let (mut apart, mut mismatched, mut like) = (Apart::default(), Mismatched::default(), None);
        // How far the model has gone is known at the end, so answers wait for it.
        let mut waiting: Vec<(Scored, Judgement, f64)> = vec![];
        for batch in all {
            let batch = batch?;
            let judged = Judged::of(&batch)?;
            let answers = Answers::of(judged, self.charges_likelihood());
            let model = answers.by(network, judged.tokens);
            let reference = self.by_reference(&answers, judged)?;
            let given = Given { model: &model, reference: reference.as_deref() };
            match &self.formula {
                Formula::Pairs(_) => {
                    let mut scale = Scale::default();
                    self.measure(&answers, &mut scale)?;
                    self.judge(&answers, given, scale, &mut sums);
                }
                Formula::Kto(_) => {
                    for (answer, judgement) in judgements(&answers)? {
                        waiting.push((answers.scored(answer, given.model, given.reference), judgement, answer.weight));
                    }
                    self.add_apart(network, mismatched.next(judged), judged.tokens, &mut apart)?;
                    like = Some(judged.tokens.clone());
                }
            }
        }
        if let (Formula::Kto(kto), Some(like)) = (&self.formula, like) {
            self.add_apart(network, mismatched.end().into_iter().collect(), &like, &mut apart)?;
            sums.kl = Some(apart.kl());
            for (scored, judgement, weight) in waiting {
                add_answer(kto, scored, judgement, weight, apart.kl(), &mut sums);
            }
        }
        Ok(Evaluated { loss: sums.loss(), metrics: EvalMetrics::Numbers(sums.parts()) })
    }

    /// What the reference gives the answers of a batch, where there is one.
    fn by_reference(&self, answers: &Answers, batch: Judged<'_>) -> Result<Option<Vec<f64>>, Error> {
        phase!("reference");
        self.reference.as_ref().map(|reference| reference.sums(answers, batch)).transpose()
    }

    fn charges_likelihood(&self) -> bool {
        match self.formula {
            Formula::Pairs(formula) => formula.charges_likelihood(),
            Formula::Kto(_) => false,
        }
    }

    fn no_sums(&self, kl: f64) -> Sums {
        match self.formula {
            Formula::Pairs(_) => Sums { right: Some(0.0), ..Sums::default() },
            Formula::Kto(_) => Sums { kl: Some(kl), ..Sums::default() },
        }
    }

    /// Adds what a batch has a share of to what the step's losses are divided by.
    fn measure(&self, answers: &Answers, scale: &mut Scale) -> Result<(), Error> {
        match self.formula {
            Formula::Pairs(formula) => {
                for pair in answers.pairs()? {
                    scale.weight += weight(pair);
                    if formula.charges_likelihood() {
                        scale.tokens += weight(pair) * pair[0].predictions().len() as f64;
                    }
                }
            }
            Formula::Kto(_) => {
                scale.weight += judgements(answers)?.iter().map(|(answer, _)| answer.weight).sum::<f64>()
            }
        }
        Ok(())
    }

    /// Adds the answers of a batch to the sums, and returns the derivative of the step's loss by each log-probability.
    fn judge(&self, answers: &Answers, given: Given<'_>, scale: Scale, sums: &mut Sums) -> Vec<f32> {
        let mut slopes = vec![0.0; given.model.len()];
        let scored = |answer: &Answer| answers.scored(answer, given.model, given.reference);
        match &self.formula {
            Formula::Pairs(formula) => {
                for pair in answers.pairs().unwrap_or_default() {
                    let weight = weight(pair);
                    let found = formula.pair(scored(pair[0]), scored(pair[1]));
                    sums.losses += weight * found.loss;
                    sums.weight += weight;
                    sums.better.add(found.rewards[0], found.shown[0]);
                    sums.worse.add(found.rewards[1], found.shown[1]);
                    sums.right = sums.right.map(|right| right + f64::from(found.rewards[0] > found.rewards[1]));
                    for (answer, slope) in pair.into_iter().zip(found.slopes) {
                        answers.tokens_of(answer).for_each(|index| slopes[index] += weight * slope / scale.weight);
                    }
                    if formula.charges_likelihood() {
                        for index in pair[0].predictions() {
                            sums.likelihood -= weight * f64::from(given.model[index]);
                            sums.tokens += weight;
                            slopes[index] -= weight / scale.tokens;
                        }
                    }
                }
            }
            Formula::Kto(kto) => {
                for (answer, judgement) in judgements(answers).unwrap_or_default() {
                    let slope = add_answer(kto, scored(answer), judgement, answer.weight, scale.kl, sums);
                    answers.tokens_of(answer).for_each(|index| slopes[index] += answer.weight * slope / scale.weight);
                }
            }
        }
        slopes.into_iter().map(|slope| slope as f32).collect()
    }

    /// Adds the log-ratios of mismatched rows, in batches about as large as `like`.
    fn add_apart(
        &self,
        network: &Network,
        rows: Vec<Tokens>,
        like: &TokenBatch,
        apart: &mut Apart,
    ) -> Result<(), Error> {
        let longest = predictor(network).position_limit().unwrap_or(usize::MAX).min(self.longest);
        for (parts, tokens) in batches(rows, like, longest) {
            let batch = Judged { parts: &parts, tokens: &tokens };
            let answers = Answers::of(batch, false);
            let model = answers.by(network, &tokens);
            let reference = self.by_reference(&answers, batch)?;
            for answer in &answers.all {
                apart.sum += answers.scored(answer, &model, reference.as_deref()).log_ratio();
                apart.rows += 1.0;
            }
        }
        Ok(())
    }
}

/// Log-ratios of mismatched rows.
#[derive(Debug, Clone, Copy, Default)]
struct Apart {
    sum: f64,
    rows: f64,
}

impl Apart {
    /// Their mean, which counts where it is positive, as a divergence is.
    fn kl(self) -> f64 {
        let mean = self.sum / self.rows.max(1.0);
        // Not `max`, which would make 0 of what is no number.
        if mean < 0.0 { 0.0 } else { mean }
    }
}

/// The weight of a pair: that of its row. Weights of messages may differ between its answers.
fn weight([chosen, rejected]: [&Answer; 2]) -> f64 {
    (chosen.weight + rejected.weight) / 2.0
}

/// The answers with their judgements.
fn judgements(answers: &Answers) -> Result<Vec<(&Answer, Judgement)>, Error> {
    let judged = answers.all.iter().map(|answer| match answer.part {
        Part::Good => Ok((answer, Judgement::Good)),
        Part::Bad => Ok((answer, Judgement::Bad)),
        Part::Alone | Part::Chosen | Part::Rejected => Err(Error::Request {
            problem: "the rows are no answers that are good or bad".into(),
            help: "give this objective rows of format = \"unpaired\"".into(),
        }),
    });
    judged.collect()
}

/// Adds a judged answer to the sums and returns the derivative of its loss.
fn add_answer(kto: &Kto, scored: Scored, judgement: Judgement, weight: f64, kl: f64, sums: &mut Sums) -> f64 {
    let found = kto.answer(scored, judgement, kl);
    sums.losses += weight * found.loss;
    sums.weight += weight;
    match judgement {
        Judgement::Good => sums.better.add(found.reward, scored.sum),
        Judgement::Bad => sums.worse.add(found.reward, scored.sum),
    }
    found.slope
}

/// The forward pass of a micro-batch up to the log-probabilities of its answers.
struct AnswerPassage<'a> {
    answers: &'a Answers,
    inputs: Inputs,
    mode: Mode,
    /// The derivative of the loss by each log-probability.
    judge: &'a dyn Fn(&[f32]) -> Vec<f32>,
}

impl Passage for AnswerPassage<'_> {
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
        let predictor = predictor(network);
        let given = self.answers.log_probabilities(predictor, predictor.finish(x, self.mode));
        let slopes = (self.judge)(&given.to_data().iter::<f32>().collect::<Vec<_>>());
        let count = slopes.len();
        let slopes = Tensor::<1>::from_data(TensorData::new(slopes, [count]), &given.device());
        sum(given * slopes)
    }
}
