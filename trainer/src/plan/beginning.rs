//! What `train` and `check` begin with: rows are read and encoded while the weights are loaded.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use firebrand_datasets::DataError;
use firebrand_models::CausalLm;

use super::cache;
use super::data::{Data, total_steps};
use super::model::build_model;
use super::text::Text;
use crate::error::Error;
use crate::recipe::Loaded;
use crate::ui::bars::DataProgress;

/// The data of a recipe, which has passed its gate; the model that reads it; the paths of adapted modules.
///
/// # Errors
/// As soon as either is known to fail: those of [`Data::load`], what the gate forbids, those of [`build_model`], and
/// rows that the model cannot read.
pub fn load(
    loaded: &Loaded,
    folder: &Path,
    device: &Device,
    text: &Text,
) -> Result<(Data, CausalLm, Vec<String>), Error> {
    let failed = Arc::new(AtomicBool::new(false));
    let building = {
        let (failed, loaded, folder, device) = (failed.clone(), loaded.clone(), folder.to_path_buf(), device.clone());
        // Left to itself when the data fail: the program ends then, and an error should not wait for gigabytes.
        std::thread::spawn(move || {
            build_model(&loaded, &folder, &device).inspect_err(|_| failed.store(true, Ordering::Relaxed))
        })
    };
    let bar = DataProgress::new();
    let data = Data::load(&loaded.recipe, text, cache::folder().as_deref(), &|split, progress| {
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
    let (model, modules) = building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let data = data.ok_or(DataError::Interrupted)?;
    data.check_fits(model.decoder().config())?;
    if total_steps(&loaded.recipe, &data) == 0 {
        let (problem, help) = match data.train.labelled_tokens() {
            0 => ("no row has a labelled token", "look at the rows with `firebrand data RECIPE`, and at data.train_on"),
            _ => ("an epoch visits no row", "raise `weight`, `rows` or `epochs` of a source in [[data.train]]"),
        };
        return Err(Error::Request { problem: format!("there is nothing to train on: {problem}"), help: help.into() });
    }
    Ok((data, model, modules))
}
