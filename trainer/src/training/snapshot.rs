//! The state of a run as the files of a checkpoint, both ways.
//!
//! Weights are written in f32 whatever the export says, because a resumed run must continue with the same bits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use firebrand_models::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};
use firebrand_models::{CausalLm, Hold, ModelError, adapter_folder};

use super::trainer::Trainer;
use crate::error::Error;
use crate::optim::OptimizerState;
use crate::recipe::Method;
use crate::run::{Checkpoint, RunState, TrainerState};

const OPTIMIZER: &str = "optimizer.safetensors";

impl Trainer<'_> {
    /// Writes everything a resume needs into an empty folder.
    pub(super) fn snapshot(&mut self, folder: &Path) -> Result<(), Error> {
        match self.recipe.method.adapter() {
            Some(config) => adapter_folder::save(&mut self.model, &config, &self.base_model, folder)?,
            None => {
                self.model.save_weights(folder, Some(Dtype::F32), None)?;
                let path = folder.join("config.json");
                fs::write(&path, self.model.config_json(Some(Dtype::F32))).map_err(Error::io(&path))?;
            }
        }
        write_optimizer(&self.optimizer, folder)?;
        self.history.global_step = self.state.step;
        self.history.num_input_tokens_seen = self.state.input_tokens;
        self.history.best_metric = self.state.best.map(|best| best.value);
        self.history.best_global_step = self.state.best.map(|best| best.step);
        self.history.write(folder)?;
        Ok(self.state.write(folder)?)
    }

    /// Takes everything back from a checkpoint.
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

    /// Takes the weights back.
    pub(super) fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let device = self.model.decoder().device().inner();
        self.model = match self.recipe.method.adapter() {
            Some(config) => {
                let mut model = self.model.for_inference();
                adapter_folder::attach(&mut model, &config, adapter_folder::Start::Folder(&checkpoint.path))?;
                model.train_active()
            }
            None => CausalLm::load(&checkpoint.path, Hold::F32, &device)?.train_all(),
        };
        Ok(())
    }

    fn read_optimizer(&self, checkpoint: &Checkpoint, steps: u64) -> Result<OptimizerState, Error> {
        let path = checkpoint.file(OPTIMIZER);
        let file = SafetensorsFile::open(&path)?;
        let device = self.model.decoder().device().inner();
        let mut state = OptimizerState::after(steps);
        let mut expected = BTreeMap::new();
        for (parameter, length) in self.trained_parameters() {
            for quantity in self.recipe.optimizer.quantities() {
                expected.insert(format!("{parameter}.{quantity}"), length);
            }
        }
        for view in file.tensors() {
            if expected.remove(view.name) != Some(view.elements()) {
                let problem = format!("{OPTIMIZER}: `{}` belongs to no trained parameter of this recipe", view.name);
                return Err(Error::Resume { checkpoint: checkpoint.path.clone(), problem });
            }
            state.import(view.name.to_string(), view.to_f32()?, &device);
        }
        if let Some(name) = expected.keys().next() {
            let problem = format!("{OPTIMIZER}: `{name}` is missing");
            return Err(Error::Resume { checkpoint: checkpoint.path.clone(), problem });
        }
        Ok(state)
    }

    /// Path and number of values of every trained parameter.
    fn trained_parameters(&self) -> Vec<(String, usize)> {
        let all = firebrand_models::parameters::parameters(self.model.decoder());
        let full = self.recipe.method == Method::Full;
        let trained = all.into_iter().filter(|info| full || info.path.contains(".adapter."));
        trained.map(|info| (info.path, info.shape.iter().product())).collect()
    }
}

fn write_optimizer(state: &OptimizerState, folder: &Path) -> Result<(), ModelError> {
    let tensors: BTreeMap<String, Vec<f32>> =
        state.export().map(|(name, data)| (name.to_string(), data.iter::<f32>().collect())).collect();
    let specs = tensors
        .iter()
        .map(|(name, values)| TensorSpec { name: name.clone(), dtype: Dtype::F32, shape: vec![values.len()] })
        .collect();
    let options = PlanOptions { base_name: "optimizer".into(), max_shard_bytes: u64::MAX, ..PlanOptions::default() };
    CheckpointPlan::new(specs, &options)?.write(folder, |spec| {
        let values = tensors.get(&spec.name).map(Vec::as_slice).unwrap_or_default();
        Ok(Cow::Owned(spec.dtype.encode(values).unwrap_or_default()))
    })?;
    Ok(())
}
