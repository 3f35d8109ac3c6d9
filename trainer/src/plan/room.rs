//! Compares the memory that a run needs with what the machine has: [`check_room`], and [`check_weights`] before weights
//! are read.

use std::path::Path;

use firebrand_models::{FourBitConfig, Hold, Model};
use indicatif::BinaryBytes;

use super::machine::Machine;
use super::memory::MemoryPlan;
use super::model::hold;
use crate::error::Error;
use crate::objective::Recompute;
use crate::recipe::{self, Loaded, Recipe};

/// Compares the plan of a run with the memory of the machine. Returns a warning where it needs more than is free at the
/// moment: others may give memory back, and the plan is an estimate.
///
/// # Errors
/// A run that needs more than the machine has, shown in the recipe.
pub fn check_room(loaded: &Loaded, plan: &MemoryPlan, choice: Recompute) -> Result<Option<String>, Error> {
    let (Some(machine), needed) = (plan.machine, plan.total(choice)) else { return Ok(None) };
    let recipe = &loaded.recipe;
    if needed > machine.total {
        let problem = format!(
            "the run needs about {}, and there are {} of memory, {} of it free",
            BinaryBytes(needed),
            BinaryBytes(machine.total),
            BinaryBytes(machine.free)
        );
        return Err(loaded.complain("train.micro_batch_size", problem, advice(recipe, plan, machine)).into());
    }
    Ok((needed > machine.free).then(|| {
        format!(
            "the run needs about {}, and only {} of {} of memory are free: it may be ended by the system; {}",
            BinaryBytes(needed),
            BinaryBytes(machine.free),
            BinaryBytes(machine.total),
            advice(recipe, plan, machine)
        )
    }))
}

/// What to change so that the run fits into what is free.
fn advice(recipe: &Recipe, plan: &MemoryPlan, machine: Machine) -> String {
    let again = match recipe.train.recompute {
        recipe::Recompute::Off => Recompute::Off,
        recipe::Recompute::Blocks | recipe::Recompute::Auto => Recompute::Blocks,
    };
    let (batch, now) = (recipe.train.batch_size, recipe.train.micro_batch_size);
    let mut smaller = (1..now).rev().filter(|size| batch.is_multiple_of(*size));
    let fits = smaller.find(|size| plan.with_rows(*size as u64).total(again) <= machine.free);
    let off = "recompute = \"blocks\" in [train] keeps fewer activations";
    match (fits, recipe.train.recompute) {
        (Some(size), _) => {
            format!(
                "the largest micro_batch_size that fits is {size}: write micro_batch_size = {size} in [train]; results do not depend on it"
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn loaded(train: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows.jsonl"), "").unwrap();
        let text = format!(
            "model = \"owner/name\"\noutput = \"run\"\n[adapter]\nkind = \"lora\"\n[[data.train]]\npath = \"rows.jsonl\"\n[train]\n{train}\n"
        );
        std::fs::write(folder.path().join("recipe.toml"), text).unwrap();
        Recipe::load(&folder.path().join("recipe.toml"), &[]).unwrap()
    }

    /// Weights of 100 MiB; a pack keeps 40 MiB of activations, or 10 when blocks are recomputed.
    fn plan(rows: u64, total: u64, free: u64) -> MemoryPlan {
        MemoryPlan {
            companion: 0,
            weights: 100 * MIB,
            gradients: 0,
            optimizer: 0,
            activations: 40 * MIB * rows,
            activations_recomputed: 10 * MIB * rows,
            rows,
            machine: Some(Machine { total: total * MIB, free: free * MIB }),
        }
    }

    #[test]
    fn the_largest_micro_batch_that_fits_is_named() {
        let recipe = loaded("batch_size = 12\nmicro_batch_size = 12\nrecompute = \"off\"");
        let error = check_room(&recipe, &plan(12, 512, 300), Recompute::Off).unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(
            error
                .to_string()
                .contains("needs about 580.00 MiB, and there are 512.00 MiB of memory, 300.00 MiB of it free"),
            "{error}"
        );
        assert!(help.contains("the largest micro_batch_size that fits is 4"), "{help}");
        let blocks = loaded("batch_size = 12\nmicro_batch_size = 12");
        let error = check_room(&blocks, &plan(12, 200, 190), Recompute::Blocks).unwrap_err();
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("fits is 6"));
    }

    #[test]
    fn what_is_more_than_free_is_a_warning_and_what_fits_is_none() {
        let recipe = loaded("batch_size = 4\nrecompute = \"off\"");
        let remark = check_room(&recipe, &plan(4, 512, 200), Recompute::Off).unwrap().unwrap();
        assert!(remark.contains("only 200.00 MiB of 512.00 MiB") && remark.contains("fits is 2"), "{remark}");
        assert_eq!(check_room(&recipe, &plan(4, 512, 400), Recompute::Off).unwrap(), None);
        let unknown = MemoryPlan { machine: None, ..plan(4, 1, 1) };
        assert_eq!(check_room(&recipe, &unknown, Recompute::Off).unwrap(), None);
    }

    #[test]
    fn where_no_micro_batch_fits_something_else_is_advised() {
        let recipe = loaded("batch_size = 2");
        let error = check_room(&recipe, &plan(2, 90, 80), Recompute::Blocks).unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("no micro_batch_size fits") && help.contains("base_dtype = \"bf16\""), "{help}");
    }
}
