//! Compares the memory that a run needs with what the machine has: [`check_room`], and [`check_weights`] before weights
//! are read.

use std::path::Path;

use firebrand_models::{FourBitConfig, Hold, Model};
use indicatif::BinaryBytes;

use super::machine::Machine;
use super::model::hold;
use super::portions::{Portions, may_split};
use crate::error::Error;
use crate::objective::Recompute;
use crate::recipe::{self, Loaded, Recipe};

/// Compares what a run needs, in the portions that were decided, with the memory of the machine. Returns a warning where it
/// needs more than is free at the moment: others may give memory back, and the plan is an estimate.
///
/// # Errors
/// A run that needs more than the machine has, shown in the recipe.
pub fn check_room(loaded: &Loaded, portions: &Portions) -> Result<Option<String>, Error> {
    let (Some(machine), needed) = (portions.plan.machine, portions.needed()) else { return Ok(None) };
    let recipe = &loaded.recipe;
    if needed > machine.total {
        let problem = format!(
            "the run needs about {}, and there are {} of memory, {} of it free",
            BinaryBytes(needed),
            BinaryBytes(machine.total),
            BinaryBytes(machine.free)
        );
        return Err(loaded.complain("train.micro_batch_size", problem, advice(recipe, portions, machine)).into());
    }
    Ok((needed > machine.free).then(|| {
        format!(
            "the run needs about {}, and only {} of {} of memory are free: it may be ended by the system; {}",
            BinaryBytes(needed),
            BinaryBytes(machine.free),
            BinaryBytes(machine.total),
            advice(recipe, portions, machine)
        )
    }))
}

/// What to change so that the run fits into what is free. Smaller micro-batches were tried, except where they are measured.
fn advice(recipe: &Recipe, portions: &Portions, machine: Machine) -> String {
    let again = match recipe.train.recompute {
        recipe::Recompute::Off => Recompute::Off,
        recipe::Recompute::Blocks | recipe::Recompute::Auto => Recompute::Blocks,
    };
    let (batch, now) = (recipe.train.batch_size, portions.micro_batch);
    let mut smaller = (1..now).rev().filter(|size| !may_split(recipe) && batch.is_multiple_of(*size));
    let fits = smaller.find(|size| portions.plan.with_rows(*size as u64).total(again) <= machine.free);
    let off = "recompute = \"blocks\" in [train] keeps fewer activations";
    match (fits, recipe.train.recompute) {
        (Some(size), _) => {
            format!(
                "log.noise_scale compares micro-batches, so they are not split; the largest micro_batch_size that fits is \
                 {size}: write micro_batch_size = {size} in [train]"
            )
        }
        (None, recipe::Recompute::Off) => format!("no micro_batch_size fits; {off}, a lower data.max_length too"),
        (None, recipe::Recompute::Blocks | recipe::Recompute::Auto) => {
            format!("no micro_batch_size fits; {}", smaller_weights(recipe))
        }
    }
}

fn smaller_weights(recipe: &Recipe) -> &'static str {
    match (hold(recipe), &recipe.method) {
        (_, recipe::Method::Full) => {
            "a lower data.max_length, [adapter] in place of full fine-tuning, or a smaller model"
        }
        (Hold::F32, _) => {
            "a lower data.max_length, base_dtype = \"bf16\" or [quantization] with kind = \"nf4\", or a smaller model"
        }
        (Hold::Bf16 | Hold::F16, _) => {
            "a lower data.max_length, [quantization] with kind = \"nf4\" in place of base_dtype, or a smaller model"
        }
        (Hold::Quantized(_), _) => "a lower data.max_length, or a smaller model",
    }
}

