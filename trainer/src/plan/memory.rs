//! How much memory a run will need, estimated before it starts.
//!
//! An estimate of what dominates (weights, gradients, optimiser state, activations of one micro-batch), made to choose
//! between keeping activations and computing them again, and shown by `check`. Measured numbers are in
//! `docs/performance.md`.

use firebrand_models::CausalLm;
use firebrand_models::parameters::parameters;
use firebrand_models::transformer::MlpConfig;
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
    pub fn new(model: &CausalLm, work: Work) -> Self {
        let config = model.decoder().config();
        let values: usize = parameters(model.decoder()).iter().map(|info| info.shape.iter().product::<usize>()).sum();
        let quantized = model.quantized_weights().iter().map(|weight| weight.bytes() as u64).sum::<u64>();
        let tokens = (work.rows * work.length) as u64;
        let attention = &config.attention;
        let heads = (attention.heads + 2 * attention.kv_heads) * attention.head_dim;
        let mlp = match config.mlp {
            MlpConfig::Gated { intermediate_size, .. } | MlpConfig::GatedFused { intermediate_size, .. } => {
                3 * intermediate_size
            }
            MlpConfig::Plain { intermediate_size, .. } => 2 * intermediate_size,
            MlpConfig::Experts { intermediate_size, chosen, .. } => {
                chosen * (3 * intermediate_size + 2 * config.hidden_size)
            }
        };
        // Per token: the stream before and after each norm, q k v before and after rotation, the mixed heads, the MLP.
        let block = (6 * config.hidden_size + 2 * heads + attention.heads * attention.head_dim + mlp) as u64;
        let layers = config.layers as u64;
        let float = 4;
        Self {
            weights: values as u64 * float + quantized,
            gradients: work.trained as u64 * float,
            optimizer: work.optimizer_bytes as u64,
            activations: tokens * block * layers * float,
            activations_recomputed: tokens * (block + layers * config.hidden_size as u64) * float,
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
