//! Writes the state of a run into a checkpoint folder and restores it.
//!
//! Weights are written in f32 whatever the export dtype is, because a resumed run must continue with the same bits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand_models::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};
use firebrand_models::{Hold, Model, ModelError, adapter_folder};

use super::trainer::Trainer;
use crate::error::Error;
use crate::optim::{OptimizerState, Parameter};
use crate::run::{Checkpoint, RunState, TrainerState};

const OPTIMIZER: &str = "optimizer.safetensors";

impl Trainer<'_> {
    /// Writes everything a resume needs into `folder`, which is empty.
    pub(super) fn snapshot(&mut self, folder: &Path) -> Result<(), Error> {
        match self.recipe.method.adapter() {
            Some(config) => adapter_folder::save(&self.model, &config, &self.base_model, folder)?,
            None => {
                self.model.save_weights(folder, Some(Dtype::F32), None)?;
                let path = folder.join("config.json");
                fs::write(&path, self.model.config_json(Some(Dtype::F32))).map_err(Error::io(&path))?;
            }
        }
        if let Some(tokenizer) = &self.tokenizer {
            firebrand_datasets::tokenizer::copy(tokenizer, folder)?;
            firebrand_datasets::template::copy_templates(tokenizer, folder)?;
        }
        write_optimizer(&self.optimizer, folder)?;
        self.history.global_step = self.state.step;
        self.history.num_input_tokens_seen = self.state.input_tokens;
        self.history.best_metric = self.state.best.map(|best| best.value);
        self.history.best_global_step = self.state.best.map(|best| best.step);
        // As transformers, only where the folder is there: it stays by `checkpoint.best`.
        let stays = self.state.best.filter(|_| self.recipe.checkpoint.best.is_some());
        self.history.best_model_checkpoint =
            stays.map(|best| self.recipe.output.join(format!("checkpoint-{}", best.step)).display().to_string());
        self.history.write(folder)?;
        Ok(self.state.write(folder)?)
    }

    /// Restores weights, optimiser state, history and position from a checkpoint.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let state = RunState::read(&checkpoint.path)?;
        if state.seed != self.recipe.seed {
            let problem = format!("written with seed {}, but the recipe says {}", state.seed, self.recipe.seed);
            return Err(Error::Resume { checkpoint: checkpoint.path.clone(), problem });
        }
        self.restore_weights(checkpoint)?;
        self.optimizer = self.read_optimizer(checkpoint, state.step)?;
        self.history = TrainerState::read(&checkpoint.path)?;
        self.state = state;
        Ok(())
    }

    /// Restores the weights from a checkpoint.
    pub(super) fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let device = self.model.device().inner();
        self.model = match self.recipe.method.adapter() {
            Some(config) => {
                let mut model = self.model.for_inference();
                adapter_folder::attach(&mut model, &config, adapter_folder::Start::Folder(&checkpoint.path))?;
                model.train_active()
            }
            None => {
                let model = Model::load(&checkpoint.path, Hold::F32, &device)?;
                self.recipe.objective_of(model.kind()).train_all(model)
            }
        };
        self.trained = self.model.trained_parameters();
        Ok(())
    }

    fn read_optimizer(&self, checkpoint: &Checkpoint, steps: u64) -> Result<OptimizerState, Error> {
        let path = checkpoint.file(OPTIMIZER);
        let file = SafetensorsFile::open(&path)?;
        let device = self.model.device().inner();
        let mut state = OptimizerState::after(steps);
        let mut expected = BTreeMap::new();
        for info in &self.trained {
            for quantity in self.recipe.optimizer.quantities(Parameter::of(info)) {
                expected.insert(format!("{}.{}", info.path, quantity.name), (quantity.dtype, quantity.length));
            }
        }
        for view in file.tensors() {
            if expected.remove(view.name) != Some((view.dtype, view.elements())) {
                let problem = format!("{OPTIMIZER}: `{}` belongs to no trained parameter of this recipe", view.name);
                return Err(Error::Resume { checkpoint: checkpoint.path.clone(), problem });
            }
            let name = view.name.to_string();
            if view.dtype == Dtype::U8 {
                state.import_codes(name, view.bytes().into_owned());
            } else {
                state.import(name, view.to_f32()?, &device);
            }
        }
        if let Some(name) = expected.keys().next() {
            let problem = format!("{OPTIMIZER}: `{name}` is missing");
            return Err(Error::Resume { checkpoint: checkpoint.path.clone(), problem });
        }
        Ok(state)
    }
}

fn write_optimizer(state: &OptimizerState, folder: &Path) -> Result<(), ModelError> {
    let specs = state
        .tensors()
        .map(|(name, dtype, length)| TensorSpec { name: name.to_string(), dtype, shape: vec![length] })
        .collect();
    let options = PlanOptions { base_name: "optimizer".into(), max_shard_bytes: u64::MAX, ..PlanOptions::default() };
    CheckpointPlan::new(specs, &options)?.write(folder, |spec| Ok(state.bytes(&spec.name).unwrap_or_default()))?;
    Ok(())
}