/// Refuses weights that cannot fit, before they are read: reading them would end the program without a word.
///
/// # Errors
/// Weights that are larger than the memory of the machine, shown in the recipe.
pub fn check_weights(loaded: &Loaded, folder: &Path, machine: Option<Machine>) -> Result<(), Error> {
    let Some(machine) = machine else { return Ok(()) };
    // A folder that cannot be read is reported by what reads it.
    let Ok(outline) = Model::outline(folder) else { return Ok(()) };
    let quantized = FourBitConfig::of(outline.config()).is_ok_and(|config| config.is_some());
    let half_bytes: u64 = outline
        .base_parameters()
        .iter()
        .map(|info| {
            let narrow = info.role.is_matrix_of_block();
            let half_bytes = match hold(&loaded.recipe) {
                Hold::Bf16 | Hold::F16 if narrow => 4,
                Hold::Quantized(_) if narrow => 1,
                Hold::F32 if narrow && quantized => 1,
                Hold::F32 | Hold::Bf16 | Hold::F16 | Hold::Quantized(_) => 8,
            };
            info.elements() as u64 * half_bytes
        })
        .sum();
    let needed = half_bytes / 2;
    if needed <= machine.total {
        return Ok(());
    }
    let problem = format!(
        "the weights alone need {}, and there are {} of memory, {} of it free",
        BinaryBytes(needed),
        BinaryBytes(machine.total),
        BinaryBytes(machine.free)
    );
    Err(loaded.complain("model", problem, smaller_weights(&loaded.recipe)).into())
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::memory::MemoryPlan;
    use super::*;

    const MIB: u64 = 1 << 20;

    pub fn loaded(train: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), "").unwrap();
        let text = format!(
            "model = \"owner/name\"\noutput = \"run\"\n[adapter]\nkind = \"lora\"\n[[data.train]]\npath = \"rows.jsonl\"\n[train]\n{train}\n"
        );
        std::fs::write(folder.path().join("recipe.toml"), text).unwrap();
        Recipe::load(&folder.path().join("recipe.toml"), &[]).unwrap()
    }

    /// Weights of 100 MiB; a pack of 512 tokens keeps 40 MiB of activations, or 10 when blocks are recomputed.
    pub fn plan(rows: u64, total: u64, free: u64) -> MemoryPlan {
        MemoryPlan {
            companion: 0,
            weights: 100 * MIB,
            gradients: 0,
            average: 0,
            optimizer: 0,
            activations: 40 * MIB * rows,
            activations_recomputed: 10 * MIB * rows,
            program: 0,
            passing: 0,
            logits: 0,
            head: 0,
            update: 0,
            step_rows: rows,
            rows,
            length: 512,
            machine: Some(Machine { total: total * MIB, free: free * MIB }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{loaded, plan};
    use super::*;

    #[test]
    fn a_run_that_no_split_makes_fit_is_refused_or_warned_of() {
        let recipe = loaded("batch_size = 12\nmicro_batch_size = 12\nrecompute = \"off\"");
        let portions = |total, free| Portions::decide(&recipe.recipe, plan(12, total, free));
        let error = check_room(&recipe, &portions(128, 120)).unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(
            error
                .to_string()
                .contains("needs about 140.00 MiB, and there are 128.00 MiB of memory, 120.00 MiB of it free"),
            "{error}"
        );
        assert!(help.contains("no micro_batch_size fits; recompute = \"blocks\""), "{help}");
        let remark = check_room(&recipe, &portions(512, 120)).unwrap().unwrap();
        assert!(remark.contains("only 120.00 MiB of 512.00 MiB") && remark.contains("no micro_batch_size"), "{remark}");
        assert_eq!(check_room(&recipe, &portions(512, 300)).unwrap(), None);
    }

    #[test]
    fn where_micro_batches_are_measured_the_largest_that_fits_is_named() {
        let recipe = loaded("batch_size = 12\nmicro_batch_size = 6\nrecompute = \"off\"\n[log]\nnoise_scale = true");
        let portions = Portions::decide(&recipe.recipe, plan(6, 512, 230));
        let remark = check_room(&recipe, &portions).unwrap().unwrap();
        assert!(remark.contains("needs about 340.00 MiB") && remark.contains("that fits is 3"), "{remark}");
    }

    #[test]
    fn where_no_micro_batch_fits_something_else_is_advised() {
        let recipe = loaded("batch_size = 2");
        let error = check_room(&recipe, &Portions::decide(&recipe.recipe, plan(2, 90, 80))).unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("no micro_batch_size fits") && help.contains("base_dtype = \"bf16\""), "{help}");
    }
}
