//! Decides the objective of a run, from the recipe or by the kind of model: [`decide_objective`].

use std::path::Path;

use firebrand_datasets::RowKind;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;

use crate::error::Error;
use crate::recipe::{Loaded, ObjectiveRecipe};

/// Decides the objective. Where the recipe names none, the `config.json` in `folder` tells the kind of model.
///
/// # Errors
/// A configuration that is not supported; an objective that does not fit the kind, or a step of one pair, shown in the
/// recipe.
pub fn decide_objective(loaded: &mut Loaded, folder: &Path) -> Result<(), Error> {
    let family = Family::of(&HfConfig::open(folder)?)?;
    let kind = family.kind();
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
    if let (RowKind::Tensors, Some(_)) = (objective.rows(), &loaded.recipe.sample) {
        let problem = format!("a model of type {} writes no text, so it cannot answer prompts", family.name());
        return Err(loaded.complain("sample", problem, "leave [sample] out").into());
    }
    loaded.recipe.objective = Some(objective);
    Ok(())
}
