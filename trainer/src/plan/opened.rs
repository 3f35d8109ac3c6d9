//! [`Opened`]: a recipe with its model folder, objective, tokenizer and template; shared by `train`, `check` and
//! `data`.

use std::path::PathBuf;

use super::model_folder::model_folder;
use super::objective::decide_objective;
use super::precision::decide_precision;
use super::text::{Text, dated_text};
use super::text_folder::TextFolder;
use super::vocabulary::{Vocabulary, train_ends};
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
    /// New tokens.
    pub vocabulary: Option<Vocabulary>,
}

impl Opened {
    /// Fetches the model folder if necessary, decides the objective, and reads tokenizer and template.
    ///
    /// # Errors
    /// Those of the hub, of [`decide_objective`], of [`Vocabulary::new`] and of [`dated_text`].
    pub fn new(mut loaded: Loaded) -> Result<Self, Error> {
        let folder = model_folder(&loaded.recipe.model)?;
        decide_objective(&mut loaded, &folder)?;
        decide_precision(&mut loaded, &folder)?;
        let vocabulary = loaded.recipe.vocabulary.as_ref().map(|new| Vocabulary::new(&folder, new)).transpose()?;
        if vocabulary.is_some() {
            train_ends(&mut loaded, &folder)?;
        }
        let text_folder = vocabulary.as_ref().map_or_else(|| TextFolder::of_model(&folder), |new| new.text.clone());
        let text = dated_text(&mut loaded.recipe, &text_folder)?;
        Ok(Self { loaded, folder, text, vocabulary })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }
}
