//! Estimates the memory of a run before it starts: [`MemoryPlan`].
//!
//! The estimate counts what dominates: weights, gradients, optimiser state, and activations of one micro-batch. It
//! decides between keeping activations and recomputing them, and `check` shows it. Measured numbers are in
//! `docs/performance.md`.

use firebrand_models::Model;
use firebrand_models::network::StackConfig;
use serde::Serialize;

use super::machine::Machine;
use crate::objective::Recompute;

/// The size of the largest micro-batch that occurs, and of what is trained.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Packs in a micro-batch.
    pub rows: usize,
    /// Tokens of the longest pack.
    pub length: usize,
    /// Number of trained values.
    pub trained: usize,
    /// Bytes of the optimiser state.
    pub optimizer_bytes: usize,
}

/// An estimate in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// All weights as they are held, adapters included.
    pub weights: u64,
    /// Weights of the second model, a teacher or a reference.
    pub companion: u64,
    /// Gradients of trained values.
    pub gradients: u64,
    /// Optimiser state.
    pub optimizer: u64,
    /// Activations of one micro-batch when all are kept.
    pub activations: u64,
    /// Activations of one micro-batch when blocks are recomputed.
    pub activations_recomputed: u64,
    /// Packs in that micro-batch.
    pub rows: u64,
    /// What the machine has, where the system tells and the run computes on the processor.
    pub machine: Option<Machine>,
}

impl MemoryPlan {
    /// The estimate for `model` doing `work`, on a machine that had so much memory before the model was read.
    pub fn new(model: &Model, work: Work, machine: Option<Machine>) -> Self {
        let config = model.network().config();
        // Values of all stacks: all kept, and recomputed block by block.
        let of_stacks = |values: &dyn Fn(&StackConfig<'_>, u64) -> u64| {
            let tokens = |stack: &StackConfig<'_>| (work.rows * stack.length.unwrap_or(work.length)) as u64;
            config.stacks().iter().map(|stack| tokens(stack) * values(stack, stack.layers as u64)).sum::<u64>()
        };
        let kept = of_stacks(&|stack, layers| layers * stack.block.activations() as u64);
        let again = of_stacks(&|stack, layers| stack.block.activations() as u64 + layers * stack.block.width as u64);
        let float = 4;
        Self {
            weights: model.weight_bytes(),
            companion: 0,
            gradients: work.trained as u64 * float,
            optimizer: work.optimizer_bytes as u64,
            activations: kept * float,
            activations_recomputed: again * float,
            rows: work.rows as u64,
            machine,
        }
    }

    /// The plan with a second model beside the first, whose weights have so many bytes.
    pub fn beside(self, companion: u64) -> Self {
        Self { companion, ..self }
    }

    /// The plan for micro-batches of `rows` packs, or of all there are.
    pub fn with_rows(self, rows: u64) -> Self {
        let (rows, packs) = (rows.min(self.rows), self.rows.max(1));
        let of = |activations: u64| activations / packs * rows;
        Self {
            activations: of(self.activations),
            activations_recomputed: of(self.activations_recomputed),
            rows,
            ..self
        }
    }

    /// The sum of all parts, with or without recomputation.
    pub fn total(&self, recompute: Recompute) -> u64 {
        let activations = match recompute {
            Recompute::Off => self.activations,
            Recompute::Blocks => self.activations_recomputed,
        };
        self.weights + self.companion + self.gradients + self.optimizer + activations
    }

    /// Recomputation, if keeping all activations would take more than 70 % of the free memory.
    pub fn recommended(&self) -> Recompute {
        match self.machine {
            Some(machine) if self.total(Recompute::Off) > machine.free / 10 * 7 => Recompute::Blocks,
            _ => Recompute::Off,
        }
    }
}
