//! The folder that tokenizer and template are read from: [`TextFolder`]. It is the model's, unless an adapter brings its
//! own or a recipe adds tokens; then it is put together from both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebrand_datasets::tokenizer::{AddedId, NewTokens, copy, extend};
use firebrand_datasets::{ChatTemplate, DataError, Tokenizer, template};
use tempfile::TempDir;

use crate::error::Error;

/// A folder with the files of a tokenizer, a template, and the model's `config.json` and `generation_config.json`, which
/// name end tokens.
#[derive(Debug, Clone)]
pub struct TextFolder {
    path: PathBuf,
    /// The folder of the model itself.
    model: PathBuf,
    /// Removes what was put together when it is no longer needed.
    _assembled: Option<Arc<TempDir>>,
}

impl TextFolder {
    /// The model's own folder.
    pub fn of_model(folder: &Path) -> Self {
        Self { path: folder.to_path_buf(), model: folder.to_path_buf(), _assembled: None }
    }

    /// Tokenizer and template of the adapters where they bring their own, else the model's.
    ///
    /// # Errors
    /// Adapters that bring different tokenizers; files that cannot be read or copied.
    pub fn with_adapters(model: &Path, adapters: &[PathBuf]) -> Result<Self, Error> {
        let mut chosen: Option<(&Path, String)> = None;
        for adapter in adapters.iter().filter(|adapter| Tokenizer::is_in(adapter)) {
            let hash = Tokenizer::from_folder(adapter)?.hash().to_owned();
            match &chosen {
                None => chosen = Some((adapter, hash)),
                Some((_, first)) if *first == hash => {}
                Some((first, _)) => {
                    return Err(Error::Request {
                        problem: format!(
                            "the adapters in {} and {} bring different tokenizers",
                            first.display(),
                            adapter.display()
                        ),
                        help: "use one of them at a time".into(),
                    });
                }
            }
        }
        let mut with_template = None;
        for adapter in adapters {
            if with_template.is_none() && ChatTemplate::is_in(adapter)? {
                with_template = Some(adapter.as_path());
            }
        }
        let tokenizer = chosen.map(|(folder, _)| folder);
        if tokenizer.is_none() && with_template.is_none() {
            return Ok(Self::of_model(model));
        }
        let assembled = temporary()?;
        copy(tokenizer.unwrap_or(model), assembled.path())?;
        for name in ["config.json", "generation_config.json"] {
            let from = model.join(name);
            if from.is_file() {
                std::fs::copy(&from, assembled.path().join(name)).map_err(Error::io(&from))?;
            }
        }
        copy_templates(with_template.unwrap_or(model), assembled.path())?;
        Ok(Self::assembled(assembled, model))
    }

    /// The model's tokenizer with new tokens, and their ids.
    ///
    /// # Errors
    /// A model without a tokenizer; a token that cannot be added.
    pub fn extended(model: &Path, tokens: &NewTokens) -> Result<(Self, Vec<AddedId>), Error> {
        let assembled = temporary()?;
        let added = extend(model, assembled.path(), tokens)?;
        copy_templates(model, assembled.path())?;
        Ok((Self::assembled(assembled, model), added))
    }

    fn assembled(folder: TempDir, model: &Path) -> Self {
        Self { path: folder.path().to_path_buf(), model: model.to_path_buf(), _assembled: Some(Arc::new(folder)) }
    }

    /// The folder of the model itself, which says how it reads pictures.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn temporary() -> Result<TempDir, Error> {
    tempfile::tempdir().map_err(Error::io(&std::env::temp_dir()))
}

/// Copies templates. What cannot be read as one is left where it is: it matters only once a row needs it.
fn copy_templates(from: &Path, to: &Path) -> Result<(), Error> {
    match template::copy_templates(from, to) {
        Ok(_) | Err(DataError::Template { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
