//! Decides in what portions a step runs, [`Portions`]: how many packs go through the model at once, and what the backward
//! pass recomputes.
//!
//! `train.micro_batch_size` is the most packs at once. Where the estimate for so many is more than what is free, a smaller
//! divisor of the batch size is taken. What a step computes stays the same; its sums are taken in another order, so the last
//! digits differ. A run that goes on therefore keeps the portions in which it began, as long as they fit.
//!
//! `recompute = "auto"` keeps activations as long as a smaller micro-batch is the cheaper way. Recomputing blocks runs the
//! forward pass once more, which is half of a step where the base is frozen and a third where it is trained. A smaller
//! micro-batch computes the same products with fewer rows; they read the weights again for each micro-batch, so they slow
//! down only where a micro-batch has few tokens. From [`LEAST_TOKENS`] downwards blocks are recomputed instead, in the
//! largest micro-batch that fits, and in single packs where none does.

use firebrand_models::Model;
use indicatif::BinaryBytes;

use super::data::Data;
use super::machine::Machine;
use super::memory::{MemoryPlan, Work};
use crate::error::Error;
use crate::objective::Recompute;
use crate::recipe::{self, Recipe};
use crate::run::PlannedMemory;

/// Micro-batches of so many tokens are not made smaller in order to keep activations: half as many cost almost what
/// recomputation does (measured in `docs/performance.md`).
const LEAST_TOKENS: u64 = 256;

/// The portions of a step, and the estimate behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portions {
    /// The most packs that go through the model at once.
    pub micro_batch: usize,
    /// What the backward pass recomputes.
    pub recompute: Recompute,
    /// The estimate for micro-batches of so many packs.
    pub plan: MemoryPlan,
}

impl Portions {
    /// The portions of a recipe's steps on this machine, of which so much memory is free now.
    ///
    /// # Errors
    /// As [`Machine::measure`].
    pub fn new(recipe: &Recipe, model: &Model, data: &Data) -> Result<Self, Error> {
        let machine = Machine::measure(&recipe.device)?;
        // The model is read already and counted as such, and what else the process holds is little.
        Ok(Self::decide(recipe, MemoryPlan::new(model, Work::of(recipe, model, data), machine, 0)))
    }

    /// The portions by an estimate for micro-batches of `train.micro_batch_size` packs.
    pub(super) fn decide(recipe: &Recipe, plan: MemoryPlan) -> Self {
        let portions =
            |(micro_batch, recompute)| Self { micro_batch, recompute, plan: plan.with_rows(micro_batch as u64) };
        let mut last = None;
        for portions in candidates(recipe, &plan).into_iter().map(portions) {
            if portions.fits() {
                return portions;
            }
            last = Some(portions);
        }
        // The smallest, although it does not fit.
        last.unwrap_or_else(|| portions((recipe.train.micro_batch_size, Recompute::Off)))
    }

    /// Those in which a run began, where the recipe still allows them and they fit; `None` otherwise. `plan` is for
    /// micro-batches of `train.micro_batch_size` packs.
    pub(super) fn of_earlier(recipe: &Recipe, plan: MemoryPlan, earlier: PlannedMemory) -> Option<Self> {
        let PlannedMemory { micro_batch_size: micro_batch, recompute, .. } = earlier;
        let portions = Self { micro_batch, recompute, plan: plan.with_rows(micro_batch as u64) };
        let fits = portions.plan.machine.is_none_or(|machine| portions.needed() <= machine.free);
        (allows(recipe, earlier) && fits).then_some(portions)
    }

    /// Bytes that the run needs by the estimate.
    pub fn needed(&self) -> u64 {
        self.plan.total(self.recompute)
    }

    /// What `run.json` says of them.
    pub fn planned(&self, recipe: &Recipe) -> PlannedMemory {
        PlannedMemory {
            micro_batch_size: self.micro_batch,
            allowed: recipe.train.micro_batch_size,
            recompute: self.recompute,
            bytes: self.needed(),
        }
    }

    /// Whether the estimate leaves a margin of what is free.
    fn fits(&self) -> bool {
        self.plan.machine.is_none_or(|machine| self.needed() <= machine.room())
    }

