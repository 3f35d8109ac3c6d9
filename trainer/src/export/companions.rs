//! Writes the files beside the weights: configuration, tokenizer, chat template, and `firebrand.json` and
//! `firebrand_base.json` beside adapters.

use std::fs;
use std::path::Path;

use firebrand_datasets::{ChatTemplate, tokenizer};
use firebrand_models::families::ClassNames;
use firebrand_models::weights::Checkpoint;
use firebrand_models::{Model, WriteAs, pipeline};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pipeline_files::copy_pipeline;
use crate::error::Error;
use crate::plan::Text;
use crate::recipe::{LoraInit, Quantization};

/// Files of a model folder that are copied unchanged, if they are there.
const COPIED: &[&str] = &["generation_config.json", "preprocessor_config.json", "processor_config.json"];

const TEMPLATE: &str = "chat_template.jinja";
/// The folder of named templates.
const NAMED: &str = "additional_chat_templates";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The file beside an adapter that says what it was trained with. `generate` compares it.
const TRAINED_WITH: &str = "firebrand.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct TrainedWith {
    /// Hash of the chat template's source.
    template_hash: Option<String>,
    /// Whether there was a template that rendered no row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unrendered: bool,
    /// How the base was quantized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantization: Option<Quantization>,
    /// The initialisation of the factors, if loading must know it: `loftq`, which depends on the quantized base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init: Option<LoraInit>,
    /// What its scores tell apart, which no file of PEFT says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<TrainedClasses>,
}

/// The classes of an adapter that classifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedClasses {
    /// Their names, by their numbers.
    pub labels: Vec<String>,
    /// `problem_type`, as `config.json` has it.
    pub problem_type: Option<String>,
    /// The id with which texts were padded, before which they are read.
    pub pad_token_id: Option<usize>,
}

impl TrainedClasses {
    /// Those of a model; absent where it is no classifier.
    pub fn of(model: &Model) -> Option<Self> {
        let ClassNames { names, problem_type } = model.class_names()?;
        Some(Self { labels: names, problem_type, pad_token_id: model.padding() })
    }

    /// Their names, as a model has them.
    pub fn names(&self) -> ClassNames {
        ClassNames { names: self.labels.clone(), problem_type: self.problem_type.clone() }
    }
}

/// The file beside an adapter that says which base it was trained on.
const TRAINED_ON: &str = "firebrand_base.json";

#[derive(Debug, Serialize, Deserialize)]
struct TrainedOn {
    /// The fingerprint of the base's weights.
    weights: String,
}

/// The chat template in the training of an adapter.
#[derive(Debug, Clone, Copy)]
pub enum TrainedTemplate<'a> {
    /// It rendered rows, or may have.
    Used(&'a ChatTemplate),
    /// There was one, and it rendered no row.
    Unused,
    /// There was none.
    Absent,
}

/// Writes a model folder: weights, in dtypes and a layout, and what stands beside them. Of a pipeline, every file outside of the
/// trained network's weights is that of `base`, byte for byte.
///
/// # Errors
/// Those of reading and writing, with the path.
pub fn write_model(
    base: &Path,
    folder: &Path,
    model: &Model,
    (write_as, layout): (WriteAs, Option<&Checkpoint>),
    text: &Text,
    rendered: bool,
) -> Result<(), Error> {
    if pipeline::is_pipeline(base) {
        copy_pipeline(base, folder)?;
        model.save_weights(&pipeline::trained_folder(folder), write_as, layout)?;
        return Ok(());
    }
    model.save_weights(folder, write_as, layout)?;
    write(base, folder, model, write_as, text, rendered)
}

/// Writes `config.json`, copies what stands beside the weights in `base`, and writes tokenizer and template.
///
/// # Errors
/// Those of reading and writing, with the path.
pub fn write(
    base: &Path,
    folder: &Path,
    model: &Model,
    write_as: WriteAs,
    text: &Text,
    rendered: bool,
) -> Result<(), Error> {
    write_text(&folder.join("config.json"), &model.config_json(write_as))?;
    for name in COPIED {
        copy(&base.join(name), &folder.join(name))?;
    }
    write_tokenizer(text, rendered, folder)
}

/// Copies what stands beside the weights in `base`, other than `config.json`: every file as it is.
///
/// # Errors
/// Those of copying, with the path.
pub fn copy_all(base: &Path, folder: &Path) -> Result<(), Error> {
    for name in COPIED.iter().copied().chain([TEMPLATE]) {
        copy(&base.join(name), &folder.join(name))?;
    }
    tokenizer::copy(base, folder)?;
    copy_named(base, folder)
}

/// Copies the tokenizer's files into `folder`. The template, with its named ones, is written in both places where
/// libraries look for it; `rendered` says whether it rendered rows ([`Text::template_to_export`]).
///
/// # Errors
/// Those of reading and writing, with the path.
pub fn write_tokenizer(text: &Text, rendered: bool, folder: &Path) -> Result<(), Error> {
    tokenizer::copy(text.folder(), folder)?;
    copy(&text.folder().join(TEMPLATE), &folder.join(TEMPLATE))?;
    let Some(template) = text.template_to_export(rendered) else { return copy_named(text.folder(), folder) };
    write_text(&folder.join(TEMPLATE), template.source())?;
    for (name, source) in template.named() {
        let named = folder.join(NAMED);
        fs::create_dir_all(&named).map_err(Error::io(&named))?;
        write_text(&named.join(format!("{name}.jinja")), source)?;
    }
    let path = folder.join(TOKENIZER_CONFIG);
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let mut config: Value = serde_json::from_str(&text).map_err(|error| Error::io(&path)(error.into()))?;
        config["chat_template"] = in_config(template);
        write_text(&path, &format!("{config:#}\n"))?;
    }
    Ok(())
}

