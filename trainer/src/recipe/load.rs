//! From a file and overrides to a [`Recipe`]: parse, override, validate, read, check, find the inputs, decide defaults.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::document::Document;
use super::dtype::StoredDtype;
use super::error::{ComplaintKind, RecipeError};
use super::evaluation::Eval;
use super::file::RecipeFile;
use super::model::ModelSource;
use super::paths::Folders;
use super::train::Train;
use super::{Method, Recipe, conflicts, overrides, paths, schema, validate};

/// A recipe, and where each of its keys was written.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub recipe: Recipe,
    document: Document,
}

impl Loaded {
    /// An error that points at a key such as `adapter.targets` or `data.train.0.path`, for what only turns out later: with
    /// the model or the data at hand. When the key is not written in the recipe, its section is shown.
    pub fn complain(&self, key: &str, message: impl Into<String>, help: impl Into<String>) -> RecipeError {
        self.document.at_key(ComplaintKind::Rejected, key).message(message).advice(help).into()
    }
}

impl Recipe {
    /// Reads a recipe file and applies `overrides`, each `key=value`.
    ///
    /// # Errors
    /// The first thing that is wrong with the recipe, with its line and what to do.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
        let text = fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let folders = Folders { current: Path::new(""), recipe: path.parent().unwrap_or(Path::new("")) };
        Recipe::parse(&path.display().to_string(), &text, overrides, folders)
    }

    /// The same for a text; `name` is shown in errors.
    pub(super) fn parse(
        name: &str,
        text: &str,
        overrides: &[String],
        folders: Folders<'_>,
    ) -> Result<Loaded, RecipeError> {
        let schema = schema::json_schema();
        let mut document = Document::parse(name, text)?;
        for text in overrides {
            overrides::apply(&mut document, text, |path| validate::is_text(schema, path))?;
        }
        validate::validate(&mut document, schema)?;
        let mut file = read(&document)?;
        conflicts::check(&file, &document)?;
        let model = paths::resolve(&mut file, &document, folders)?;
        Ok(Loaded { recipe: decide(file, model), document })
    }
}

/// The types' own reading. After the schema only texts with a grammar can still fail, such as device names.
fn read(document: &Document) -> Result<RecipeFile, RecipeError> {
    if let Some(super::document::Value::String(device)) = document.get("device").map(|node| &node.value)
        && let Err(reason) = device.parse::<super::DeviceName>()
    {
        return Err(document
            .at_key(ComplaintKind::UnknownValue, "device")
            .message(format!("unknown device \"{device}\""))
            .label("not known")
            .advice(reason)
            .into());
    }
    RecipeFile::deserialize(document.root.to_toml()).map_err(|error| {
        document
            .at_key(ComplaintKind::WrongType, "")
            .message(error.message().to_owned())
            .advice("`firebrand schema` prints what a recipe may hold")
            .into()
    })
}

fn decide(file: RecipeFile, model: ModelSource) -> Recipe {
    let method = Method::from(file.adapter);
    let base_dtype = match method {
        Method::Full => None,
        Method::Lora(_) | Method::Dora(_) | Method::Ia3(_) if file.quantization.is_some() => None,
        Method::Lora(_) | Method::Dora(_) | Method::Ia3(_) => Some(file.base_dtype.unwrap_or(StoredDtype::F32)),
    };
    let train = Train::from(file.train);
    let eval = Eval {
        every: file.eval.every,
        batch_size: file.eval.batch_size.unwrap_or(train.micro_batch_size),
        at_start: file.eval.at_start,
        early_stopping: file.eval.early_stopping,
    };
    let checkpoint = file.checkpoint.resolve(file.data.has_eval());
    Recipe {
        model,
        init: file.init,
        output: file.output,
        seed: file.seed,
        device: file.device,
        dtype: file.dtype,
        base_dtype,
        quantization: file.quantization,
        export: file.export.resolve(checkpoint.best.is_some(), eval.early_stopping.is_some()),
        checkpoint,
        data: file.data,
        objective: file.objective.map(|objective| objective.decide(&method)),
        method,
        train,
        optimizer: file.optimizer,
        schedule: file.schedule.into(),
        eval,
        log: file.log,
        sample: file.sample,
    }
}
