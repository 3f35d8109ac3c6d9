//! One training step and the loop around it: [`Trainer::run`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use firebrand_adapters::{Mode, stream};
use firebrand_datasets::Dataset;
use firebrand_models::Model;
use firebrand_models::parameters::ParameterInfo;
use rand::Rng;

use super::ahead::Ahead;
use super::evaluation::{evaluate, rows_without_a_loss};
use super::rate_sweep::RateSweep;
use super::steps::{StepData, Steps};
use crate::error::Error;
use crate::objective::{Evaluated, Gradients, Objective, StepLoss};
use crate::observer::{Answer, EvalReport, Observer, SampleReport, StepReport};
use crate::optim::{OptimizerState, WeightAverage, clip_factor, global_norm_beside};
use crate::profile::phase;
use crate::recipe::{EvaluatedWeights, ExportedWeights, Recipe};
use crate::run::{Best, Checkpoint, Checkpoints, Retention, RunState, TrainerState};

use super::summary::Summary;

/// A run in progress.
#[derive(Debug)]
pub struct Trainer<'a> {
    pub(super) recipe: &'a Recipe,
    /// The most packs that go through the model at once.
    micro_batch: usize,
    pub(super) base_model: String,
    pub(super) model: Model,
    /// The trained parameters of the model.
    pub(super) trained: Vec<ParameterInfo>,
    pub(super) optimizer: OptimizerState,
    /// The moving average of the trained weights, if the recipe keeps one.
    pub(super) average: Option<WeightAverage>,
    pub(super) state: RunState,
    pub(super) history: TrainerState,
    train: &'a Dataset,
    eval: Option<&'a Dataset>,
    steps: Steps<'a>,
    pub(super) objective: Objective,
    /// The tokenizer that checkpoints carry, where it is not the base model's.
    pub(super) tokenizer: Option<PathBuf>,
    questions: Option<Questions<'a>>,
    /// The step whose weights the model has.
    weights_of: u64,
    /// Whether these are the moving average at that step.
    averaged: bool,
    /// The next step's batches, where they take time to be laid out.
    ahead: Option<Ahead>,
    /// Rates in place of those of the schedule.
    pub(super) sweep: Option<RateSweep>,
}

/// Gives a model's answers.
pub type Ask<'a> = Box<dyn FnMut(&Model) -> Result<Vec<Answer>, Error> + 'a>;

/// Questions that are asked during training.
pub struct Questions<'a> {
    /// Optimiser steps between two times.
    pub every: u64,
    /// Gives the model's answers to them.
    pub ask: Ask<'a>,
}

impl std::fmt::Debug for Questions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions").field("every", &self.every).finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The evaluation loss stopped improving.
    StoppedEarly {
        /// The best evaluation.
        best: Best,
    },
    /// The observer asked to stop; the run can continue from the checkpoint.
    Interrupted {
        /// The checkpoint written when the run stopped.
        checkpoint: Checkpoint,
    },
}

impl<'a> Trainer<'a> {
    /// A run before its first step. The trained parameters of `model` require gradients; `base_model` is the name of
    /// the base model that is written into adapters.
    pub fn new(
        recipe: &'a Recipe,
        objective: Objective,
        base_model: String,
        model: Model,
        train: &'a Dataset,
        eval: Option<&'a Dataset>,
    ) -> Self {
        let mut objective = objective;
        objective.begin(model.network());
        let steps = Steps::new(train, recipe.seed, recipe.train.batch_size, recipe.train.duration);
        let history = TrainerState {
            max_steps: steps.total,
            logging_steps: recipe.log.every as u64,
            eval_steps: recipe.eval.every as u64,
            save_steps: recipe.checkpoint.every as u64,
            train_batch_size: Some(recipe.train.micro_batch_size as u64),
            ..TrainerState::default()
        };
        let trained = model.trained_parameters();
        Self {
            recipe,
            micro_batch: recipe.train.micro_batch_size,
            base_model,
            average: recipe.train.ema.map(|decay| WeightAverage::of(model.network(), &trained, decay)),
            trained,
            model,
            optimizer: OptimizerState::default(),
            state: RunState { seed: recipe.seed, ..RunState::default() },
            history,
            train,
            eval,
            steps,
            objective: objective.within(recipe.data.max_length),
            tokenizer: None,
            questions: None,
            weights_of: 0,
            averaged: false,
            ahead: None,
            sweep: None,
        }
    }

