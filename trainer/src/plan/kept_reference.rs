//! What the reference of a recipe gives its pairs, from the folder that the recipe names for it: [`KeptReference`].

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use firebrand_datasets::Dataset;
use firebrand_models::{Hold, Network};
use serde::Serialize;

use super::companion::{CompanionModel, CompanionPlan};
use super::model::hold;
use super::opened::Opened;
use crate::device::decided;
use crate::error::Error;
use crate::features::{ReferenceKey, ReferencePairs, hash_model};
use crate::objective::{Companion, keep_pairs, missing_pairs};
use crate::recipe::{DpoRecipe, Init, ObjectiveRecipe, Recipe, ReferenceRecipe};
use crate::run::sha256_file;
use crate::ui::bars;

/// The folder in which a recipe keeps what its reference gives its pairs.
#[derive(Debug)]
pub struct KeptReference<'a> {
    opened: &'a Opened,
    folder: PathBuf,
    /// The reference, where it is another model.
    model: Option<&'a CompanionModel>,
    reference: &'a ReferenceRecipe,
}

/// What is kept, and what is not yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferenceEstimate {
    /// The folder.
    pub folder: String,
    /// Different pairs to train and evaluate on that are not kept.
    pub missing: usize,
    /// Pairs that this reference gave log-probabilities, of this recipe or another.
    pub kept: usize,
}

impl<'a> KeptReference<'a> {
    /// What the recipe says; `None` where it keeps nothing.
    pub fn of(opened: &'a Opened, plan: Option<&'a CompanionPlan>) -> Option<Self> {
        let Some(ObjectiveRecipe::Dpo(DpoRecipe { reference_cache: Some(folder), reference, .. })) =
            &opened.recipe().objective
        else {
            return None;
        };
        let model = match plan {
            Some(CompanionPlan::Model(model)) => Some(model),
            Some(CompanionPlan::Cache(_)) | None => None,
        };
        Some(Self { opened, folder: folder.clone(), model, reference })
    }

    /// What is kept of some rows.
    ///
    /// # Errors
    /// A damaged file; rows that changed.
    pub fn estimate(&self, rows: &[&Dataset]) -> Result<ReferenceEstimate, Error> {
        let kept = ReferencePairs::open(&self.folder, &self.key()?)?;
        let missing = missing_pairs(rows, &kept)?.len();
        Ok(ReferenceEstimate { folder: self.folder.display().to_string(), missing, kept: kept.len() })
    }

    /// What the reference gives the pairs of `rows`. It runs over those that are not kept, with a bar. `own` is the trained model as it
    /// was, where that is the reference; another model is read only where it has to run.
    ///
    /// # Errors
    /// A damaged file; rows that changed; weights that cannot be read; those of writing.
    pub fn keep(&self, own: Option<Network>, rows: &[&Dataset], device: &Device) -> Result<Companion, Error> {
        let mut kept = ReferencePairs::open(&self.folder, &self.key()?)?;
        let missing = missing_pairs(rows, &kept)?;
        let network = match (missing.is_empty(), self.model) {
            (true, _) => None,
            (false, Some(model)) => {
                let _waiting = bars::Waiting::new("reading the reference");
                Some(model.load(&self.opened.loaded, device)?.0)
            }
            (false, None) => own,
        };
        if let Some(network) = network {
            let bar = bars::rows_bar();
            bar.set_length(missing.len() as u64);
            keep_pairs(&network, &missing, &mut kept, |done| bar.set_position(done as u64))?;
            bar.finish_and_clear();
        }
        Ok(Companion::Pairs(Arc::new(kept)))
    }

    fn key(&self) -> Result<ReferenceKey, Error> {
        let recipe = self.opened.recipe();
        let (model, rows, made) = match self.model {
            Some(model) => (model.hash()?, model.rows().map(<[u32]>::to_vec), String::new()),
            None => (hash_model(&self.opened.folder, hold(recipe))?, None, made(recipe, self.reference)?),
        };
        let tokenizer = self.opened.text.tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_string());
        Ok(ReferenceKey { model, rows, tokenizer, made, device: numbers_of(recipe), dtype: recipe.dtype })
    }
}

/// The device, and what it may round f32 to.
fn numbers_of(recipe: &Recipe) -> String {
    let rounded = if recipe.allow_tf32 { ", TF32" } else { "" };
    format!("{}{rounded}", decided(&recipe.device))
}

/// What a recipe makes of the weights before the first step, as far as the reference has it.
fn made(recipe: &Recipe, reference: &ReferenceRecipe) -> Result<String, Error> {
    let mut made = vec![];
    if recipe.init == Init::Random {
        made.push(format!("random weights, seed {}", recipe.seed));
    }
    if let Some(vocabulary) = &recipe.vocabulary {
        made.push(format!("{vocabulary:?}"));
    }
    if let (ReferenceRecipe::Start, Some(adapter)) = (reference, recipe.method.adapter()) {
        made.push(format!("{adapter:?}, seed {}", recipe.seed));
        if let Some(folder) = recipe.method.init_from() {
            made.extend([hash_model(folder, Hold::F32)?, sha256_file(&folder.join("adapter_config.json"))?]);
        }
    }
    Ok(made.join("; "))
}
