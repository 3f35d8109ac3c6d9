//! Notes for the user before a run, about settings that are valid but may surprise: [`notes`].

use firebrand_models::Model;
use firebrand_models::weights::Head;

use crate::recipe::{ObjectiveRecipe, Recipe};

/// Notes about a run of `steps` steps over `rows` rows.
pub fn notes(recipe: &Recipe, model: &Model, rows: usize, steps: u64) -> Vec<String> {
    let mut notes = model.notes().to_vec();
    let warmup = recipe.schedule.warmup.steps(steps as usize) as u64;
    if warmup >= steps {
        notes.push(format!(
            "the warm-up ({warmup} steps) is as long as the run ({steps}): the learning rate never reaches its value; \
             lower schedule.warmup_steps"
        ));
    }
    if let (ObjectiveRecipe::Contrastive(_), 1) = (recipe.objective_of(model.kind()), rows % recipe.train.batch_size) {
        notes.push(format!(
            "{rows} rows in steps of {}: the last step of an epoch has one pair, which has no other to tell it from and teaches nothing",
            recipe.train.batch_size
        ));
    }
    notes.extend(rank_note(model));
    for key in model.dropout_keys() {
        notes.push(format!("config.json asks for {key}: the base model is trained without dropout"));
    }
    if model.head_tie().is_some_and(|tie| tie.outcome.is_tied()) && model.ends().is_some_and(|ends| !ends.tied) {
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

/// A note about adapters that are larger than the matrices they change.
fn rank_note(model: &Model) -> Option<String> {
    let wide = model.outsized_adapters().unwrap_or_default();
    let (path, rank, side) = wide.first()?;
    Some(format!(
        "rank {rank} is larger than the smaller side of {} of the adapted matrices (`{path}`: {side}): any change of them has at most that rank, so a \
         lower one trains as much",
        wide.len()
    ))
}
