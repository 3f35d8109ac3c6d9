//! Decides what the backward pass recomputes: [`recompute`], and [`recompute_within`] a memory that was measured before.

use firebrand_models::Model;

use super::data::Data;
use super::machine::Machine;
use super::memory::{MemoryPlan, Work};
use crate::objective::Recompute;
use crate::optim::Parameter;
use crate::recipe::{self, Recipe};

/// The recipe's choice, or for `auto` the choice by the estimated memory; also returns the estimate.
pub fn recompute(recipe: &Recipe, model: &Model, data: &Data) -> (Recompute, MemoryPlan) {
    recompute_within(recipe, model, data, Machine::measure(recipe.device))
}

/// The same on a machine that had so much memory before the model was read.
pub fn recompute_within(
    recipe: &Recipe,
    model: &Model,
    data: &Data,
    machine: Option<Machine>,
) -> (Recompute, MemoryPlan) {
    let packs = &data.train.epoch(recipe.seed, 0).packs;
    let work = Work {
        rows: recipe.train.micro_batch_size.min(packs.len()).max(1),
        length: packs.lengths().max().unwrap_or(1),
        trained: model.trained_parameters().iter().map(|info| info.elements()).sum(),
        optimizer_bytes: optimizer_bytes(recipe, model),
    };
    let plan = MemoryPlan::new(model, work, machine);
    (decide(recipe, &plan), plan)
}

/// The recipe's choice, or for `auto` the choice by an estimate.
pub(super) fn decide(recipe: &Recipe, plan: &MemoryPlan) -> Recompute {
    match recipe.train.recompute {
        recipe::Recompute::Off => Recompute::Off,
        recipe::Recompute::Blocks => Recompute::Blocks,
        recipe::Recompute::Auto => plan.recommended(),
    }
}

fn optimizer_bytes(recipe: &Recipe, model: &Model) -> usize {
    model
        .trained_parameters()
        .iter()
        .flat_map(|info| recipe.optimizer.quantities(Parameter::of(info)))
        .map(|quantity| quantity.bytes())
        .sum()
}