    /// Lets fewer packs through the model at once than the recipe allows. That changes nothing of what is computed, except the
    /// order of sums.
    pub fn with_micro_batch(mut self, micro_batch: usize) -> Self {
        self.history.train_batch_size = Some(micro_batch as u64);
        Self { micro_batch, ..self }
    }

    /// Lets every checkpoint carry the tokenizer in `folder`, because the base model's is another.
    pub fn with_tokenizer(self, folder: Option<PathBuf>) -> Self {
        Self { tokenizer: folder, ..self }
    }

    /// Asks questions during training. They change nothing of what is trained.
    pub fn with_questions(mut self, questions: Option<Questions<'a>>) -> Self {
        self.questions = questions;
        self
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.steps.total
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// What the run was, so far.
    pub fn summary(&self) -> Summary {
        Summary::new(&self.state, &self.history, self.weights_of, self.averaged)
    }

    /// The model in its current state.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the model out of the trainer.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// Restores the state of `checkpoint` and moves to its position in the data.
    ///
    /// # Errors
    /// A checkpoint of another run, or damaged files.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.restore(checkpoint)?;
        self.steps.seek(self.state.epoch, self.state.position);
        self.weights_of = self.state.step;
        Ok(())
    }

    /// Runs to the end, or until the observer asks to stop. Returns the trainer in its final state and how the run
    /// ended. At the end the model has the weights that `export.weights` asks for.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, and those of writing. Checkpoints written before stay.
    pub fn run(mut self, checkpoints: &Checkpoints, observer: &mut dyn Observer) -> Result<(Self, Outcome), Error> {
        if self.state.step == 0 && self.recipe.eval.at_start {
            self.evaluate(0.0, observer)?;
        }
        // A run that stopped early goes on only with more patience.
        if let (true, Some(best)) = (self.out_of_patience(), self.state.best) {
            self.choose_weights(checkpoints)?;
            return Ok((self, Outcome::StoppedEarly { best }));
        }
        let mut last = None;
        while self.state.step < self.steps.total {
            let report;
            (self, report) = self.train_step()?;
            observer.step(&report)?;
            self.history.epoch = report.epoch;
            if is_logged(&report, self.recipe.log.every) {
                self.history.log_step(&report);
            }
            let finished = self.state.step == self.steps.total;
            let evaluation = self.evaluate_if_due(finished, report.epoch, observer)?;
            let improved = evaluation == Some(Improvement::Better) && self.recipe.checkpoint.best.is_some();
            let exhausted = self.out_of_patience();
            self.ask_if_due(finished, observer)?;
            let stop = observer.stop_requested();
            let due = self.state.step.is_multiple_of(self.recipe.checkpoint.every as u64);
            if due || finished || improved || exhausted || stop {
                last = Some(self.write_checkpoint(checkpoints, observer)?);
            }
            match (exhausted, self.state.best, stop && !finished, &last) {
                (true, Some(best), ..) if !finished => {
                    self.choose_weights(checkpoints)?;
                    return Ok((self, Outcome::StoppedEarly { best }));
                }
                (_, _, true, Some(checkpoint)) => {
                    let checkpoint = checkpoint.clone();
                    return Ok((self, Outcome::Interrupted { checkpoint }));
                }
                _ => {}
            }
        }
        self.choose_weights(checkpoints)?;
        Ok((self, Outcome::Finished))
    }

    /// Whether the evaluations since the best one are as many as early stopping waits for.
    fn out_of_patience(&self) -> bool {
        let patience = self.recipe.eval.early_stopping.as_ref().map(|stopping| stopping.patience as u64);
        patience.is_some_and(|patience| self.state.evaluations_without_improvement >= patience)
    }

    /// Gives the model the weights that `export.weights` asks for. Without an evaluation the last ones are the best.
    fn choose_weights(&mut self, checkpoints: &Checkpoints) -> Result<(), Error> {
        self.weights_of = self.state.step;
        match self.recipe.export.weights {
            ExportedWeights::Best => self.choose_best(checkpoints)?,
            ExportedWeights::Last | ExportedWeights::Ema => {}
        }
        let averaged = match self.recipe.export.weights {
            ExportedWeights::Ema => true,
            ExportedWeights::Best => self.evaluates_average(),
            ExportedWeights::Last => false,
        };
        if let (true, Some(average)) = (averaged, &self.average) {
            self.model = self.model.clone().with_network(|network| average.put_into(network));
            self.averaged = true;
        }
        Ok(())
    }

    fn evaluates_average(&self) -> bool {
        match self.recipe.eval.weights {
            EvaluatedWeights::Ema => true,
            EvaluatedWeights::Last => false,
        }
    }

