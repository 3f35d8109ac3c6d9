//! Where a run starts: in a new folder, after a checkpoint, or at the beginning of a run that left no checkpoint.
//!
//! A run that goes on is the same run: same weights to start from, same rows in the same order, same optimiser. Whatever
//! else the recipe says may change, is named, and is kept in `run.json`.

use std::path::Path;
use std::sync::Arc;

use super::info::{command, now, run_info};
use crate::cli::TrainArgs;
use crate::error::Error;
use crate::plan::Ready;
use crate::recipe::{Change, Duration, Effect, Recipe};
use crate::run::{
    Checkpoint, Continuation, Differences, ResumePoint, RunDirectory, RunError, RunInfo, RunState, TrainerState,
};

/// The folder of a run, locked, and where the run goes on.
pub(super) struct Start {
    pub directory: Arc<RunDirectory>,
    /// Absent: at the first step.
    pub checkpoint: Option<Checkpoint>,
    /// What the user is told about it.
    pub lines: Vec<String>,
    /// Whether no step is left to do.
    pub idle: bool,
    recipe: String,
    info: RunInfo,
    /// Whether recipe and `run.json` are written when the run goes on.
    is_recorded: bool,
    /// Whether the learning rate now follows another schedule than in the steps before.
    reschedules: bool,
}

impl Start {
    /// Opens the folder that the recipe names. A new run's recipe and `run.json` are written; those of a run that goes on
    /// by [`Self::record`].
    ///
    /// # Errors
    /// Those of the run directory, and a run that would not be the same.
    pub fn new(arguments: &TrainArgs, ready: &Ready, total_steps: u64) -> Result<Self, Error> {
        let recipe = ready.recipe();
        let (toml, info) = (recipe.to_toml()?, run_info(ready)?);
        let directory = match &arguments.resume {
            None => {
                let directory = RunDirectory::create(&recipe.output)?;
                let again = "a run that began here stopped before its first checkpoint: it starts again, and its metrics are replaced";
                let lines = if directory.began_before() { vec![format!("start    {again}")] } else { vec![] };
                return Self::at_the_beginning(directory, toml, info, lines);
            }
            Some(_) => RunDirectory::open_for_resume(&recipe.output)?,
        };
        let selection = directory.select(arguments.resume.as_ref().and_then(Option::as_deref))?;
        for passed in &selection.passed_over {
            eprintln!("{passed}");
        }
        match directory.resume_point(selection)? {
            ResumePoint::Beginning => {
                let line = "resume   the run stopped before its first checkpoint: it starts from the beginning, and its metrics are replaced";
                Self::at_the_beginning(directory, toml, info, vec![line.into()])
            }
            ResumePoint::Checkpoint(checkpoint) => {
                let start = Self {
                    directory: Arc::new(directory),
                    checkpoint: None,
                    lines: vec![],
                    idle: false,
                    recipe: toml,
                    info,
                    is_recorded: false,
                    reschedules: false,
                };
                start.after(checkpoint, arguments, recipe, total_steps)
            }
        }
    }

    fn at_the_beginning(
        directory: RunDirectory,
        recipe: String,
        info: RunInfo,
        lines: Vec<String>,
    ) -> Result<Self, Error> {
        directory.write_recipe(&recipe)?;
        directory.write_info(&info)?;
        let directory = Arc::new(directory);
        Ok(Self {
            directory,
            checkpoint: None,
            lines,
            idle: false,
            recipe,
            info,
            is_recorded: false,
            reschedules: false,
        })
    }

