//! Notes for the user before a run, about settings that are valid but may surprise: [`notes`].

use firebrand_models::Model;
use firebrand_models::weights::Head;

use crate::recipe::{Init, Method, ObjectiveRecipe, Optimizer, Recipe};

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
    notes.extend(rate(recipe));
    notes.extend(rank(model));
    if let (ObjectiveRecipe::Contrastive(_), 1) = (&recipe.objective_of(model.kind()), rows % recipe.train.batch_size) {
        notes.push(format!(
            "{rows} rows in steps of {}: the last step of an epoch has one pair, which has no other to tell it from and teaches nothing",
            recipe.train.batch_size
        ));
    }
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

/// A learning rate that is usual for something else.
fn rate(recipe: &Recipe) -> Option<String> {
    let rate = recipe.optimizer.learning_rate(0);
    let adam = matches!(recipe.optimizer, Optimizer::Adamw(_) | Optimizer::Adamw8bit(_));
    let most = match recipe.optimizer {
        Optimizer::Sgd(_) | Optimizer::Muon(_) => 1.0,
        Optimizer::Adamw(_) | Optimizer::Adamw8bit(_) | Optimizer::Adafactor(_) | Optimizer::Lion(_) => 0.05,
    };
    if rate >= most {
        return Some(format!(
            "a learning rate of {rate} is far too high for any model: the loss will soon be no number"
        ));
    }
    let (full, ratio) = match &recipe.method {
        Method::Full => (true, 1.0),
        Method::Lora(lora) | Method::Dora(lora) => (false, lora.loraplus_lr_ratio),
        Method::Ia3(_) => (false, 1.0),
    };
    match (full, recipe.init) {
        (true, Init::Pretrained) if adam && rate >= 1e-4 => Some(format!(
            "a learning rate of {rate:e} is usual for adapters; full fine-tuning takes 1e-6 to 5e-5, and forgets much of \
             the model above that"
        )),
        (false, _) if adam && rate * ratio < 1e-5 => Some(format!(
            "a learning rate of {rate:e} is usual for full fine-tuning; adapters take 1e-4 to 5e-4, and hardly learn \
             anything below that"
        )),
        (true, Init::Pretrained | Init::Random) | (false, _) => None,
    }
}

/// Factors that are larger than the matrices they change.
fn rank(model: &Model) -> Option<String> {
    let wide = model.outsized_adapters().unwrap_or_default();
    let (path, rank, side) = wide.iter().min_by_key(|(.., side)| *side)?;
    Some(format!(
        "adapter.rank = {rank} is more than some matrices have (`{path}`: its smaller side is {side}): a rank above {side} \
         costs memory there and adds nothing"
    ))
}
