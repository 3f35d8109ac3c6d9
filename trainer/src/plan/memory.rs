//! How much memory a run will need, estimated before it starts.
//!
//! An estimate of what dominates (weights, gradients, optimiser state, activations of one micro-batch), made to choose
//! between keeping activations and computing them again, and shown by `check`. Measured numbers are in
//! `docs/performance.md`.

use firebrand_models::Model;
use firebrand_models::network::StackConfig;
use serde::Serialize;

use crate::objective::Recompute;

/// The work of one micro-batch, and what is trained.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Rows (packs).
    pub rows: usize,
    /// Tokens of the longest row.
    pub length: usize,
    /// Trained values.
    pub trained: usize,
    /// Bytes of what the optimiser keeps.
    pub optimizer_bytes: usize,
}

/// Estimated bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// All weights, adapters included.
    pub weights: u64,
    /// Gradients of trained values.
    pub gradients: u64,
    /// Optimiser state.
    pub optimizer: u64,
    /// Activations of one micro-batch when all are kept.
    pub activations: u64,
    /// Activations of one micro-batch when blocks are computed again.
    pub activations_recomputed: u64,
    /// Memory that is free now, where the system tells.
    pub available: Option<u64>,
}

impl MemoryPlan {
    /// For `model` doing `work`.
    pub fn new(model: &Model, work: Work) -> Self {
        let (base, adapters) = model.parameter_counts();
        let quantized = model.quantized_weights();
        let dense = base + adapters - quantized.iter().map(|weight| weight.len()).sum::<usize>();
        let quantized = quantized.iter().map(|weight| weight.bytes() as u64).sum::<u64>();
        let config = model.network().config();
        // Kept, and computed again block by block: values of the stack that has most.
        let most = |values: &dyn Fn(&StackConfig<'_>, u64) -> u64| {
            let tokens = |stack: &StackConfig<'_>| (work.rows * stack.length.unwrap_or(work.length)) as u64;
            config.stacks().iter().map(|stack| tokens(stack) * values(stack, stack.layers as u64)).max().unwrap_or(0)
        };
        let kept = most(&|stack, layers| layers * stack.block.activations() as u64);
        let again = most(&|stack, layers| stack.block.activations() as u64 + layers * stack.block.width as u64);
        let float = 4;
        Self {
            weights: dense as u64 * float + quantized,
            gradients: work.trained as u64 * float,
            optimizer: work.optimizer_bytes as u64,
            activations: kept * float,
            activations_recomputed: again * float,
            available: available(),
        }
    }

    /// All of it, with the given way of going backward.
    pub fn total(&self, recompute: Recompute) -> u64 {
        let activations = match recompute {
            Recompute::Off => self.activations,
            Recompute::Blocks => self.activations_recomputed,
        };
        self.weights + self.gradients + self.optimizer + activations
    }

    /// Recomputation, when keeping everything would take more than 70 % of the free memory.
    pub fn recommended(&self) -> Recompute {
        match self.available {
            Some(available) if self.total(Recompute::Off) > available / 10 * 7 => Recompute::Blocks,
            _ => Recompute::Off,
        }
    }
}

/// `MemAvailable` of Linux, in bytes.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
