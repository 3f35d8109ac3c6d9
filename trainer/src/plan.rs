//! Everything a run needs, found, read and checked, before anything is trained.
//!
//! `train`, `check` and `data` share it, so a recipe that `check` accepts is one that `train` starts.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use firebrand_adapters::{AdapterConfig, AdapterError};
use firebrand_datasets::{
    Builtin, CacheChoice, ChatTemplate, DataError, Dataset, Prepare, Progress, Report, SourceConfig, Split,
    TemplateChoice, Tokenizer, prepare,
};
use firebrand_models::adapter_folder::{self, Start};
use firebrand_models::transformer::{DecoderConfig, MlpConfig};
use firebrand_models::weights::Head;
use firebrand_models::{CausalLm, Hold, ModelError, ModelFiles};

use crate::companions;
use crate::default_template;
use crate::error::Error;
use crate::fits;
use crate::hub::{HubDatasets, HubOptions, locate};
use crate::memory::{MemoryPlan, Work};
use crate::objective::Recompute;
use crate::optim::Parameter;
use crate::recipe::{self, Init, Loaded, Method, ModelSource, Recipe, StoredDtype};
use crate::training::Steps;

/// Tokenizer and template of a model folder, as far as they are there.
#[derive(Debug)]
pub struct Text {
    /// Absent when the folder has none: rows of token ids need none.
    pub tokenizer: Option<Tokenizer>,
    /// Absent when there is none to be found; rows of messages then say so.
    pub template: Option<ChatTemplate>,
    /// Name of the model's template and why it cannot be used.
    unusable: Option<(String, String)>,
    /// The template is that of the family, because the model ships none and none was asked for.
    by_default: Option<Builtin>,
}

/// The data of a recipe, tokenised.
#[derive(Debug)]
pub struct Data {
    /// Rows to train on.
    pub train: Dataset,
    /// Rows to evaluate on.
    pub eval: Option<Dataset>,
    /// What the data gate found.
    pub report: Report,
}

/// Finds the model folder of a recipe, fetching it if need be.
///
/// # Errors
/// Those of the hub.
pub fn model_folder(source: &ModelSource) -> Result<PathBuf, Error> {
    match source {
        ModelSource::Local(path) => Ok(path.clone()),
        ModelSource::Hub { .. } => Ok(locate(&source.to_string(), &HubOptions::from_env()?)?),
    }
}

/// Tokenizer and template of a run. A template that prints the date must print the same one when the run is resumed, so
/// its day is decided here and written into the recipe.
///
/// # Errors
/// As [`Text::load`].
pub fn dated_text(recipe: &mut Recipe, folder: &Path) -> Result<Text, Error> {
    let date = recipe.data.date.clone().unwrap_or_else(crate::date::today);
    let text = Text::load(folder, &recipe.data.template, Some(&date))?;
    if text.template.as_ref().is_some_and(|template| template.tells_the_date()) {
        recipe.data.date = Some(date);
    }
    Ok(text)
}

/// How a recipe holds its frozen weights.
pub fn hold(recipe: &Recipe) -> Hold {
    match (recipe.quantization, recipe.base_dtype) {
        (Some(quantization), _) => Hold::Quantized(quantization.scheme()),
        (None, None | Some(StoredDtype::F32)) => Hold::F32,
        (None, Some(StoredDtype::Bf16)) => Hold::Bf16,
        (None, Some(StoredDtype::F16)) => Hold::F16,
    }
}

impl Text {
    /// Reads tokenizer and template; `sources` say whether rows can be anything but token ids.
    ///
    /// # Errors
    /// A damaged file, or a template that was asked for by name and is not there.
    pub fn load(folder: &Path, choice: &TemplateChoice, date: Option<&str>) -> Result<Self, Error> {
        if !Tokenizer::is_in(folder) {
            return Ok(Self { tokenizer: None, template: None, unusable: None, by_default: None });
        }
        let tokenizer = Tokenizer::from_folder(folder)?;
        let by_default = match choice {
            TemplateChoice::Model if !ChatTemplate::is_in(folder)? => default_template::of_folder(folder, &tokenizer),
            _ => None,
        };
        let choice = &by_default.map_or_else(|| choice.clone(), TemplateChoice::Builtin);
        let (template, unusable) = match ChatTemplate::load(choice, Path::new(""), &tokenizer, date) {
            Ok(template) => (Some(template), None),
            // A model whose own template is missing or broken is fine until a row needs one.
            Err(DataError::Template { name, why }) if *choice == TemplateChoice::Model => (None, Some((name, why))),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { tokenizer: Some(tokenizer), template, unusable, by_default })
    }

    /// The template to hand on with a model: one that nobody chose only where rows were written with it.
    pub fn template_to_export(&self, rendered: bool) -> Option<&ChatTemplate> {
        self.template.as_ref().filter(|_| rendered || self.by_default.is_none())
    }

    /// What a user should know about the template of `data`.
    pub fn note(&self, data: &Data) -> Option<String> {
        let builtin = self.by_default.filter(|_| data.rendered())?;
        Some(format!(
            "the model ships no chat template: rows are written with the built-in `{}`, the default of its family; \
             data.template chooses another",
            builtin.name()
        ))
    }

