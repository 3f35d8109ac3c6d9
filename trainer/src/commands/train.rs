//! `firebrand train`: runs a recipe and writes its run directory.

mod closing;
mod find_rate;
mod info;
mod start;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use firebrand_datasets::{CacheChoice, Kept, RowKind};

use crate::cli::TrainArgs;
use crate::device::described;
use crate::error::Error;
use crate::host::Host;
use crate::inference::samples;
use crate::learner::{Session, observe};
use crate::objective::{Objective, Recompute};
use crate::observer::{Observer, SampleReport};
use crate::plan::{CacheNeed, Portions, Ready};
use crate::recipe::{DeviceName, Loaded, Method, Recipe};
use crate::run::{MetricsFile, RunInfo, TensorBoard};
use crate::training::{Questions, Trainer};
use crate::ui::{SignalScope, Terminals, Ui, bars, verbosity};
use closing::{Closing, Finished};
use start::Start;

pub fn run(arguments: TrainArgs) -> Result<ExitCode, Error> {
    if arguments.find_lr {
        return find_rate::run(&arguments, load_recipe(&arguments)?);
    }
    let prepared = Prepared::new(&arguments)?;
    verbosity::tell(prepared.summary().trim_end());
    verbosity::detail(&format!("device   {}, {}", described(&prepared.recipe().device), Host::here()));
    prepared.start.lines.iter().for_each(|line| verbosity::tell(line));
    for note in prepared.ready.notes() {
        verbosity::tell(&format!("note     {note}"));
    }
    let recipe = prepared.recipe().clone();
    let Prepared { mut ready, portions, total_steps, start } = prepared;
    let companion = ready.take_companion()?;
    let Ready { opened, data, model, .. } = ready;
    let (opened, start) = (Arc::new(opened), Arc::new(start));
    // A run with nothing left to do answers nothing anew.
    let sample = recipe.sample.clone().filter(|_| !start.idle);
    let before = {
        let _waiting = sample
            .as_ref()
            .map(|sample| bars::Waiting::new(&format!("answering {}", count(sample.prompts.len(), "question"))));
        samples::answer(&model.for_inference(), &opened.text, recipe.data.system.as_deref(), sample.as_ref())?
    };

    let directory = start.directory.clone();
    let resumed = start.checkpoint.as_ref().map(|checkpoint| checkpoint.step);
    let toml = recipe.to_toml()?;
    let metrics = match resumed {
        None => MetricsFile::create(&directory.metrics_path())?,
        Some(step) => MetricsFile::resume(&directory.metrics_path(), step)?,
    };
    let tensorboard = match (recipe.log.tensorboard, resumed) {
        (false, _) => None,
        (true, None) => {
            let mut board = TensorBoard::create(&directory.tensorboard_path(), &toml)?;
            board.begin(&name_of(&recipe.output), &recipe.settings())?;
            Some(board)
        }
        (true, Some(_)) if start.idle => None,
        (true, Some(step)) => Some(TensorBoard::resume(&directory.tensorboard_path(), step, &toml)?),
    };
    // From here on the first signal finishes the step and writes a checkpoint. Before and after, it ends the program.
    let signals = SignalScope::begin().map_err(Error::io(Path::new("signal handlers")))?;
    let session = Session {
        ui: Ui::choose(arguments.ui, Terminals::of_process()),
        label: recipe.output.display().to_string(),
        total_steps,
        log_every: recipe.log.every as u64,
        metrics: Some(metrics),
        tensorboard: tensorboard.clone(),
        stop: signals.request(),
    };
    let finished = observe(session, {
        let (recipe, checkpoints) = (recipe.clone(), directory.checkpoints());
        let (opened, start, before) = (opened.clone(), start.clone(), before.clone());
        move |observer: &mut dyn Observer| {
            let base = recipe.model.to_string();
            let objective = Objective::new(&recipe.objective_of(model.kind()), portions.recompute, companion)?;
            let questions = recipe.sample.as_ref().and_then(|sample| {
                let every = sample.every? as u64;
                let (text, system) = (&opened.text, recipe.data.system.as_deref());
                Some(Questions {
                    every,
                    ask: Box::new(move |model| samples::answer(model, text, system, Some(sample))),
                })
            });
            let mut trainer = Trainer::new(&recipe, objective, base, model, &data.train, data.eval.as_ref())
                .with_micro_batch(portions.micro_batch)
                .with_tokenizer(opened.vocabulary.as_ref().map(|new| new.text.path().to_path_buf()))
                .with_questions(questions);
            if let Some(checkpoint) = &start.checkpoint {
                trainer.resume(checkpoint)?;
                start.record()?;
                let rate = trainer.learning_rate(checkpoint.step);
                if let Some(line) = start.rate_line(rate, total_steps)? {
                    observer.note(&line);
                }
            } else if !before.is_empty() {
                observer.sampled(&SampleReport { step: 0, answers: before })?;
            }
            let (trainer, outcome) = trainer.run(&checkpoints, observer)?;
            let (steps, summary) = (trainer.step(), trainer.summary());
            let model = trainer.into_model();
            Ok::<_, Error>(Finished { outcome, steps, summary, model, data })
        }
    })?;
    drop(signals);
    let planned = portions.needed();
    Closing { recipe: &recipe, directory: &directory, opened: &opened, tensorboard, planned, sample: sample.as_ref() }
        .conclude(finished, &before)
}

