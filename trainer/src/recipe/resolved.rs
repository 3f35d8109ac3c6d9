//! The way back: a [`Recipe`] as TOML with every default written out, saved beside each run. It loads to the same value.

use std::path::PathBuf;

use firebrand_datasets::CacheChoice;
use sha2::{Digest, Sha256};

use super::Recipe;
use super::error::RecipeError;
use super::evaluation::EvalSection;
use super::file::RecipeFile;

/// The first line of every resolved recipe.
pub const HEADER: &str = "# The recipe of this run, with every default written out.\n";

impl Recipe {
    /// The recipe with every default written out.
    ///
    /// # Errors
    /// A path that is not Unicode has no TOML form.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        let file = RecipeFile::from(self);
        match toml::to_string(&file) {
            Ok(text) => Ok(format!("{HEADER}{text}")),
            Err(error) => Err(RecipeError::Unwritable { reason: error.to_string() }),
        }
    }

    /// SHA-256 of what the resolved recipe says about the result, in hexadecimal: all but where the run is written and whether
    /// prepared rows are kept.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`].
    pub fn hash(&self) -> Result<String, RecipeError> {
        let mut result = self.clone();
        result.output = PathBuf::new();
        result.data.cache = CacheChoice::default();
        let digest = Sha256::digest(result.to_toml()?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl From<&Recipe> for RecipeFile {
    fn from(recipe: &Recipe) -> Self {
        RecipeFile {
            model: recipe.model.to_string(),
            init: recipe.init,
            output: recipe.output.clone(),
            seed: recipe.seed,
            device: recipe.device.clone(),
            dtype: recipe.dtype,
            allow_tf32: recipe.allow_tf32,
            base_dtype: recipe.base_dtype,
            adapter: (&recipe.method).into(),
            vocabulary: recipe.vocabulary.clone(),
            quantization: recipe.quantization,
            data: recipe.data.clone(),
            objective: recipe.objective.clone().map(Into::into),
            train: (&recipe.train).into(),
            optimizer: recipe.optimizer.clone(),
            schedule: (&recipe.schedule).into(),
            eval: EvalSection {
                every: recipe.eval.every,
                batch_size: Some(recipe.eval.batch_size),
                at_start: recipe.eval.at_start,
                weights: recipe.eval.weights,
                early_stopping: recipe.eval.early_stopping.clone(),
            },
            checkpoint: (&recipe.checkpoint).into(),
            log: recipe.log.clone(),
            sample: recipe.sample.clone(),
            export: (&recipe.export).into(),
        }
    }
}