    fn after(
        mut self,
        checkpoint: Checkpoint,
        arguments: &TrainArgs,
        recipe: &Recipe,
        total_steps: u64,
    ) -> Result<Self, Error> {
        let earlier = self.directory.read_info()?;
        let compared = recipe.changes_since(&self.directory.read_recipe()?);
        if compared.is_none() {
            eprintln!(
                "warning: recipe.toml of the run is none that this version reads; what changed since is not known"
            );
        }
        let changes = compared.unwrap_or_default();
        let differences = self.info.differences(&earlier);
        Refusal { checkpoint: &checkpoint.path, recipe, arguments, earlier: &earlier, now: &self.info }
            .check(&changes, &differences)?;

        let step = checkpoint.step;
        let out_of_patience = out_of_patience(recipe, &checkpoint)?;
        self.idle = step >= total_steps || out_of_patience;
        self.lines.push(if step >= total_steps {
            format!("resume   nothing left to do: step {step} of {total_steps}; {}", more(recipe))
        } else if out_of_patience {
            format!(
                "resume   nothing left to do: the run stopped early at step {step} of {total_steps}; raise \
                 eval.early_stopping.patience to go on, or start a new run from what was learned: {}",
                learned(recipe, &checkpoint.path)
            )
        } else {
            format!("resume   from {}, after step {step} of {total_steps}", checkpoint.path.display())
        });
        let unused = |change: &Change| {
            if self.idle && !change.is_of_results() { ": no step is left that it acts on" } else { "" }
        };
        let changed = changes.iter().map(|change| format!("changed  {change}{}", unused(change)));
        let changed: Vec<String> = changed.collect();
        self.lines.extend(changed);
        let Differences { base, data, harmless } = differences;
        let others: Vec<String> = [base, data, harmless].concat();
        self.lines.extend(others.iter().map(|difference| format!("changed  {difference}")));

        let moves_the_rate = |change: &Change| {
            ["train.steps", "train.epochs", "optimizer.learning_rate"].contains(&change.key.as_str())
                || change.key.starts_with("schedule.")
        };
        self.reschedules = changes.iter().any(moves_the_rate);
        // A recipe by which nothing was trained is not that of the run.
        self.is_recorded = !self.idle || (!changes.is_empty() && changes.iter().all(Change::is_of_results));
        let changed = changes.into_iter().map(|change| (change.key, (change.before, change.now))).collect();
        let continuation = Continuation { step, time: now(), command: command(), changed, differences: others };
        self.info.history = [earlier.history, vec![continuation]].concat();
        (self.info.command, self.info.started) = (earlier.command, earlier.started);
        self.checkpoint = Some(checkpoint);
        Ok(self)
    }

    /// A line about the learning rate, if another schedule decides it than in the steps before. `rate` is that of the next
    /// step.
    ///
    /// # Errors
    /// A checkpoint whose history cannot be read.
    pub fn rate_line(&self, rate: f64, total_steps: u64) -> Result<Option<String>, Error> {
        let Some(checkpoint) = self.checkpoint.as_ref().filter(|_| self.reschedules && !self.idle) else {
            return Ok(None);
        };
        let history = TrainerState::read(&checkpoint.path)?;
        let last = history
            .log_history
            .iter()
            .rev()
            .find_map(|entry| Some((entry.get("step")?.as_u64()?, entry.get("learning_rate")?.as_f64()?)));
        let before = last.map_or(String::new(), |(step, rate)| format!("was {rate:.2e} at step {step} and "));
        Ok(Some(format!(
            "schedule that of {total_steps} steps from here on: the learning rate {before}is {rate:.2e} at step {}",
            checkpoint.step + 1
        )))
    }

    /// Writes the recipe and `run.json` by which a run goes on. Called once its checkpoint was read.
    ///
    /// # Errors
    /// Those of writing.
    pub fn record(&self) -> Result<(), RunError> {
        if self.is_recorded {
            self.directory.write_recipe(&self.recipe)?;
            self.directory.write_info(&self.info)?;
        }
        Ok(())
    }
}

