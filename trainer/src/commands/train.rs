//! `firebrand train`: runs a recipe and writes its run directory.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebrand_datasets::{CacheChoice, ChatTemplate, Format, Kept, RowKind};
use firebrand_models::Model;

use crate::cli::TrainArgs;
use crate::error::Error;
use crate::export::export;
use crate::inference::samples::{self, Answer};
use crate::learner::{Session, observe};
use crate::objective::{Objective, Recompute};
use crate::observer::Observer;
use crate::plan::{Data, Opened, Ready};
use crate::recipe::{Loaded, Method, Recipe};
use crate::run::{Checkpoint, MetricsFile, RunDirectory, RunInfo, TensorBoard, sha256_file};
use crate::training::{Outcome, Trainer};
use crate::ui::{SignalScope, Terminals, Ui};

pub fn run(arguments: TrainArgs) -> Result<ExitCode, Error> {
    let prepared = Prepared::new(&arguments)?;
    eprint!("{}", prepared.summary());
    for note in prepared.ready.notes() {
        eprintln!("note     {note}");
    }
    let base = prepared.ready.model.for_inference();
    let before = {
        let recipe = prepared.recipe();
        samples::answer(&base, &prepared.ready.opened.text, recipe.data.system.as_deref(), recipe.sample.as_ref())?
    };
    drop(base);

    let recipe = prepared.recipe().clone();
    let resumed = prepared.checkpoint.as_ref().map(|checkpoint| checkpoint.step);
    let toml = recipe.to_toml()?;
    let Prepared { ready, recompute, total_steps, directory, checkpoint } = prepared;
    let Ready { opened, data, model, .. } = ready;
    let metrics = match resumed {
        None => MetricsFile::create(&directory.metrics_path())?,
        Some(step) => MetricsFile::resume(&directory.metrics_path(), step)?,
    };
    let tensorboard = match (recipe.log.tensorboard, resumed) {
        (false, _) => None,
        (true, None) => Some(TensorBoard::create(&directory.tensorboard_path(), &toml)?),
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
        tensorboard,
        stop: signals.request(),
    };
    let finished = observe(session, {
        let (recipe, checkpoints) = (recipe.clone(), directory.checkpoints());
        let tokenizer = opened.vocabulary.as_ref().map(|vocabulary| vocabulary.text.path().to_path_buf());
        move |observer: &mut dyn Observer| {
            let base = recipe.model.to_string();
            let objective = Objective::new(&recipe.objective_of(model.kind()), recompute);
            let mut trainer = Trainer::new(&recipe, objective, base, model, &data.train, data.eval.as_ref())
                .with_tokenizer(tokenizer);
            if let Some(checkpoint) = &checkpoint {
                trainer.resume(checkpoint)?;
            }
            let (trainer, outcome) = trainer.run(&checkpoints, observer)?;
            let (steps, model) = (trainer.step(), trainer.into_model());
            Ok::<_, Error>(Finished { outcome, steps, model, data })
        }
    })?;
    drop(signals);
    conclude(finished, &recipe, &directory, &opened, &before)
}

/// What the training loop returns.
struct Finished {
    outcome: Outcome,
    steps: u64,
    model: Model,
    data: Data,
}

/// Everything that the first step needs.
struct Prepared {
    ready: Ready,
    recompute: Recompute,
    total_steps: u64,
    directory: RunDirectory,
    checkpoint: Option<Checkpoint>,
}

