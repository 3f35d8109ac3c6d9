//! From a file and overrides to a [`Recipe`]: parse, override, validate, read, check, find the inputs, decide defaults.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::document::{Document, Value};
use super::dtype::{ComputeDtype, StoredDtype};
use super::error::{Complaint, ComplaintKind, RecipeError};
use super::evaluation::Eval;
use super::file::RecipeFile;
use super::model::ModelSource;
use super::paths::Folders;
use super::train::Train;
use super::{Method, Recipe, conflicts, other_files, overrides, paths, schema, validate};

/// A recipe, and where each of its keys was written.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub recipe: Recipe,
    document: Document,
}

impl Loaded {
    /// Whether the value of a key comes from a `--set` and not from the file.
    pub fn overridden(&self, key: &str) -> bool {
        self.document.get(key).is_some_and(|node| node.origin.source != 0)
    }

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
    /// Everything that is wrong with the recipe, each with its line and what to do: keys, values, keys that do not go
    /// together, files that are not there.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
        let text = fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let folders = Folders { current: Path::new(""), recipe: path.parent().unwrap_or(Path::new("")) };
        Recipe::parse(&path.display().to_string(), &text, overrides, folders)
    }

    /// The same for a text, whose paths are relative to the current folder; `name` is shown in errors.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn from_text(name: &str, text: &str, overrides: &[String]) -> Result<Loaded, RecipeError> {
        let here = Path::new("");
        Recipe::parse(name, text, overrides, Folders { current: here, recipe: here })
    }

    /// The same for a text; `name` is shown in errors.
    pub(super) fn parse(
        name: &str,
        text: &str,
        overrides: &[String],
        folders: Folders<'_>,
    ) -> Result<Loaded, RecipeError> {
        let schema = schema::json_schema();
        let mut document = match Document::parse(name, text) {
            Ok(document) => document,
            Err(error) => {
                let other = other_files::complaint(&Document::of_text(name, text), name, text, schema);
                return Err(other.map_or(error, RecipeError::from));
            }
        };
        for text in overrides {
            overrides::apply(&mut document, text, |path| validate::is_text(schema, path))?;
        }
        let (mut wrong, whole) = validate::validate(&mut document, schema);
        wrong.extend(unknown_device(&document));
        match read(&document) {
            Ok(mut file) => {
                if whole {
                    wrong.extend(conflicts::check(&file, &document));
                }
                match paths::resolve(&mut file, &document, folders) {
                    Ok(model) => match RecipeError::all(wrong) {
                        None => return Ok(Loaded { recipe: decide(file, model), document }),
                        Some(error) => return Err(error),
                    },
                    Err(lost) => wrong.extend(lost),
                }
            }
            Err(complaint) if wrong.is_empty() => wrong.push(complaint),
            Err(_) => wrong.extend(paths::lost(&document, folders)),
        }
        Err(RecipeError::all(wrong).unwrap_or_else(|| unreadable(&document, "it cannot be read").into()))
    }
}

/// Device names have a grammar that the schema cannot say in words.
fn unknown_device(document: &Document) -> Option<Complaint> {
    let Some(Value::String(device)) = document.get("device").map(|node| &node.value) else { return None };
    let reason = device.parse::<super::DeviceName>().err()?;
    let complaint = document.at_key(ComplaintKind::UnknownValue, "device");
    Some(complaint.message(format!("unknown device \"{device}\"")).label("not known").advice(reason))
}

fn unreadable(document: &Document, reason: &str) -> Complaint {
    let complaint = document.at_key(ComplaintKind::WrongType, "");
    complaint.message(reason).advice("`firebrand schema` prints what a recipe may hold")
}

/// The types' own reading. After the schema nothing but a defect of ours can fail here.
fn read(document: &Document) -> Result<RecipeFile, Complaint> {
    RecipeFile::deserialize(document.root.to_toml()).map_err(|error| unreadable(document, error.message()))
}

fn decide(file: RecipeFile, model: ModelSource) -> Recipe {
    let method = Method::from(file.adapter);
    let base_dtype = match method {
        Method::Full => None,
        Method::Lora(_) | Method::Dora(_) | Method::Ia3(_) if file.quantization.is_some() => None,
        // Computing in bf16, it depends on the model's files.
        Method::Lora(_) | Method::Dora(_) | Method::Ia3(_) => match (file.base_dtype, file.dtype) {
            (None, ComputeDtype::F32) => Some(StoredDtype::F32),
            (named, _) => named,
        },
    };
    let train = Train::from(file.train);
    let eval = Eval {
        every: file.eval.every,
        batch_size: file.eval.batch_size.unwrap_or(train.micro_batch_size),
        at_start: file.eval.at_start,
        weights: file.eval.weights,
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
        allow_tf32: file.allow_tf32,
        base_dtype,
        vocabulary: file.vocabulary,
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