/// Whether early stopping ended the run at this checkpoint, by the patience of today's recipe.
fn out_of_patience(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<bool, Error> {
    let Some(stopping) = &recipe.eval.early_stopping else { return Ok(false) };
    let state = RunState::read(&checkpoint.path)?;
    Ok(state.best.is_some() && state.evaluations_without_improvement >= stopping.patience as u64)
}

/// What to do for more steps.
fn more(recipe: &Recipe) -> String {
    let key = match recipe.train.duration {
        Duration::Steps(_) => "train.steps",
        Duration::Epochs(_) | Duration::Fitting => "train.epochs",
    };
    let limited = recipe.data.train.iter().all(|source| source.epochs.is_some());
    let sources = if limited { " (and `epochs` of the sources, which end the run too)" } else { "" };
    let folder = if recipe.method.adapter().is_some() { "adapter" } else { "model" };
    let learned = learned(recipe, &recipe.output.join(folder));
    format!("raise {key}{sources}, or start a new run from what was learned: {learned}")
}

/// The setting by which a new run starts from `folder`.
fn learned(recipe: &Recipe, folder: &Path) -> String {
    match recipe.method.adapter() {
        Some(_) => format!("--output NEW --set adapter.init_from={}", folder.display()),
        None => format!("--output NEW --set model={}", recipe.output.join("model").display()),
    }
}

/// The reasons for which a run cannot go on.
struct Refusal<'a> {
    checkpoint: &'a Path,
    recipe: &'a Recipe,
    arguments: &'a TrainArgs,
    earlier: &'a RunInfo,
    now: &'a RunInfo,
}

impl Refusal<'_> {
    fn check(&self, changes: &[Change], differences: &Differences) -> Result<(), Error> {
        let with = |effect: Effect| changes.iter().filter(move |change| change.effect() == effect);
        let run: Vec<String> = with(Effect::Run).map(|change| self.why(change)).collect();
        if !run.is_empty() {
            let learned = learned(self.recipe, self.checkpoint);
            return Err(self.error(
                format!("these keys make it another run: {}", run.join("; ")),
                format!("put them back, or start a new run from what was learned: {learned}"),
            ));
        }
        // Where the model lies does not matter; what it holds does.
        let keys = with(Effect::Base).filter(|change| change.key != "model").map(Change::to_string);
        let base: Vec<String> = keys.chain(differences.base.iter().cloned()).collect();
        if !base.is_empty() && !self.arguments.changed_base {
            return Err(self.error(
                format!("its base model is not the one that was trained on: {}", base.join("; ")),
                "name the model it began with, or go on with this one by --changed-base".into(),
            ));
        }
        let keys = with(Effect::Data).filter(|change| !self.same_rows(change)).map(Change::to_string);
        let data: Vec<String> = keys.chain(differences.data.iter().cloned()).collect();
        if !data.is_empty() && !self.arguments.changed_data {
            return Err(self.error(
                format!("its rows are not those it began with: {}", data.join("; ")),
                "put them back, or go on with these by --changed-data: the place in the data stays, so rows of this epoch may be \
                 seen twice or not at all"
                    .into(),
            ));
        }
        Ok(())
    }

    fn error(&self, why: String, help: String) -> Error {
        Error::Request { problem: format!("{} cannot go on: {why}", self.checkpoint.display()), help }
    }

    fn why(&self, change: &Change) -> String {
        match change.key.as_str() {
            "optimizer.kind" => format!("{change} (optimizer.safetensors holds the state of the first)"),
            _ => change.to_string(),
        }
    }

    /// Whether a changed key only says where the same content lies.
    fn same_rows(&self, change: &Change) -> bool {
        if change.key == "data.template" {
            return self.now.template == self.earlier.template;
        }
        let is_path = change.key.starts_with("data.") && change.key.ends_with(".path");
        let hash = |info: &RunInfo, path: &serde_json::Value| info.data.get(path.as_str()?).cloned();
        let (before, now) = (hash(self.earlier, &change.before), hash(self.now, &change.now));
        let one_source = self.recipe.data.train.len() + self.recipe.data.eval.len() == 1;
        is_path && (one_source || (before.is_some() && before == now))
    }
}