/// Copies a file if it is there.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    match from.exists() {
        true => fs::copy(from, to).map(|_| ()).map_err(Error::io(to)),
        false => Ok(()),
    }
}

/// The value of `chat_template` in `tokenizer_config.json`: text, or a list if there are named templates.
fn in_config(template: &ChatTemplate) -> Value {
    if template.named().is_empty() {
        return template.source().into();
    }
    let named = template.named().iter().map(|(name, source)| (name.as_str(), source.as_str()));
    let all = std::iter::once(("default", template.source())).chain(named);
    all.map(|(name, source)| json!({ "name": name, "template": source })).collect()
}

/// Copies the named templates that are files.
fn copy_named(base: &Path, folder: &Path) -> Result<(), Error> {
    let from = base.join(NAMED);
    if !from.is_dir() {
        return Ok(());
    }
    let to = folder.join(NAMED);
    fs::create_dir_all(&to).map_err(Error::io(&to))?;
    for entry in fs::read_dir(&from).map_err(Error::io(&from))? {
        let path = entry.map_err(Error::io(&from))?.path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let to = to.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).map_err(Error::io(&to))?;
        }
    }
    Ok(())
}

/// Writes `firebrand.json` beside an adapter: the template and the quantization of the base it was trained with, its
/// initialisation if loading must know it, and what its scores tell apart.
///
/// # Errors
/// Those of writing, with the path.
pub fn write_trained_with(
    folder: &Path,
    template: TrainedTemplate<'_>,
    quantization: Option<Quantization>,
    init: Option<LoraInit>,
    classes: Option<TrainedClasses>,
) -> Result<(), Error> {
    let (template_hash, unrendered) = match template {
        TrainedTemplate::Used(template) => (Some(template.template_hash()), false),
        TrainedTemplate::Unused => (None, true),
        TrainedTemplate::Absent => (None, false),
    };
    let trained = TrainedWith { template_hash, unrendered, quantization, init, classes };
    let text = serde_json::to_string_pretty(&trained).unwrap_or_default();
    write_text(&folder.join(TRAINED_WITH), &(text + "\n"))
}

/// The hash of the template that the adapter in `folder` was trained with, if its `firebrand.json` says so.
///
/// # Errors
/// A `firebrand.json` that cannot be read.
pub fn training_template(folder: &Path) -> Result<Option<String>, Error> {
    Ok(trained_with(folder)?.template_hash)
}

/// Whether the adapter in `folder` was trained on rows that its chat template did not render.
///
/// # Errors
/// A `firebrand.json` that cannot be read.
pub fn is_unrendered(folder: &Path) -> Result<bool, Error> {
    Ok(trained_with(folder)?.unrendered)
}

/// How the base of the adapter in `folder` was quantized in training, if its `firebrand.json` says so.
///
/// # Errors
/// A `firebrand.json` that cannot be read.
pub fn training_quantization(folder: &Path) -> Result<Option<Quantization>, Error> {
    Ok(trained_with(folder)?.quantization)
}

/// The initialisation that the adapter in `folder` needs on its quantized base, if its `firebrand.json` says so.
///
/// # Errors
/// A `firebrand.json` that cannot be read.
pub fn training_init(folder: &Path) -> Result<Option<LoraInit>, Error> {
    Ok(trained_with(folder)?.init)
}

/// What the scores of the adapter in `folder` tell apart, if its `firebrand.json` says so.
///
/// # Errors
/// A `firebrand.json` that cannot be read.
pub fn training_classes(folder: &Path) -> Result<Option<TrainedClasses>, Error> {
    Ok(trained_with(folder)?.classes)
}

/// Writes `firebrand_base.json` beside an adapter: the fingerprint of the base it was trained on.
///
/// # Errors
/// Those of writing, with the path.
pub fn write_trained_on(folder: &Path, weights: String) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(&TrainedOn { weights }).unwrap_or_default();
    write_text(&folder.join(TRAINED_ON), &(text + "\n"))
}

/// The fingerprint of the base that the adapter in `folder` was trained on, if a `firebrand_base.json` says so.
///
/// # Errors
/// A `firebrand_base.json` that cannot be read.
pub fn training_base(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join(TRAINED_ON);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let trained: TrainedOn = serde_json::from_str(&text).map_err(|error| Error::io(&path)(error.into()))?;
    Ok(Some(trained.weights))
}

fn trained_with(folder: &Path) -> Result<TrainedWith, Error> {
    let path = folder.join(TRAINED_WITH);
    if !path.exists() {
        return Ok(TrainedWith::default());
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    serde_json::from_str(&text).map_err(|error| Error::io(&path)(error.into()))
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(path))
}