    /// Says why the model's own template cannot be used, where rows need it.
    pub fn explain(&self, error: DataError) -> DataError {
        match (error, &self.unusable) {
            (DataError::Template { .. }, Some((name, why))) => {
                DataError::Template { name: name.clone(), why: why.clone() }
            }
            (error, _) => error,
        }
    }
}

impl Data {
    /// Reads, renders and tokenises all rows, or finds them in the cache folder if one is given. `progress` is told the
    /// split's name with each report.
    ///
    /// # Errors
    /// Broken rows, and what the data gate forbids is *not* one of them: see [`Report::pass`].
    pub fn load(
        recipe: &Recipe,
        text: &Text,
        cache: Option<&Path>,
        progress: &dyn Fn(&str, Progress) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let cache = match recipe.data.cache {
            CacheChoice::Auto => cache,
            CacheChoice::Off => None,
        };
        let split = |split: Split, name: &'static str| {
            prepare(&Prepare {
                config: &recipe.data,
                split,
                base: Path::new(""),
                tokenizer: text.tokenizer.as_ref(),
                template: text.template.as_ref(),
                micro_batch: recipe.train.micro_batch_size,
                cache,
                fetch: &HubDatasets,
                keep_text: false,
                limit: None,
                progress: &|report| progress(name, report),
            })
            .map_err(|error| text.explain(error))
        };
        let train = split(Split::Train, "train")?;
        let eval = match (recipe.data.validation_split, recipe.data.eval.is_empty()) {
            (Some(_), _) => train.set_aside(&recipe.data),
            (None, false) => Some(split(Split::Eval, "eval")?),
            (None, true) => None,
        };
        if eval.as_ref().is_some_and(Dataset::is_empty) {
            let problem = "data.validation_split sets no row aside: there are too few".into();
            let help = "raise it, or name rows for evaluation in [[data.eval]]".into();
            return Err(Error::Request { problem, help });
        }
        [Some(&train), eval.as_ref()].into_iter().flatten().try_for_each(fits::check_objective)?;
        let report = Report::new(Some(&train), eval.as_ref(), text.tokenizer.as_ref(), &recipe.data.gate);
        Ok(Self { train, eval, report })
    }

    /// Whether a chat template wrote any of the rows.
    pub fn rendered(&self) -> bool {
        [Some(&self.train), self.eval.as_ref()].into_iter().flatten().any(Dataset::rendered)
    }

    /// Whether the model can read all rows.
    ///
    /// # Errors
    /// The first row it cannot.
    pub fn check_fits(&self, model: &DecoderConfig) -> Result<(), Error> {
        [Some(&self.train), self.eval.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|dataset| fits::check(dataset, model))
    }
}

/// The model of a recipe with what is trained made trainable; the paths of adapted modules.
///
/// # Errors
/// Files that do not fit together, or targets that match nothing (shown in the recipe).
pub fn build_model(loaded: &Loaded, folder: &Path, device: &Device) -> Result<(CausalLm, Vec<String>), Error> {
    let recipe = &loaded.recipe;
    let mut model = match recipe.init {
        Init::Pretrained => CausalLm::load(folder, hold(recipe), device).map_err(|error| match error {
            ModelError::OtherQuantization { .. } => {
                let help = "quantized weights are taken as they are: leave [quantization] out, or say the same there";
                Error::from(loaded.complain("quantization", error.to_string(), help))
            }
            error => error.into(),
        })?,
        Init::Random => CausalLm::random(folder, recipe.seed, device)?,
    };
    let experts = matches!(model.decoder().config().mlp, MlpConfig::Experts { .. });
    if recipe.train.router_aux_loss.is_some() && !experts {
        let problem = format!("a model of type {} has no router", model.family().name());
        let help = "train.router_aux_loss is for models with experts, such as Mixtral; leave it out";
        return Err(loaded.complain("train.router_aux_loss", problem, help).into());
    }
    check_quantized_base(loaded, &model)?;
    let init_from = recipe.method.init_from();
    match recipe.method.adapter() {
        None => Ok((model.train_all(), vec![])),
        Some(config) => {
            let original = config.starts_at_what_quantization_lost().then(|| ModelFiles::open(folder)).transpose()?;
            let start = match init_from {
                Some(path) => Start::Folder(path),
                None => Start::Fresh { seed: recipe.seed, original: original.as_ref() },
            };
            if let Some(path) = init_from {
                check_initial_adapter(loaded, &config, path)?;
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
            Ok((model.train_active(), modules))
        }
    }
}

/// Weights that their folder has quantized are frozen, and held as they are.
fn check_quantized_base(loaded: &Loaded, model: &CausalLm) -> Result<(), Error> {
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
            "the files of this model hold quantized weights only, and LoftQ starts at what quantization lost".into(),
            "choose another init, or take the model with its original weights",
        ),
        (_, Some(StoredDtype::F32) | None) => return Ok(()),
    };
    let (key, message, help) = complaint;
    Err(loaded.complain(key, message, help).into())
}

