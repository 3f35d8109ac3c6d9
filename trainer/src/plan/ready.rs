//! [`Ready`]: data and model of a recipe, from which `train` and `check` start. Rows are encoded while weights are
//! loaded.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use firebrand_datasets::DataError;
use firebrand_models::Model;

use super::cache;
use super::data::{Data, total_steps};
use super::memory::MemoryPlan;
use super::model::build_model;
use super::notes::notes;
use super::opened::Opened;
use super::recompute::recompute;
use crate::device;
use crate::error::Error;
use crate::objective::Recompute;
use crate::recipe::{Loaded, Recipe};
use crate::ui::bars::{DataProgress, Waiting};

/// A run that can start.
#[derive(Debug)]
pub struct Ready {
    /// Recipe, folder and text.
    pub opened: Opened,
    /// The rows, which passed the data gate.
    pub data: Data,
    /// The model, with its trained parameters made trainable.
    pub model: Model,
    /// Paths of adapted modules.
    pub modules: Vec<String>,
}

impl Ready {
    /// Opens the device, finds the model, and loads data and weights at the same time.
    ///
    /// # Errors
    /// A device that is not compiled into this build; those of [`Opened::new`]; those of [`Data::load`] and
    /// [`build_model`], as soon as either fails; what the data gate forbids; rows that the model cannot read; no row to
    /// train on.
    pub fn new(loaded: Loaded) -> Result<Self, Error> {
        let device = device::open(loaded.recipe.device)?;
        let opened = Opened::new(loaded)?;
        let (data, model, modules) = load(&opened, &device)?;
        Ok(Self { opened, data, model, modules })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        self.opened.recipe()
    }

    /// Steps of the run.
    pub fn total_steps(&self) -> u64 {
        total_steps(self.recipe(), &self.data)
    }

    /// What the backward pass recomputes, and the estimate behind it.
    pub fn recompute(&self) -> (Recompute, MemoryPlan) {
        recompute(self.recipe(), &self.model, &self.data)
    }

    /// Notes for the user, although nothing is wrong.
    pub fn notes(&self) -> Vec<String> {
        let of_text = self.opened.text.note(self.data.rendered());
        notes(self.recipe(), &self.model, self.data.train.len(), self.total_steps())
            .into_iter()
            .chain(of_text)
            .collect()
    }
}

fn load(opened: &Opened, device: &Device) -> Result<(Data, Model, Vec<String>), Error> {
    let failed = Arc::new(AtomicBool::new(false));
    let building = {
        let (failed, loaded, folder, device) =
            (failed.clone(), opened.loaded.clone(), opened.folder.clone(), device.clone());
        // Not joined when the data fail: the program ends then, and the error should not wait for gigabytes of weights.
        std::thread::spawn(move || {
            build_model(&loaded, &folder, &device).inspect_err(|_| failed.store(true, Ordering::Relaxed))
        })
    };
    let recipe = opened.recipe();
    let bar = DataProgress::new();
    let data = Data::load(recipe, &opened.text, cache::folder().as_deref(), &|split, progress| {
        bar.report(split, progress);
        if failed.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    let data = match data {
        Err(Error::Data(DataError::Interrupted)) => None,
        data => Some(data?),
    };
    if let Some(data) = &data {
        data.report.clone().pass()?;
    }
    let waiting = Waiting::new("reading the model");
    let (model, modules) = building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    drop(waiting);
    let data = data.ok_or(DataError::Interrupted)?;
    data.check_fits(&model)?;
    if total_steps(recipe, &data) == 0 {
        let (problem, help) = match data.train.labelled_tokens() {
            0 => ("no row has a labelled token", "look at the rows with `firebrand data RECIPE`, and at data.train_on"),
            _ => ("an epoch visits no row", "raise `weight`, `rows` or `epochs` of a source in [[data.train]]"),
        };
        return Err(Error::Request { problem: format!("there is nothing to train on: {problem}"), help: help.into() });
    }
    Ok((data, model, modules))
}