    /// Restores the weights of the best evaluation, and their average.
    fn choose_best(&mut self, checkpoints: &Checkpoints) -> Result<(), Error> {
        match self.state.best {
            Some(best) if best.step != self.state.step => {
                let checkpoint = checkpoints.open(best.step).map_err(|error| Error::Request {
                    problem: format!(
                        "the best evaluation was at step {}, and its checkpoint cannot be used: {error}",
                        best.step
                    ),
                    help: "--resume --set 'export.weights=\"last\"' writes the weights of the last step".into(),
                })?;
                self.restore_weights(&checkpoint)?;
                self.restore_average(&checkpoint)?;
                self.weights_of = best.step;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn ask_if_due(&mut self, finished: bool, observer: &mut dyn Observer) -> Result<(), Error> {
        let step = self.state.step;
        match &mut self.questions {
            // After the last step they are asked of what is written.
            Some(questions) if !finished && step.is_multiple_of(questions.every) => {
                let answers = (questions.ask)(&self.model.for_inference())?;
                Ok(observer.sampled(&SampleReport { step, answers })?)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// One optimiser step. Takes `self` by value so that the network has one owner and is updated in place.
    pub(super) fn train_step(mut self) -> Result<(Self, StepReport), Error> {
        let start = Instant::now();
        let data = self.steps.advance();
        let step = self.state.step + 1;
        let key = stream(self.recipe.seed, &format!("dropout/{step}")).random();
        let batches = {
            phase!("batch");
            let batches = Ahead::finish(self.ahead.take(), self.train, &data.packs, self.micro_batch)?;
            let modes = (0..).step_by(self.micro_batch).map(|first_row| Mode::Training { key, first_row });
            batches.into_iter().zip(modes).collect::<Vec<_>>()
        };
        if step < self.steps.total {
            self.ahead = Ahead::start(self.train, self.steps.upcoming(), self.micro_batch);
        }
        if self.objective.lacks_company(&batches) && !self.steps.is_at_end() {
            let rows =
                data.packs.iter().flat_map(|pack| &pack.examples).map(|row| self.train.location(*row).to_string());
            return Err(Error::Request {
                problem: format!(
                    "step {step} holds one row ({}), and its objective compares the rows of a step",
                    rows.collect::<Vec<_>>().join(", ")
                ),
                help: "raise train.batch_size".into(),
            });
        }
        let mut gradients = if self.recipe.log.noise_scale { Gradients::measuring() } else { Gradients::default() };
        let StepLoss { loss, mut parts } = self.objective.accumulate(self.model.network(), &batches, &mut gradients)?;
        let (loss, norm) = {
            phase!("gradient norm");
            let (terms, norm) = global_norm_beside(loss.terms(), gradients.values());
            (loss.value(&terms), norm)
        };
        self.check_finite(step, loss, norm, &gradients, &data)?;
        if let Some(sample) = gradients.noise(norm, data.packs.len()) {
            let average = self.state.noise.get_or_insert_default();
            average.add(sample);
            parts.set("gradient_variance", sample.variance);
            parts.set("gradient_squared_norm", sample.squared_norm);
            if let Some(scale) = average.scale() {
                parts.set("noise_scale", scale);
            }
        }
        if let Some(max_norm) = self.recipe.train.max_grad_norm {
            let factor = clip_factor(norm, max_norm);
            if factor < 1.0 {
                gradients.scale(factor);
            }
        }
        let learning_rate = self.learning_rate(self.state.step);
        self = self.update(gradients, learning_rate);

        let labelled: usize = batches.iter().map(|(batch, _)| batch.labelled_tokens()).sum();
        let tokens: usize = batches.iter().map(|(batch, _)| batch.tokens()).sum();
        let seconds = start.elapsed().as_secs_f64();
        let (epoch, position) = self.steps.place();
        self.state.step = step;
        (self.state.epoch, self.state.position) = (epoch, position);
        self.state.tokens += labelled as u64;
        self.state.input_tokens += tokens as u64;
        self.state.elapsed_seconds += seconds;
        let report = StepReport {
            rows: self.objective.rows(),
            step,
            total_steps: self.steps.total,
            epoch: data.epoch,
            loss,
            parts,
            learning_rate,
            grad_norm: norm,
            input_tokens: tokens as u64,
            tokens: labelled as u64,
            tokens_total: self.state.tokens,
            input_tokens_total: self.state.input_tokens,
            tokens_per_second: tokens as f64 / seconds,
            elapsed: Duration::from_secs_f64(self.state.elapsed_seconds),
        };
        Ok((self, report))
    }

    /// The learning rate of the step with index `index`, from 0.
    pub fn learning_rate(&self, index: u64) -> f64 {
        self.recipe.optimizer.learning_rate(index) * self.schedule_factor(index)
    }

    /// The schedule's factor on a learning rate in that step.
    pub(super) fn schedule_factor(&self, index: u64) -> f64 {
        if let Some(sweep) = &self.sweep {
            return sweep.rate(index) / self.recipe.optimizer.learning_rate(index);
        }
        let schedule = &self.recipe.schedule;
        let total = self.steps.total;
        let warmup = schedule.warmup.steps(total as usize) as u64;
        schedule.curve.factor(index, warmup, total, self.recipe.optimizer.learning_rate(index))
    }

    fn check_finite(
        &self,
        step: u64,
        loss: f64,
        norm: f64,
        gradients: &Gradients,
        data: &StepData,
    ) -> Result<(), Error> {
        if loss.is_finite() && norm.is_finite() {
            return Ok(());
        }
        let what = match gradients.first_non_finite() {
            _ if !loss.is_finite() => format!("the loss ({loss})"),
            Some(path) => format!("the gradient of {path}"),
            None => format!("the norm of the gradient ({norm})"),
        };
        let examples = data.packs.iter().flat_map(|pack| &pack.examples);
        let rows = examples.map(|&row| self.train.location(row)).collect();
        Err(Error::NotFinite { step, what, rows })
    }

    fn evaluate_if_due(
        &mut self,
        finished: bool,
        epoch: f64,
        observer: &mut dyn Observer,
    ) -> Result<Option<Improvement>, Error> {
        if !finished && !self.state.step.is_multiple_of(self.recipe.eval.every as u64) {
            return Ok(None);
        }
        let Some(loss) = self.evaluate(epoch, observer)? else { return Ok(None) };
        let margin = self.recipe.eval.early_stopping.as_ref().map_or(0.0, |stopping| stopping.min_delta);
        let better = self.state.best.is_none_or(|best| loss < best.value - margin);
        if better {
            self.state.best = Some(Best { value: loss, step: self.state.step });
            self.state.evaluations_without_improvement = 0;
            return Ok(Some(Improvement::Better));
        }
        self.state.evaluations_without_improvement += 1;
        Ok(Some(Improvement::NotBetter))
    }

    /// The loss on eval data, if there are any, reported and logged.
    fn evaluate(&mut self, epoch: f64, observer: &mut dyn Observer) -> Result<Option<f64>, Error> {
        let Some(dataset) = self.eval else { return Ok(None) };
        let model = match (&self.average, self.evaluates_average()) {
            (Some(average), true) => {
                self.model.clone().with_network(|network| average.put_into(network)).for_inference()
            }
            (Some(_) | None, _) => self.model.for_inference(),
        };
        let batch_size = self.recipe.eval.batch_size;
        let Evaluated { loss, metrics } = evaluate(&self.objective, &model, dataset, batch_size, |done, total| {
            observer.evaluating(done, total);
        })?;
        if !loss.is_finite() {
            let rows = rows_without_a_loss(&self.objective, &model, dataset, batch_size);
            return Err(Error::NotFinite {
                step: self.state.step,
                what: format!("the evaluation loss ({loss})"),
                rows,
            });
        }
        let report = EvalReport { step: self.state.step, epoch, loss, metrics };
        observer.evaluated(&report)?;
        self.history.log_evaluation(&report);
        Ok(Some(loss))
    }

    fn write_checkpoint(
        &mut self,
        checkpoints: &Checkpoints,
        observer: &mut dyn Observer,
    ) -> Result<Checkpoint, Error> {
        observer.flush()?;
        let best = self.state.best.filter(|best| best.step == self.state.step && self.recipe.checkpoint.best.is_some());
        let step = self.state.step;
        let checkpoint = checkpoints.write(step, best.map(|best| best.value), |folder| self.snapshot(folder))?;
        let retention = Retention { newest: self.recipe.checkpoint.keep, best: self.recipe.checkpoint.best.is_some() };
        retention.apply(checkpoints, step)?;
        observer.note(&format!("wrote {}", checkpoint.path.display()));
        Ok(checkpoint)
    }
}

/// Whether an evaluation was better than the best before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Improvement {
    Better,
    NotBetter,
}

fn is_logged(report: &StepReport, every: usize) -> bool {
    crate::observer::Record::Step(report.clone()).is_logged(every as u64)
}
