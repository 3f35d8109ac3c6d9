//! Builds the model of a recipe, with its trained parameters made trainable: [`build_model`].

use std::path::Path;

use burn::tensor::Device;
use firebrand_adapters::AdapterError;
use firebrand_models::adapter_folder::{self, Start};
use firebrand_models::{Hold, Model, ModelError, ModelFiles, WriteAs};

use super::classes::give_head;
use super::companion::CompanionPlan;
use super::initial_adapter::check_initial_adapter;
use super::vocabulary::Vocabulary;
use crate::error::Error;
use crate::objective::Companion;
use crate::recipe::{Init, Loaded, Method, Recipe, ReferenceRecipe, StoredDtype};
use crate::training::{FreezeError, train_all};

/// The storage of frozen weights that a recipe asks for.
pub fn hold(recipe: &Recipe) -> Hold {
    match (recipe.quantization, recipe.base_dtype) {
        (Some(quantization), _) => Hold::Quantized(quantization.scheme()),
        (None, None | Some(StoredDtype::F32)) => Hold::F32,
        (None, Some(StoredDtype::Bf16)) => Hold::Bf16,
        (None, Some(StoredDtype::F16)) => Hold::F16,
    }
}

/// A model that can be trained.
#[derive(Debug)]
pub struct Built {
    /// The model, with its trained parameters made trainable.
    pub model: Model,
    /// Paths of adapted modules.
    pub modules: Vec<String>,
    /// What the objective compares it with, and the bytes of its weights.
    pub companion: Option<(Companion, u64)>,
}

