//! [`Opened`]: a recipe with its model folder, objective, tokenizer and template; shared by `train`, `check` and
//! `data`.

use std::path::PathBuf;

use super::model::model_folder;
use super::objective::decide_objective;
use super::text::{Text, dated_text};
use crate::error::Error;
use crate::recipe::{Loaded, Recipe};

/// What is known before rows are read.
#[derive(Debug)]
pub struct Opened {
    /// The recipe, with its objective and date decided.
    pub loaded: Loaded,
    /// The folder of the model.
    pub folder: PathBuf,
    /// Tokenizer and template.
    pub text: Text,
}

impl Opened {
    /// Fetches the model folder if necessary, decides the objective, and reads tokenizer and template.
    ///
    /// # Errors
    /// Those of the hub, of [`decide_objective`] and of [`dated_text`].
    pub fn new(mut loaded: Loaded) -> Result<Self, Error> {
        let folder = model_folder(&loaded.recipe.model)?;
        decide_objective(&mut loaded, &folder)?;
        let text = dated_text(&mut loaded.recipe, &folder)?;
        Ok(Self { loaded, folder, text })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }
}