    /// What the user should know where fewer packs go through the model at once than the recipe allows.
    pub fn remark(&self, recipe: &Recipe) -> Option<String> {
        let (most, machine) = (recipe.train.micro_batch_size, self.plan.machine?);
        (self.micro_batch < most).then(|| {
            format!(
                "{} of memory are free, too little for {most} rows at once: micro-batches have {} (about {}), which changes \
                 the order of sums and not what is computed",
                BinaryBytes(machine.free),
                self.shape(),
                BinaryBytes(self.needed())
            )
        })
    }

    /// What the user should know of a run that goes on with portions other than those of its beginning, or with fewer packs
    /// at once than the recipe allows.
    pub(super) fn remark_of_resumed(&self, recipe: &Recipe, earlier: PlannedMemory) -> Option<String> {
        let began = Self { micro_batch: earlier.micro_batch_size, recompute: earlier.recompute, plan: self.plan };
        let same = (self.micro_batch, self.recompute) == (began.micro_batch, began.recompute);
        match (same, allows(recipe, earlier)) {
            (true, _) if self.micro_batch == recipe.train.micro_batch_size => None,
            (true, _) => Some(format!("micro-batches have {}, as when the run began", self.shape())),
            // The user changed the recipe, and knows.
            (false, false) => self.remark(recipe),
            (false, true) => Some(format!(
                "micro-batches have {}, and had {} when the run began: sums in another order differ in their last digits from \
                 those of a run that was not interrupted",
                self.shape(),
                began.shape()
            )),
        }
    }

    fn shape(&self) -> String {
        let plural = if self.micro_batch == 1 { "" } else { "s" };
        let again = match self.recompute {
            Recompute::Off => "",
            Recompute::Blocks => ", blocks recomputed",
        };
        format!("{} row{plural}{again}", self.micro_batch)
    }
}

/// Whether a recipe allows the portions in which a run began. One that was changed to say something else does not.
fn allows(recipe: &Recipe, earlier: PlannedMemory) -> bool {
    let (train, micro_batch) = (&recipe.train, earlier.micro_batch_size);
    let asked = match (train.recompute, earlier.recompute) {
        (recipe::Recompute::Auto, _)
        | (recipe::Recompute::Off, Recompute::Off)
        | (recipe::Recompute::Blocks, Recompute::Blocks) => true,
        (recipe::Recompute::Off, Recompute::Blocks) | (recipe::Recompute::Blocks, Recompute::Off) => false,
    };
    // What `run.json` says was read from a file.
    let divides = micro_batch > 0 && micro_batch <= earlier.allowed && train.batch_size.is_multiple_of(micro_batch);
    asked && divides && earlier.allowed == train.micro_batch_size
}

/// Whether a run may take smaller micro-batches than its recipe says: not where these are what is measured.
pub(super) fn may_split(recipe: &Recipe) -> bool {
    !recipe.log.noise_scale
}

