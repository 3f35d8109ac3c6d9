//! Reads the tokenizer and chat template of a model folder: [`Text`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebrand_datasets::{Builtin, ChatTemplate, DataError, Pictures, TemplateChoice, Tokenizer};

use super::text_folder::TextFolder;
use super::{date, default_template};
use crate::error::Error;
use crate::pictures::{pictures_of, resized};
use crate::recipe::Recipe;

/// Tokenizer and template of a model folder; each may be absent.
#[derive(Debug)]
pub struct Text {
    /// Absent when the folder has none. Rows of token ids need none.
    pub tokenizer: Option<Tokenizer>,
    /// Absent when there is none. Rows of messages are then an error.
    pub template: Option<ChatTemplate>,
    /// How the model reads pictures; absent where it reads none, or its folder does not say how.
    pub pictures: Option<Arc<Pictures>>,
    /// The name of the model's own template and the reason why it cannot be used.
    unusable: Option<(String, String)>,
    /// Where both were read from.
    folder: TextFolder,
    /// The default template of the family, used because the model ships none and the recipe names none.
    by_default: Option<Builtin>,
    /// The folder that has no tokenizer.
    looked_in: Option<PathBuf>,
}

/// Tokenizer and template of a run. A template that prints the date must print the same one when the run is resumed, so
/// the date is decided here and written into the recipe.
///
/// # Errors
/// As [`Text::load`].
pub fn dated_text(recipe: &mut Recipe, folder: &TextFolder) -> Result<Text, Error> {
    let date = recipe.data.date.clone().unwrap_or_else(date::today);
    let mut text = Text::load(folder, &recipe.data.template, Some(&date))?;
    if let Some(pictures) = &mut text.pictures {
        let pictures = Arc::make_mut(pictures);
        pictures.most_pixels = recipe.data.max_pixels;
        if let Some(side) = recipe.data.resolution {
            pictures.processor = resized(&pictures.processor, side)?;
        }
    }
    if text.template.as_ref().is_some_and(|template| template.tells_the_date()) {
        recipe.data.date = Some(date);
    }
    Ok(text)
}

impl Text {
    /// Reads tokenizer and template. `date` is what templates print as today's date.
    ///
    /// # Errors
    /// A damaged file, or a template that was asked for by name and does not exist.
    pub fn load(folder: &TextFolder, choice: &TemplateChoice, date: Option<&str>) -> Result<Self, Error> {
        let (read_from, model, folder) = (folder.clone(), folder.model(), folder.path());
        if !Tokenizer::is_in(folder) {
            let looked_in = Some(folder.to_path_buf());
            return Ok(Self {
                tokenizer: None,
                template: None,
                pictures: pictures_of(model, None)?,
                unusable: None,
                folder: read_from,
                by_default: None,
                looked_in,
            });
        }
        let tokenizer = Tokenizer::from_folder(folder)?;
        let by_default = match choice {
            TemplateChoice::Model if !ChatTemplate::is_in(folder)? => default_template::of_folder(folder, &tokenizer),
            _ => None,
        };
        let choice = &by_default.map_or_else(|| choice.clone(), TemplateChoice::Builtin);
        let (template, unusable) = match ChatTemplate::load(choice, Path::new(""), &tokenizer, date) {
            Ok(template) => (Some(template), None),
            // A model whose own template is missing or broken can be used until a row needs the template.
            Err(DataError::Template { name, why }) if *choice == TemplateChoice::Model => (None, Some((name, why))),
            Err(error) => return Err(error.into()),
        };
        let pictures = pictures_of(model, Some(&tokenizer))?;
        let tokenizer = Some(tokenizer);
        Ok(Self { tokenizer, template, pictures, unusable, folder: read_from, by_default, looked_in: None })
    }

    /// Where tokenizer and template were read from.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the model ships a chat template of its own that can be used.
    pub fn ships_template(&self) -> bool {
        self.template.is_some() && self.by_default.is_none()
    }

    /// The template to write into exported folders. A default template is written only if it rendered rows.
    pub fn template_to_export(&self, rendered: bool) -> Option<&ChatTemplate> {
        self.template.as_ref().filter(|_| rendered || self.by_default.is_none())
    }

    /// A note for the user if the default template rendered any row.
    pub fn note(&self, rendered: bool) -> Option<String> {
        let builtin = self.by_default.filter(|_| rendered)?;
        Some(format!(
            "the model ships no chat template: rows are written with the built-in `{}`, the default of its family; \
             data.template chooses another",
            builtin.name()
        ))
    }

    /// A note for the user if templates of the model are not used, where its own rendered any row.
    pub fn unused_templates(&self, rendered: bool) -> Option<String> {
        self.template.as_ref().filter(|_| rendered)?.unused()
    }

    /// Adds to an error about a missing tokenizer where it was looked for, to one about a missing template why the model's own cannot be used.
    pub fn explain(&self, error: DataError) -> DataError {
        match (error, &self.unusable) {
            (DataError::Template { .. }, Some((name, why))) => {
                DataError::Template { name: name.clone(), why: why.clone() }
            }
            (DataError::NoTokenizer { .. }, _) => DataError::NoTokenizer { looked_in: self.looked_in.clone() },
            (error, _) => error,
        }
    }
}