/// Everything that the first step needs.
struct Prepared {
    ready: Ready,
    portions: Portions,
    total_steps: u64,
    start: Start,
}

impl Prepared {
    fn new(arguments: &TrainArgs) -> Result<Self, Error> {
        let mut ready = Ready::new(load_recipe(arguments)?, CacheNeed::Required)?;
        let earlier = arguments.resume.as_ref().and_then(|_| RunInfo::memory_in(&ready.recipe().output));
        if let Some(earlier) = earlier {
            ready.go_on_as(earlier)?;
        }
        if !ready.data.report.warnings.is_empty() {
            eprintln!("{}", ready.data.report);
        }
        let total_steps = ready.total_steps();
        let portions = ready.portions();
        let start = Start::new(arguments, &ready, total_steps)?;
        Ok(Self { ready, portions, total_steps, start })
    }

    fn recipe(&self) -> &Recipe {
        self.ready.recipe()
    }

    fn summary(&self) -> String {
        let Ready { data, model, modules, .. } = &self.ready;
        let data = &data.train;
        let (base, adapters) = model.parameter_counts();
        let trained = match &self.recipe().method {
            Method::Full => format!("all {base} parameters"),
            Method::Lora(lora) | Method::Dora(lora) => {
                format!(
                    "{adapters} adapter parameters (rank {}) on {} of {base}",
                    lora.rank,
                    count(modules.len(), "module")
                )
            }
            Method::Ia3(_) => {
                format!("{adapters} adapter parameters on {} of {base}", count(modules.len(), "module"))
            }
        };
        let all: usize = model.trained_parameters().iter().map(|info| info.shape.iter().product::<usize>()).sum();
        let trained = match (&self.recipe().method, all - adapters) {
            (Method::Full, _) | (_, 0) => trained,
            (_, of_base) => format!("{trained}, and {of_base} of the base"),
        };
        let epoch = data.epoch(self.recipe().seed, 0);
        let ungrouped = epoch
            .ungrouped
            .map_or(String::new(), |ungrouped| format!(" ({:.0} % without group_by_length)", ungrouped * 100.0));
        let kept = match &data.kept {
            Kept::Found => ", prepared before".into(),
            Kept::Stored => String::new(),
            Kept::Not(_) if self.recipe().data.cache == CacheChoice::Off => String::new(),
            Kept::Not(why) => format!(", not cached ({why})"),
        };
        let recompute = match self.portions.recompute {
            Recompute::Off => "",
            Recompute::Blocks => ", blocks recomputed",
        };
        let rows = match data.kind() {
            RowKind::Tokens => format!(
                "{}, {} labelled tokens of {}, {} at {:.0} % efficiency{ungrouped}",
                count(data.len(), "row"),
                data.labelled_tokens(),
                data.tokens(),
                count(epoch.packs.len(), "pack"),
                epoch.efficiency * 100.0
            ),
            RowKind::Tensors => format!("{} of tensors", count(data.len(), "row")),
        };
        let chosen: String = self.ready.data.chosen().map(|chosen| format!("         {chosen}\n")).collect();
        format!(
            "model    {} ({}), training {trained}{recompute}\ndata     {rows}{kept}\n{chosen}steps    {}\n",
            self.recipe().model,
            model.family().name(),
            self.total_steps,
        )
    }
}

fn load_recipe(arguments: &TrainArgs) -> Result<Loaded, Error> {
    let mut overrides = arguments.overrides.clone();
    if let Some(output) = &arguments.output {
        overrides.push(format!("output={}", toml::Value::String(output.display().to_string())));
    }
    overrides.extend(arguments.device.as_ref().map(DeviceName::as_override));
    let mut loaded = Recipe::load(&arguments.recipe, &overrides)?;
    // A template that prints the date prints that of the run's first day, whichever recipe goes on.
    if arguments.resume.is_some() && loaded.recipe.data.date.is_none() {
        let earlier = std::fs::read_to_string(loaded.recipe.output.join("recipe.toml")).unwrap_or_default();
        loaded.recipe.data.date = Recipe::date_in(&earlier);
    }
    Ok(loaded)
}

/// The name of a run: that of its folder.
fn name_of(output: &Path) -> String {
    let name = output.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| output.display().to_string())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