/// An initial adapter must mean what the recipe says: its scale is not in its tensors.
fn check_initial_adapter(loaded: &Loaded, wanted: &AdapterConfig, folder: &Path) -> Result<(), Error> {
    if loaded.recipe.quantization.is_some() && companions::training_init(folder)?.is_some() {
        let message = format!("the adapter in {} started by loftq and is for the original weights", folder.display());
        let help = "remove [quantization], or leave init_from out";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    let (given, wanted) = match (&adapter_folder::read_config(folder)?.method, wanted) {
        (AdapterConfig::Lora(given), AdapterConfig::Lora(wanted))
        | (AdapterConfig::Dora(given), AdapterConfig::Dora(wanted)) => (given.clone(), wanted),
        // Its tensors say everything.
        (AdapterConfig::Ia3(_), AdapterConfig::Ia3(_)) => return Ok(()),
        (given, _) => {
            let message = format!("the adapter in {} is of another kind than the recipe's", folder.display());
            let help = format!("write kind = \"{}\", or leave init_from out", given.kind());
            return Err(loaded.complain("adapter.kind", message, &help).into());
        }
    };
    let differences = [
        ("adapter.alpha", "alpha", given.alpha != wanted.alpha || given.alpha_pattern != wanted.alpha_pattern),
        ("adapter.rank", "rank", given.rank != wanted.rank || given.rank_pattern != wanted.rank_pattern),
        ("adapter.rslora", "rslora", given.rslora != wanted.rslora),
    ];
    match differences.into_iter().find(|(.., differs)| *differs) {
        None => Ok(()),
        Some((key, name, _)) => {
            let message = format!("the adapter in {} has another {name} than the recipe", folder.display());
            let help = format!(
                "it has rank {}, alpha {}, rslora {}; say the same here, or leave init_from out",
                given.rank, given.alpha, given.rslora
            );
            Err(loaded.complain(key, message, &help).into())
        }
    }
}

/// What the backward pass recomputes, and why.
pub fn recompute(recipe: &Recipe, model: &CausalLm, data: &Data) -> (Recompute, MemoryPlan) {
    let longest = data.train.epoch(recipe.seed, 0).packs.lengths().max().unwrap_or(1);
    let work = Work {
        rows: recipe.train.micro_batch_size,
        length: longest,
        trained: model.trained_parameters().iter().map(|info| info.shape.iter().product::<usize>()).sum(),
        optimizer_bytes: optimizer_bytes(recipe, model),
    };
    let plan = MemoryPlan::new(model, work);
    let choice = match recipe.train.recompute {
        recipe::Recompute::Off => Recompute::Off,
        recipe::Recompute::Blocks => Recompute::Blocks,
        recipe::Recompute::Auto => plan.recommended(),
    };
    (choice, plan)
}

fn optimizer_bytes(recipe: &Recipe, model: &CausalLm) -> usize {
    model
        .trained_parameters()
        .iter()
        .flat_map(|info| recipe.optimizer.quantities(Parameter { path: &info.path, shape: &info.shape }))
        .map(|quantity| quantity.bytes())
        .sum()
}

/// Steps of the run.
pub fn total_steps(recipe: &Recipe, data: &Data) -> u64 {
    Steps::new(&data.train, recipe.seed, recipe.train.batch_size, recipe.train.duration).total
}

/// The keys under which families say how much of the base model is dropped in training.
const BASE_DROPOUT: [&str; 10] = [
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "emb_pdrop",
    "dropout",
    "resid_dropout",
    "embed_dropout",
    "hidden_dropout",
    "layerdrop",
];

/// What a user should know before a run of `steps` steps, though nothing is wrong.
pub fn notes(recipe: &Recipe, model: &CausalLm, steps: u64) -> Vec<String> {
    let mut notes = vec![];
    let warmup = recipe.schedule.warmup.steps(steps as usize) as u64;
    if warmup >= steps {
        notes.push(format!(
            "the warm-up ({warmup} steps) is as long as the run ({steps}): the learning rate never reaches its value; \
             lower schedule.warmup_steps"
        ));
    }
    for key in BASE_DROPOUT {
        if model.config().optional_f64(key).ok().flatten().is_some_and(|share| share > 0.0) {
            notes.push(format!("config.json asks for {key}: the base model is trained without dropout"));
        }
    }
    if model.head_tie().is_some_and(|tie| tie.outcome.is_tied()) && !model.decoder().config().head.tied {
        notes.push(
            "the output head was the embedding; modules_to_save trains one of them, so the head is a matrix of its own from now on \
             (ensure_weight_tying = true trains both as one)"
                .into(),
        );
    }
    if let Some(tie) = model.head_tie().filter(|tie| tie.outcome == Head::UntiedByFile) {
        notes.push(format!(
            "config.json ties {} to {}, but the files hold two different tensors: they stay two",
            tie.head, tie.embedding
        ));
    }
    notes
}

/// The sources of a command that has files and no recipe.
pub fn sources(paths: &[String], format: firebrand_datasets::Format) -> Vec<SourceConfig> {
    paths.iter().map(|path| SourceConfig { format, ..SourceConfig::new(path) }).collect()
}
