//! Writes the results of a finished run, the adapter folder and the model folder: [`export`].

use std::fmt;
use std::path::{Path, PathBuf};

use firebrand_adapters::AdapterConfig;
use firebrand_datasets::Format;
use firebrand_kernels::give_back_free_blocks;
use firebrand_models::{Model, WriteAs, adapter_folder, adapter_of_pipeline, pipeline, weights};

use super::base_identity::fingerprint;
use super::companions::{self, TrainedClasses, TrainedTemplate};
use super::folder::write_folder;
use super::merge::merge_into;
use super::probe::Probe;
use super::receipt::Receipt;
use crate::error::Error;
use crate::plan::{Data, Text};
use crate::recipe::{Init, LoraFormat, Recipe, WrittenDtype};
use crate::run::RunDirectory;

/// The folders that were written.
#[derive(Debug, Default)]
pub struct Exported {
    adapter: Option<PathBuf>,
    model: Option<PathBuf>,
    receipt: Option<Receipt>,
}

/// Writes `adapter/` and `model/` as the recipe asks.
///
/// # Errors
/// Those of writing; a merged model that differs too much from the adapted one.
pub fn export(
    model: &Model,
    recipe: &Recipe,
    directory: &RunDirectory,
    base: &Path,
    text: &Text,
    data: &Data,
) -> Result<Exported, Error> {
    give_back_free_blocks();
    let model = model.for_inference();
    let dtype = recipe.export.dtype.map(WrittenDtype::write_as);
    let mut exported = Exported::default();
    match recipe.method.adapter() {
        None => {
            let path = directory.model_path();
            write_folder(&path, |folder| {
                let dtype = dtype.unwrap_or(WriteAs::Stored);
                companions::write_model(base, folder, &model, (dtype, None), text, data.rendered())
            })?;
            exported.model = Some(path);
        }
        Some(config) => {
            exported.adapter = Some(write_adapter(&model, &config, recipe, directory, base, text, data)?);
            if recipe.export.merge {
                let path = directory.model_path();
                let probe = Probe::from_dataset(&data.train, &model)?;
                exported.receipt = Some(merge_into(&model, base, &path, dtype, &probe, text, data.rendered())?);
                exported.model = Some(path);
            }
        }
    }
    Ok(exported)
}

/// The template that the rows of an adapter were rendered by.
fn trained_with<'a>(text: &'a Text, data: &Data) -> TrainedTemplate<'a> {
    match text.template_to_export(data.rendered()) {
        Some(_) if data.is_unrendered(&[Format::PromptCompletion]) => TrainedTemplate::Unused,
        // Documents that are learned by heart make no difference to dialogues.
        Some(_) if data.is_unrendered(&[Format::Text]) => TrainedTemplate::Absent,
        Some(template) => TrainedTemplate::Used(template),
        None => TrainedTemplate::Absent,
    }
}

fn write_adapter(
    model: &Model,
    config: &AdapterConfig,
    recipe: &Recipe,
    directory: &RunDirectory,
    base: &Path,
    text: &Text,
    data: &Data,
) -> Result<PathBuf, Error> {
    // Random weights are in no file.
    let trained_on = match recipe.init {
        Init::Pretrained => Some(fingerprint(base)?),
        Init::Random => None,
    };
    let path = directory.adapter_path();
    write_folder(&path, |folder| {
        let name = recipe.model.to_string();
        match (pipeline::is_pipeline(base), config) {
            (true, AdapterConfig::Lora(_)) => {
                let format = match recipe.export.lora_format {
                    LoraFormat::Diffusers => weights::LoraFormat::Diffusers,
                    LoraFormat::Kohya => weights::LoraFormat::Kohya,
                };
                adapter_of_pipeline::save(model, config, &name, folder, format)?;
            }
            // Other methods are in PEFT's folders, which PEFT puts on the network.
            (true, AdapterConfig::Dora(_) | AdapterConfig::Ia3(_)) | (false, _) => {
                adapter_folder::save(model, config, &name, folder)?;
            }
        }
        if recipe.vocabulary.is_some() {
            companions::write_tokenizer(text, data.rendered(), folder)?;
        }
        let template = trained_with(text, data);
        let quantized = recipe.quantization.or(model.stored_scheme().map(|(scheme, _)| scheme.into()));
        let classes = TrainedClasses::of(model);
        companions::write_trained_with(folder, template, quantized, recipe.method.init_to_note(), classes)?;
        trained_on.map_or(Ok(()), |weights| companions::write_trained_on(folder, weights))
    })?;
    Ok(path)
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.adapter {
            writeln!(f, "adapter      {}", path.display())?;
        }
        if let Some(path) = &self.model {
            writeln!(f, "model        {}", path.display())?;
        }
        match &self.receipt {
            Some(receipt) => writeln!(f, "merge        {receipt}"),
            None => Ok(()),
        }
    }
}