/// Micro-batch sizes with what is recomputed, the cheapest first.
fn candidates(recipe: &Recipe, plan: &MemoryPlan) -> Vec<(usize, Recompute)> {
    let most = recipe.train.micro_batch_size;
    // Micro-batches of more packs than there are hold as many as there are.
    let smaller = (1..most.min(plan.rows as usize)).rev().filter(|size| recipe.train.batch_size.is_multiple_of(*size));
    let sizes: Vec<usize> = std::iter::once(most).chain(smaller.filter(|_| may_split(recipe))).collect();
    let all = |recompute| sizes.iter().map(move |size| (*size, recompute));
    match recipe.train.recompute {
        recipe::Recompute::Off => all(Recompute::Off).collect(),
        recipe::Recompute::Blocks => all(Recompute::Blocks).collect(),
        recipe::Recompute::Auto => {
            let wide = |(size, _): &(usize, Recompute)| *size == most || *size as u64 * plan.length >= LEAST_TOKENS;
            all(Recompute::Off).filter(wide).chain(all(Recompute::Blocks)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::testing::{loaded, plan};
    use super::*;

    /// Size and recomputation for a recipe's `[train]`, with so many MiB free.
    fn decided(train: &str, length: u64, free: u64) -> (usize, Recompute) {
        let loaded = loaded(train);
        let rows = loaded.recipe.train.micro_batch_size as u64;
        let portions = Portions::decide(&loaded.recipe, MemoryPlan { length, ..plan(rows, 4096, free) });
        assert_eq!(portions.plan.rows, portions.micro_batch as u64);
        (portions.micro_batch, portions.recompute)
    }

    #[test]
    fn the_recipe_is_followed_where_it_fits() {
        // 100 MiB of weights, and 40 MiB a row or 10 recomputed; the machine keeps a margin.
        assert_eq!(decided("batch_size = 12\nmicro_batch_size = 12", 512, 800), (12, Recompute::Off));
        let unknown = MemoryPlan { machine: None, ..plan(4, 1, 1) };
        assert_eq!(Portions::decide(&loaded("batch_size = 4").recipe, unknown).micro_batch, 4);
    }

    #[test]
    fn long_rows_are_split_before_anything_is_recomputed() {
        let train = "batch_size = 12\nmicro_batch_size = 12";
        for (free, expected) in [(500, 6), (380, 4), (300, 3), (220, 2), (170, 1)] {
            assert_eq!(decided(train, 512, free), (expected, Recompute::Off), "{free} MiB");
        }
        // Not even one row fits with all of its activations.
        assert_eq!(decided(train, 512, 140), (1, Recompute::Blocks));
    }

    #[test]
    fn short_rows_are_recomputed_before_products_become_narrow() {
        let train = "batch_size = 12\nmicro_batch_size = 12";
        assert_eq!(decided(train, 64, 380), (4, Recompute::Off));
        assert_eq!(decided(train, 64, 300), (12, Recompute::Blocks));
        assert_eq!(decided(train, 64, 220), (6, Recompute::Blocks));
    }

    #[test]
    fn what_the_recipe_says_of_recomputation_is_kept() {
        let off = "batch_size = 12\nmicro_batch_size = 12\nrecompute = \"off\"";
        assert_eq!(decided(off, 16, 300), (3, Recompute::Off));
        assert_eq!(decided(off, 16, 110), (1, Recompute::Off));
        let blocks = "batch_size = 12\nmicro_batch_size = 12\nrecompute = \"blocks\"";
        assert_eq!(decided(blocks, 2048, 800), (12, Recompute::Blocks));
        assert_eq!(decided(blocks, 2048, 200), (6, Recompute::Blocks));
    }

    #[test]
    fn a_split_is_told_and_where_micro_batches_are_measured_there_is_none() {
        let recipe = loaded("batch_size = 4").recipe;
        let remark = Portions::decide(&recipe, plan(4, 512, 200)).remark(&recipe).unwrap();
        assert!(remark.contains("200.00 MiB of memory are free") && remark.contains("4 rows at once"), "{remark}");
        assert!(remark.contains("micro-batches have 1 row (about"), "{remark}");
        assert_eq!(Portions::decide(&recipe, plan(4, 512, 500)).remark(&recipe), None);
        let measured = loaded("batch_size = 4\nmicro_batch_size = 2\n[log]\nnoise_scale = true").recipe;
        assert_eq!(Portions::decide(&measured, plan(2, 512, 130)).micro_batch, 2);
    }

    #[test]
    fn a_run_that_goes_on_keeps_its_portions_as_long_as_they_fit() {
        let recipe = loaded("batch_size = 4").recipe;
        let short = plan(4, 512, 200);
        let began = Portions::decide(&recipe, short).planned(&recipe);
        assert_eq!((began.micro_batch_size, began.allowed), (1, 4));
        let again =
            |free| Portions::of_earlier(&recipe, plan(4, 512, free), began).map(|portions| portions.micro_batch);
        // With more memory too, and without the margin, but not with less than is needed.
        assert_eq!([500, 141, 139].map(again), [Some(1), Some(1), None]);
        let kept = Portions::of_earlier(&recipe, plan(4, 512, 500), began).unwrap();
        assert!(kept.remark_of_resumed(&recipe, began).unwrap().contains("as when the run began"));
        let other = Portions::decide(&recipe, plan(4, 512, 139));
        let remark = other.remark_of_resumed(&recipe, began).unwrap();
        assert!(remark.contains("have 1 row, blocks recomputed, and had 1 row when"), "{remark}");
        // A recipe that says something else is followed.
        let changed = loaded("batch_size = 4\nmicro_batch_size = 2").recipe;
        assert_eq!(Portions::of_earlier(&changed, plan(2, 512, 500), began), None);
        let blocks = loaded("batch_size = 4\nrecompute = \"blocks\"").recipe;
        assert_eq!(Portions::of_earlier(&blocks, plan(4, 512, 500), began), None);
        let whole = Portions::decide(&recipe, plan(4, 512, 500));
        assert_eq!(whole.remark_of_resumed(&recipe, whole.planned(&recipe)), None);
    }
}
