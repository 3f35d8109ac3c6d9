//! A recipe run through the library, its reports and results kept.

use std::path::Path;

use firebrand::error::Error;
use firebrand::objective::{Companion, Objective};
use firebrand::observer::{Collector, EvalReport, Observer, StepReport};
use firebrand::plan::{self, Built, CacheNeed, CompanionPlan, Data, Opened};
use firebrand::recipe::{Loaded, Method, Recipe};
use firebrand::run::{Checkpoint, Checkpoints, RunDirectory};
use firebrand::training::{Outcome, Trainer};
use firebrand_models::weights::{Checkpoint as Weights, Dtype};
use firebrand_models::{Model, adapter_folder};
use tempfile::TempDir;

use crate::tensors::{self, Tensors, Values};

/// What a run left.
pub struct Trained {
    /// Reports of all steps.
    pub steps: Vec<StepReport>,
    /// Reports of all evaluations.
    pub evaluations: Vec<EvalReport>,
    /// How it ended.
    pub outcome: Outcome,
    /// The adapter, or the model, by the names in files.
    pub weights: Tensors,
    /// The model.
    pub model: Model,
    /// The run directory.
    pub output: TempDir,
}

/// A recipe with its model and data in place.
pub struct Ready {
    /// The recipe.
    pub loaded: Loaded,
    /// The rows.
    pub data: Data,
    /// The model, what is trained made trainable.
    pub model: Model,
    /// What the objective compares it with.
    pub companion: Option<Companion>,
}

/// Everything before the first step.
///
/// # Errors
/// As `firebrand check`.
pub fn prepare(recipe: &Path, overrides: &[&str]) -> Result<Ready, Error> {
    let overrides: Vec<String> =
        crate::device::as_override().into_iter().chain(overrides.iter().map(|text| text.to_string())).collect();
    let mut opened = Opened::new(Recipe::load(recipe, &overrides)?)?;
    let device = firebrand::device::open(&opened.recipe().device)?;
    let companion = CompanionPlan::find(&opened, CacheNeed::Required)?;
    let data = Data::load(opened.recipe(), &opened.text, None, &|_, _| std::ops::ControlFlow::Continue(()))?;
    data.report.clone().pass()?;
    plan::decide_classes(&mut opened.loaded, &opened.folder, &data)?;
    let Opened { loaded, folder, text, .. } = &opened;
    let Built { mut model, companion, .. } = plan::build_model(loaded, folder, None, companion.as_ref(), &device)?;
    plan::pad(&mut model, text);
    data.check_fits(&model, text.tokenizer.as_ref())?;
    Ok(Ready { loaded: opened.loaded, data, model, companion: companion.map(|(companion, _)| companion) })
}

/// Runs the recipe to its end, in a run directory of its own.
///
/// # Errors
/// As `firebrand train`.
pub fn train(recipe: &Path, overrides: &[&str]) -> Result<Trained, Error> {
    let output = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
    let mut collector = Collector::default();
    let (outcome, model, weights) = train_in(recipe, overrides, output.path(), None, &mut collector)?;
    Ok(Trained { steps: collector.steps, evaluations: collector.evaluations, outcome, weights, model, output })
}

/// The same in a given run directory, from a checkpoint if one is given, watched by `observer`.
///
/// # Errors
/// As `firebrand train`.
pub fn train_in(
    recipe: &Path,
    overrides: &[&str],
    output: &Path,
    checkpoint: Option<&Checkpoint>,
    observer: &mut dyn Observer,
) -> Result<(Outcome, Model, Tensors), Error> {
    let Ready { loaded, data, model, companion } = prepare(recipe, overrides)?;
    let recipe = &loaded.recipe;
    let portions = plan::Portions::new(recipe, &model, &data)?;
    let checkpoints = match checkpoint {
        None => RunDirectory::create(output)?.checkpoints(),
        Some(_) => Checkpoints::new(output),
    };
    let objective = Objective::new(&recipe.objective_of(model.kind()), portions.recompute, companion)?;
    let mut trainer = Trainer::new(recipe, objective, "base".into(), model, &data.train, data.eval.as_ref())
        .with_micro_batch(portions.micro_batch);
    if let Some(checkpoint) = checkpoint {
        trainer.resume(checkpoint)?;
    }
    let (trainer, outcome) = trainer.run(&checkpoints, observer)?;
    let model = trainer.into_model();
    let weights = trained_weights(&model, &recipe.method)?;
    Ok((outcome, model, weights))
}

/// What a run trained, as files would have it.
fn trained_weights(model: &Model, method: &Method) -> Result<Tensors, Error> {
    let folder = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
    match method.adapter() {
        Some(config) => {
            adapter_folder::save(model, &config, "base", folder.path())?;
            Ok(tensors::read(&folder.path().join("adapter_model.safetensors")))
        }
        None => {
            model.save_weights(folder.path(), Some(Dtype::F32), None)?;
            let weights = Weights::open(folder.path())?;
            let read = weights.tensors().map(|view| {
                let values = Values { shape: view.shape.to_vec(), values: view.to_f32()? };
                Ok((view.name.to_string(), values))
            });
            read.collect()
        }
    }
}
