//! New tokens of a run: [`Vocabulary`] is the enlarged tokenizer and where the rows of its new tokens start.

use std::path::Path;

use firebrand_datasets::Tokenizer;
use firebrand_datasets::tokenizer::{AddedId, NewTokens};
use firebrand_models::{ModelFiles, TokenModules, VocabularyRows};

use super::text_folder::TextFolder;
use crate::error::Error;
use crate::recipe::{Loaded, Method, VocabularyRecipe};

/// The tokens of a run whose recipe has a `[vocabulary]`.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The enlarged tokenizer.
    pub text: TextFolder,
    /// The tokens that the recipe names.
    added: Vec<AddedId>,
    /// Ids of new tokens, and the old ids at whose mean their rows start; none: the mean of all.
    starts: Vec<(usize, Vec<u32>)>,
    /// One more than the largest id.
    limit: usize,
}

impl Vocabulary {
    /// Adds the recipe's tokens to the tokenizer of a model folder.
    ///
    /// # Errors
    /// A model without a tokenizer; a token that cannot be added; a start whose text has no token.
    pub fn new(folder: &Path, recipe: &VocabularyRecipe) -> Result<Self, Error> {
        let tokens = NewTokens { special: recipe.add.clone(), words: recipe.add_words.clone() };
        let (text, added) = TextFolder::extended(folder, &tokens)?;
        let old = Tokenizer::from_folder(folder)?;
        let mut starts = vec![];
        for token in added.iter().filter(|token| token.is_new) {
            let of = match recipe.init.text(&token.token) {
                None => vec![],
                Some(text) => old.encode(text, false)?,
            };
            if of.is_empty() && recipe.init.text(&token.token).is_some() {
                return Err(Error::Request {
                    problem: format!("the text at which {:?} starts has no token", token.token),
                    help: "give vocabulary.init a text of at least one letter".into(),
                });
            }
            starts.push((token.id as usize, of));
        }
        let limit = Tokenizer::from_folder(text.path())?.id_limit();
        Ok(Self { text, added, starts, limit })
    }

    /// The rows of a model that had `old`: enough for every token. Rows that the model kept in reserve are used first.
    pub fn rows(&self, old: usize) -> VocabularyRows {
        VocabularyRows { rows: old.max(self.limit), initial: self.starts.clone() }
    }

    /// What of it a user should know.
    pub fn notes(&self) -> Vec<String> {
        let known = self.added.iter().filter(|token| !token.is_new);
        known.map(|token| format!("{:?} is a token already (id {}): nothing is added", token.token, token.id)).collect()
    }
}

/// Adds embedding and output head to what an adapter run trains, because the new rows are in them.
///
/// # Errors
/// Files that are damaged; a model that predicts no tokens.
pub(super) fn train_ends(loaded: &mut Loaded, folder: &Path) -> Result<(), Error> {
    if matches!(loaded.recipe.method, Method::Full) {
        return Ok(());
    }
    let TokenModules { embedding, head, tied } = ModelFiles::open(folder)?.token_modules()?;
    let add = |modules: &mut Vec<String>, name: &String| {
        if !modules.iter().any(|known| name.ends_with(known.as_str())) {
            modules.push(name.clone());
        }
    };
    match &mut loaded.recipe.method {
        Method::Full => {}
        Method::Lora(lora) | Method::Dora(lora) => {
            let separate = lora.modules_to_save.iter().any(|known| head.ends_with(known.as_str()));
            add(&mut lora.modules_to_save, &embedding);
            if tied && !separate {
                lora.ensure_weight_tying = true;
            } else {
                add(&mut lora.modules_to_save, &head);
            }
        }
        Method::Ia3(ia3) => {
            add(&mut ia3.modules_to_save, &embedding);
            add(&mut ia3.modules_to_save, &head);
        }
    }
    Ok(())
}