/// Builds the model of a recipe and makes its trained parameters trainable; reads the second model of the recipe.
///
/// # Errors
/// Files that do not fit together, or targets that match no module (shown in the recipe).
pub fn build_model(
    loaded: &Loaded,
    folder: &Path,
    vocabulary: Option<&Vocabulary>,
    companion: Option<&CompanionPlan>,
    device: &Device,
) -> Result<Built, Error> {
    let recipe = &loaded.recipe;
    let keeps_reference = recipe.objective.as_ref().is_some_and(|objective| objective.reference_cache().is_some());
    // A reference whose numbers are kept is read only where it has to run, and is not there while the model is trained.
    let companion = companion.filter(|_| !keeps_reference);
    let companion = companion.map(|companion| companion.load(loaded, device)).transpose()?;
    let mut model = match recipe.init {
        Init::Pretrained => Model::load(folder, hold(recipe), device).map_err(|error| match error {
            ModelError::OtherQuantization { .. } => {
                let help = "quantized weights are taken as they are: leave [quantization] out, or say the same there";
                Error::from(loaded.complain("quantization", error.to_string(), help))
            }
            ModelError::BeyondDtype { .. } if recipe.base_dtype.is_some() => {
                Error::from(loaded.complain("base_dtype", error.to_string(), error.help().unwrap_or_default()))
            }
            error => error.into(),
        })?,
        Init::Random => Model::random(folder, recipe.seed, device)?,
    }
    .with_precision(recipe.precision());
    if let Some(vocabulary) = vocabulary {
        let old = model.vocabulary().unwrap_or_default();
        model
            .resize_vocabulary(&vocabulary.rows(old))
            .map_err(|error| loaded.complain("vocabulary", error.to_string(), "remove the section"))?;
    }
    if recipe.objective.as_ref().and_then(|objective| objective.router_aux_loss()).is_some() && !model.has_routers() {
        let problem = format!("a model of type {} has no router", model.family().name());
        let help = "router_aux_loss is for models with experts, such as Mixtral; leave it out";
        return Err(loaded.complain("objective.router_aux_loss", problem, help).into());
    }
    give_head(&mut model, recipe)?;
    check_quantized_base(loaded, &model)?;
    if let Some(dtype) = recipe.export.dtype {
        let complain = |error: ModelError| {
            let help = error.help().unwrap_or("write bf16, f16 or f32");
            loaded.complain("export.dtype", error.to_string(), help)
        };
        model.check_writable(dtype.write_as()).map_err(complain)?;
        let writes_model = recipe.export.merge || matches!(recipe.method, Method::Full);
        if let (WriteAs::Dense(dtype), Init::Pretrained, true) = (dtype.write_as(), recipe.init, writes_model) {
            // Better now than after the last step.
            ModelFiles::open(folder)?.check_fits(dtype).map_err(complain)?;
        }
    }
    let objective = recipe.objective_of(model.kind());
    let reference = objective.reference();
    let init_from = recipe.method.init_from();
    match recipe.method.adapter() {
        None => {
            let own = reference.filter(|reference| reference.is_own()).map(|_| {
                // The first step gives the model new tensors, and these stay.
                let bytes = if keeps_reference { 0 } else { model.weight_bytes() };
                (Companion::Network(model.network().clone()), bytes)
            });
            let model = train_all(&objective, model, &recipe.train.freeze).map_err(|error| match error {
                FreezeError::Model(error) => Error::from(error),
                error => {
                    let help =
                        "a pattern is looked for in the names of the model's files; `firebrand inspect` lists them";
                    Error::from(loaded.complain("train.freeze", error.to_string(), help))
                }
            })?;
            Ok(Built { model, modules: vec![], companion: companion.or(own) })
        }
        Some(config) => {
            // Its tensors are shared with the trained model and frozen there.
            let own = |model: &Model| Some((Companion::Network(model.network().clone()), 0));
            let base = matches!(reference, Some(ReferenceRecipe::Base)).then(|| own(&model)).flatten();
            let original = config.starts_at_what_quantization_lost().then(|| ModelFiles::open(folder)).transpose()?;
            let start = match init_from {
                Some(path) => Start::Folder(path),
                None => Start::Fresh { seed: recipe.seed, original: original.as_ref() },
            };
            if let Some(path) = init_from {
                check_initial_adapter(loaded, &config, path, &model, folder)?;
            }
            let modules = adapter_folder::attach(&mut model, &config, start).map_err(|error| match error {
                firebrand_models::ModelError::Adapter(error @ AdapterError::UnusedModule { .. }) => {
                    let help = "name modules that the model has, by the end of their path";
                    Error::from(loaded.complain("adapter.modules_to_save", error.to_string(), help))
                }
                firebrand_models::ModelError::Adapter(
                    error @ (AdapterError::NoMatch { .. } | AdapterError::UnusedTarget { .. }),
                ) if init_from.is_none() => {
                    let help = "choose from these, or use targets = \"all-linear\"";
                    Error::from(loaded.complain("adapter.targets", error.to_string(), help))
                }
                error => error.into(),
            })?;
            let start = matches!(reference, Some(ReferenceRecipe::Start)).then(|| own(&model)).flatten();
            Ok(Built { model: model.train_active(), modules, companion: companion.or(base).or(start) })
        }
    }
}

/// Checks that the recipe neither trains weights that are quantized in their folder nor holds them in another way.
fn check_quantized_base(loaded: &Loaded, model: &Model) -> Result<(), Error> {
    let Some((scheme, _)) = model.stored_scheme() else { return Ok(()) };
    let starts_by_loftq =
        loaded.recipe.method.adapter().is_some_and(|config| config.starts_at_what_quantization_lost());
    let complaint = match (&loaded.recipe.method, loaded.recipe.base_dtype) {
        (Method::Full, _) => (
            "model",
            format!(
                "the weights of this model are quantized ({scheme}), so they are frozen, and full fine-tuning freezes none"
            ),
            "add [adapter] with kind = \"lora\", or take the model with its original weights",
        ),
        (_, Some(StoredDtype::Bf16 | StoredDtype::F16)) => (
            "base_dtype",
            format!("the weights of this model are quantized ({scheme}) and are held so, whatever `base_dtype` says"),
            "remove base_dtype",
        ),
        _ if starts_by_loftq => (
            "adapter.init",
            "the files of this model hold quantized weights only, and LoftQ starts at what quantizing lost".into(),
            "choose another init, or take the model with its original weights",
        ),
        (_, Some(StoredDtype::F32) | None) => return Ok(()),
    };
    let (key, message, help) = complaint;
    Err(loaded.complain(key, message, help).into())
}