impl Prepared {
    fn new(arguments: &TrainArgs) -> Result<Self, Error> {
        let ready = Ready::new(load_recipe(arguments)?)?;
        if !ready.data.report.warnings.is_empty() {
            eprintln!("{}", ready.data.report);
        }
        let total_steps = ready.total_steps();
        let (recompute, _) = ready.recompute();
        let (directory, checkpoint) = open_directory(arguments, &ready.opened, &ready.data)?;
        Ok(Self { ready, recompute, total_steps, directory, checkpoint })
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
        let recompute = match self.recompute {
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
    if let Some(device) = arguments.device {
        overrides.push(format!("device=\"{device}\""));
    }
    Ok(Recipe::load(&arguments.recipe, &overrides)?)
}

fn open_directory(
    arguments: &TrainArgs,
    opened: &Opened,
    data: &Data,
) -> Result<(RunDirectory, Option<Checkpoint>), Error> {
    let recipe = opened.recipe();
    let info = run_info(opened, data)?;
    match &arguments.resume {
        None => {
            let directory = RunDirectory::create(&recipe.output)?;
            directory.write_recipe(&recipe.to_toml()?)?;
            directory.write_info(&info)?;
            Ok((directory, None))
        }
        Some(requested) => {
            let directory = RunDirectory::open_for_resume(&recipe.output)?;
            let selection = directory.select(requested.as_deref())?;
            for passed in &selection.passed_over {
                eprintln!("passing over {passed}");
            }
            let checkpoint = selection.require(&recipe.output)?;
            for difference in info.differences(&directory.read_info()?) {
                eprintln!("since the run began: {difference}");
            }
            directory.write_info(&info)?;
            Ok((directory, Some(checkpoint)))
        }
    }
}

fn run_info(opened: &Opened, data: &Data) -> Result<RunInfo, Error> {
    let (recipe, folder) = (opened.recipe(), opened.folder.as_path());
    let mut base = BTreeMap::new();
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pickle = name.starts_with("pytorch_model") && name.ends_with(".bin");
        if path.is_file() && (pickle || name.ends_with(".safetensors") || name.ends_with(".json")) {
            base.insert(name, sha256_file(&path)?);
        }
    }
    let datasets = [Some(&data.train), data.eval.as_ref()].into_iter().flatten();
    let files = datasets.flat_map(|dataset| &dataset.files);
    Ok(RunInfo {
        base,
        data: files.map(|file| (file.path.display().to_string(), file.sha256.clone())).collect(),
        template: opened
            .text
            .template
            .as_ref()
            .filter(|_| !data.is_unrendered(&[Format::PromptCompletion, Format::Text]))
            .map(ChatTemplate::template_hash),
        recipe: recipe.hash()?,
        versions: BTreeMap::from([
            ("firebrand".into(), env!("CARGO_PKG_VERSION").into()),
            ("burn".into(), "0.22.1".into()),
        ]),
        device: recipe.device.to_string(),
        seed: recipe.seed,
    })
}

fn conclude(
    finished: Finished,
    recipe: &Recipe,
    directory: &RunDirectory,
    opened: &Opened,
    before: &[Answer],
) -> Result<ExitCode, Error> {
    match &finished.outcome {
        Outcome::Interrupted { checkpoint } => {
            eprintln!(
                "stopped after step {}; continue with: firebrand train {} --resume",
                finished.steps,
                shown_recipe(directory).display()
            );
            eprintln!("checkpoint {}", checkpoint.path.display());
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Outcome::StoppedEarly { best } => {
            eprintln!("stopped early: the evaluation loss was lowest ({:.4}) at step {}", best.value, best.step);
        }
        Outcome::Finished => {}
    }
    let exported = export(&finished.model, recipe, directory, &opened.folder, &opened.text, &finished.data)?;
    let after = samples::answer(
        &finished.model.for_inference(),
        &opened.text,
        recipe.data.system.as_deref(),
        recipe.sample.as_ref(),
    )?;
    let mut report = samples::comparison(before, &after, std::io::stdout().is_terminal());
    report += &exported.to_string();
    if recipe.log.tensorboard {
        report += &format!("tensorboard  {}\n", directory.tensorboard_path().display());
    }
    // The run is complete and on disk, so a closed stdout is not an error.
    let _ = std::io::stdout().write_all(report.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a program ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

fn shown_recipe(directory: &RunDirectory) -> PathBuf {
    directory.path().join("recipe.toml")
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
