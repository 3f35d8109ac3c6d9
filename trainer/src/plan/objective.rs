//! Decides the objective of a run, from the recipe or by the kind of model: [`decide_objective`].

use std::path::Path;

use firebrand_datasets::{Problem, RowKind};
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::{Kind, ModelFiles};

use crate::error::Error;
use crate::objective::rows_of;
use crate::pictures::pictures_of;
use crate::recipe::{ClassifyRecipe, Init, Loaded, LoraFormat, Method, ObjectiveRecipe, Recompute};

/// Decides the objective. Where the recipe names none, the `config.json` in `folder` tells the kind of model.
///
/// # Errors
/// A configuration that is not supported; an objective that does not fit the kind, or a step of one pair, shown in the
/// recipe.
pub fn decide_objective(loaded: &mut Loaded, folder: &Path) -> Result<(), Error> {
    let config = HfConfig::open(folder)?;
    let family = Family::of(&config)?;
    let kind = kind_of(loaded.recipe.init, folder, family, &config);
    let usual = ObjectiveRecipe::of_kind(kind, &loaded.recipe.method);
    let objective = loaded.recipe.objective_of(kind);
    if !objective.fits(kind) {
        let problem = format!(
            "objective {} does not train a model of type {}, which is a {kind}",
            objective.name(),
            family.name()
        );
        let help = format!("write kind = \"{}\", or leave [objective] out", usual.name());
        return Err(loaded.complain("objective.kind", problem, help).into());
    }
    if let (ObjectiveRecipe::Contrastive(_), 1) = (&objective, loaded.recipe.train.batch_size) {
        let problem = "a step of one pair has no other to tell it from, and teaches nothing";
        return Err(loaded.complain("train.batch_size", problem, "write batch_size = 2 or more").into());
    }
    if loaded.recipe.log.noise_scale && !objective.is_sum_over_rows() {
        let problem = format!(
            "objective {} compares all rows of a step, so no micro-batch has a gradient of its own",
            objective.name()
        );
        return Err(loaded.complain("log.noise_scale", problem, "leave noise_scale out").into());
    }
    if let (LoraFormat::Kohya, false) =
        (loaded.recipe.export.lora_format, matches!(objective, ObjectiveRecipe::Denoise(_)))
    {
        let problem = "kohya's files hold LoRA on diffusion pipelines, and this model is none";
        return Err(loaded.complain("export.lora_format", problem, "leave lora_format out").into());
    }
    if let (Recompute::Blocks, ObjectiveRecipe::Denoise(_)) = (loaded.recipe.train.recompute, &objective) {
        let problem = "a UNet has no blocks of one kind that could be recomputed one by one";
        return Err(loaded.complain("train.recompute", problem, "leave recompute out").into());
    }
    if let ObjectiveRecipe::Denoise(denoise) = &objective
        && denoise.caption_dropout > 0.0
        && pictures_of(folder, None)?.is_none()
    {
        let problem =
            "the model's folder has no text_encoder/ or tokenizer/ that is supported, which the empty text needs";
        return Err(loaded
            .complain("objective.caption_dropout", problem, "give the folder of the whole pipeline")
            .into());
    }
    if let (false, Some(_)) = (objective.writes_text(), &loaded.recipe.sample) {
        let what = match objective.rows() {
            RowKind::Tokens => format!("objective {} trains a model that", objective.name()),
            RowKind::Tensors => format!("a model of type {}", family.name()),
        };
        let problem = format!("{what} writes no text, so it cannot answer prompts");
        return Err(loaded.complain("sample", problem, "leave [sample] out").into());
    }
    let objective = match objective {
        ObjectiveRecipe::Classify(classify) => {
            let of_model = || Problem::of_config(config.optional_string("problem_type").ok()??);
            let problem = classify.problem.or_else(|| of_model().filter(|_| kind.classifies()));
            let problem = Some(problem.unwrap_or_default());
            ObjectiveRecipe::Classify(ClassifyRecipe { problem, rows: rows_of(kind), ..classify })
        }
        other => other,
    };
    if let ObjectiveRecipe::Classify(_) | ObjectiveRecipe::Reward(_) = &objective {
        train_scores(loaded, &objective, family)?;
    }
    loaded.recipe.objective = Some(objective);
    Ok(())
}

/// The kind of the model: that of its weights, which may lack a head that `config.json` names; without weights, that of
/// `config.json`.
fn kind_of(init: Init, folder: &Path, family: Family, config: &HfConfig) -> Kind {
    let weights = match init {
        Init::Pretrained => ModelFiles::open(folder).ok(),
        Init::Random => None,
    };
    match weights {
        Some(files) => files.network().kind(),
        // What is wrong with the configuration is said where the model is built.
        None => family.config(config).map_or(family.kind(), |network| network.kind()),
    }
}

/// Adds the scores to what an adapter run trains and writes.
fn train_scores(loaded: &mut Loaded, objective: &ObjectiveRecipe, family: Family) -> Result<(), Error> {
    if loaded.recipe.vocabulary.is_some() {
        let problem = format!("objective {} has no output head, in which new tokens would have rows", objective.name());
        let help = "remove [vocabulary], or write an enlarged model with `firebrand enlarge` and take that";
        return Err(loaded.complain("vocabulary", problem, help).into());
    }
    let modules = match &mut loaded.recipe.method {
        Method::Full => return Ok(()),
        Method::Lora(lora) | Method::Dora(lora) => &mut lora.modules_to_save,
        Method::Ia3(ia3) => &mut ia3.modules_to_save,
    };
    if let Some(scores) = family.score_module()
        && !modules.iter().any(|known| scores.ends_with(known.as_str()))
    {
        modules.push(scores.into());
    }
    Ok(())
}
