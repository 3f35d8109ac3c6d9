//! What a run minimises: the recipe's objective, or that of the model.

use crate::error::Error;
use crate::recipe::{Loaded, ObjectiveRecipe};

/// Decides the objective where the recipe leaves it to the model.
///
/// # Errors
/// An objective that the model cannot have, shown in the recipe.
pub fn decide_objective(loaded: &mut Loaded) -> Result<(), Error> {
    match loaded.recipe.objective {
        None => {
            loaded.recipe.objective = Some(ObjectiveRecipe::sft());
            Ok(())
        }
        Some(ObjectiveRecipe::Sft(_)) => Ok(()),
        Some(ObjectiveRecipe::Contrastive(_)) => {
            let problem = "objective contrastive needs a model with two towers; this one is a decoder";
            let help = "write kind = \"sft\", or leave [objective] out";
            Err(loaded.complain("objective.kind", problem, help).into())
        }
    }
}
