//! Decides the length of a run and of its warm-up where the recipe leaves them to the rows, and refuses a run that would
//! change nothing: [`decide_length`].

use super::data::{Data, total_steps};
use crate::error::Error;
use crate::recipe::{Curve, Duration, Loaded, Recipe, Warmup};
use crate::training::Steps;

/// Writes epochs and warm-up steps into the recipe where it gives none. Returns notes: about epochs that were added, and
/// about a try that trains nothing.
///
/// # Errors
/// No step of the run has a learning rate above zero, or warm-up and decay do not fit into it, shown in the recipe. A recipe
/// that a `--set` shortens is only tried, and is not refused.
pub fn decide_length(loaded: &mut Loaded, data: &Data) -> Result<Vec<String>, Error> {
    let recipe = &mut loaded.recipe;
    let note = match recipe.train.duration {
        Duration::Epochs(_) | Duration::Steps(_) => None,
        Duration::Fitting => {
            let steps = Steps::new(&data.train, recipe.seed, recipe.train.batch_size, Duration::Epochs(1)).total;
            // Sources with `epochs` of their own may end before.
            let end = data.train.epochs().map_or(usize::MAX, |end| end.max(1) as usize);
            let epochs = Duration::fitting(steps).min(end);
            recipe.train.duration = Duration::Epochs(epochs);
            (epochs > 1).then(|| {
                format!(
                    "the recipe says neither epochs nor steps, and an epoch of these rows is {}: the run has {epochs} \
                     epochs; train.epochs says another number",
                    if steps == 1 { "one step".into() } else { format!("{steps} steps") }
                )
            })
        }
    };
    let total = total_steps(recipe, data);
    if recipe.schedule.warmup == Warmup::Fitting {
        recipe.schedule.warmup = Warmup::Steps(Warmup::Fitting.steps(total as usize));
    }
    if !is_a_try(loaded)
        && let Some(complaint) = decay_too_long(loaded, total)
    {
        return Err(complaint.into());
    }
    let recipe = &loaded.recipe;
    let mut notes: Vec<String> = note.into_iter().collect();
    if total > 0 && !changes_anything(recipe, total) {
        if !is_a_try(loaded) {
            return Err(without_a_rate(loaded, total).into());
        }
        notes.push("no step of this try has a learning rate above zero: it trains nothing".into());
    }
    Ok(notes)
}

/// Whether a `--set` made the run shorter than its file says, and left the warm-up and the decay of the file.
fn is_a_try(loaded: &Loaded) -> bool {
    let set = |keys: &[&str]| keys.iter().any(|key| loaded.overridden(key));
    set(&["train.steps", "train.epochs"])
        && !set(&["schedule.warmup_steps", "schedule.warmup_ratio", "schedule.decay_steps"])
}

/// Whether any step has a learning rate above zero.
fn changes_anything(recipe: &Recipe, total: u64) -> bool {
    let warmup = recipe.schedule.warmup.steps(total as usize) as u64;
    let rate = |step| {
        let highest = recipe.optimizer.learning_rate(step);
        highest * recipe.schedule.curve.factor(step, warmup, total, highest)
    };
    (0..total).any(|step| rate(step) > 0.0)
}

/// A decay that begins before the warm-up ends would let the rate jump there.
fn decay_too_long(loaded: &Loaded, total: u64) -> Option<crate::recipe::RecipeError> {
    let schedule = &loaded.recipe.schedule;
    let warmup = schedule.warmup.steps(total as usize) as u64;
    let decay = match schedule.curve {
        Curve::WarmupStableDecay(curve) => curve.decay.steps(total, warmup),
        Curve::Constant
        | Curve::Linear
        | Curve::Cosine
        | Curve::CosineWithMinLr { .. }
        | Curve::CosineWithRestarts { .. }
        | Curve::Polynomial { .. }
        | Curve::InverseSqrt { .. } => return None,
    };
    (decay > 0 && warmup + decay > total).then(|| {
        loaded.complain(
            "schedule.decay_steps",
            format!("a warm-up of {warmup} steps and a decay of {decay} do not fit into the {total} steps of the run"),
            "write decay_ratio in place of decay_steps, shorten one of them, or make the run longer (train.epochs or \
             train.steps)"
                .to_string(),
        )
    })
}

fn without_a_rate(loaded: &Loaded, total: u64) -> crate::recipe::RecipeError {
    let recipe = &loaded.recipe;
    let warmup = recipe.schedule.warmup.steps(total as usize);
    let key = match recipe.schedule.warmup {
        Warmup::Ratio(_) => "warmup_ratio",
        Warmup::Steps(_) | Warmup::Fitting => "warmup_steps",
    };
    let run = if total == 1 { "the run has one step".into() } else { format!("the run has {total} steps") };
    loaded.complain(
        &format!("schedule.{key}"),
        format!(
            "nothing would be trained: no step has a learning rate above zero, because the first of {warmup} warm-up \
             steps has a rate of zero and {run}"
        ),
        format!(
            "leave schedule.{key} out, write warmup_steps = 0, or make the run longer (train.epochs or train.steps)"
        ),
    )
}
