//! Makes the files of the self-test in a temporary folder and runs its trainings: `Fixture`.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use firebrand_datasets::TemplateChoice;
use firebrand_models::Model;
use firebrand_models::weights::Dtype;
use tempfile::TempDir;

use super::tiny::{self, SEED, Unsettle};
use crate::error::Error;
use crate::objective::Objective;
use crate::observer::{Collector, StepReport};
use crate::plan::{self, Data, Text, TextFolder};
use crate::recipe::Recipe;
use crate::run::{Checkpoint, Checkpoints, RunDirectory};
use crate::training::Trainer;

/// The temporary folder and the device of all checks.
#[derive(Debug)]
pub(super) struct Fixture {
    folder: TempDir,
    device: Device,
}

/// Which parameters a run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trains {
    Adapter,
    Everything,
}

/// The results of a finished run.
#[derive(Debug)]
pub(super) struct Trained {
    pub steps: Vec<StepReport>,
    pub model: Model,
    pub data: Data,
    pub checkpoints: Checkpoints,
}

impl Fixture {
    /// Writes the model and the rows.
    pub fn new(device: &Device) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io(&std::env::temp_dir()))?;
        let fixture = Self { folder, device: device.clone() };
        let model = fixture.path("model");
        std::fs::create_dir(&model).map_err(Error::io(&model))?;
        write(&model.join("config.json"), &tiny::config().to_string())?;
        let fresh = Model::random(&model, SEED, &Device::flex())?;
        let fresh = fresh.with_network(|network| network.map(&mut Unsettle::default()));
        fresh.save_weights(&model, Some(Dtype::F32), None)?;
        write(&fixture.path("rows.jsonl"), &tiny::rows())?;
        Ok(fixture)
    }

    /// The path of a file or folder of the self-test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The model before training.
    pub fn model(&self) -> PathBuf {
        self.path("model")
    }

    /// Tokenizer and template of the model.
    pub(super) fn text(&self) -> Result<Text, Error> {
        Text::load(&TextFolder::of_model(&self.model()), &TemplateChoice::Model, None)
    }

    /// Trains by the recipe below with some keys changed, from the start or from a checkpoint. Each run needs its own
    /// name.
    pub fn train(
        &self,
        name: &str,
        trains: Trains,
        changes: &[&str],
        from: Option<&Checkpoint>,
    ) -> Result<Trained, Error> {
        let path = self.path(&format!("{name}.toml"));
        write(&path, &self.recipe(name, trains))?;
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let loaded = Recipe::load(&path, &changes)?;
        let recipe = &loaded.recipe;
        let text = self.text()?;
        let data = Data::load(recipe, &text, None, &|_, _| std::ops::ControlFlow::Continue(()))?;
        data.report.clone().pass()?;
        let plan::Built { model, .. } = plan::build_model(&loaded, &self.model(), None, None, &self.device)?;
        let portions = plan::Portions::new(recipe, &model, &data)?;
        let checkpoints = RunDirectory::create(&recipe.output)?.checkpoints();
        let objective = Objective::new(&recipe.objective_of(model.kind()), portions.recompute, None)?;
        let mut trainer = Trainer::new(recipe, objective, recipe.model.to_string(), model, &data.train, None)
            .with_micro_batch(portions.micro_batch);
        if let Some(checkpoint) = from {
            trainer.resume(checkpoint)?;
        }
        let mut collector = Collector::default();
        let (trainer, _) = trainer.run(&checkpoints, &mut collector)?;
        let model = trainer.into_model();
        Ok(Trained { steps: collector.steps, model, data, checkpoints })
    }

    /// A recipe of three epochs of six packs: a step of four packs, then one of two. With warm-up, decay and clipping.
    fn recipe(&self, name: &str, trains: Trains) -> String {
        let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
        let (adapter, learning_rate) = match trains {
            Trains::Adapter => ("[adapter]\nkind = \"lora\"\nrank = 4\nalpha = 8.0\n", 2e-2),
            Trains::Everything => ("", 5e-3),
        };
        format!(
            r#"
model = {model}
output = {output}
seed = {SEED}
{adapter}
[data]
max_length = 24
[[data.train]]
path = {rows}
format = "tokens"
[train]
steps = 6
batch_size = 4
micro_batch_size = 2
max_grad_norm = 1.0
recompute = "off"
[optimizer]
learning_rate = {learning_rate}
weight_decay = 0.01
[schedule]
kind = "cosine"
warmup_steps = 2
"#,
            model = quoted(self.model()),
            output = quoted(self.path(name)),
            rows = quoted(self.path("rows.jsonl")),
        )
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io(path))
}
