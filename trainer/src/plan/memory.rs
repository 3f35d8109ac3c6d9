//! Estimates the memory of a run before it starts: [`MemoryPlan`]. By it [`super::Portions`] are decided, and `check`
//! shows it. Measured peaks are beside it in `docs/performance.md`.
//!
//! Some of what a run needs is there from its first to its last step. The rest is there in one of three moments, of which
//! the largest counts:
//!
//! - The end of a forward pass. All activations of a micro-batch are there, and the logits of a chunk, or a little later
//!   the gradients between the operations of a block.
//! - The end of a backward pass. Activations went, and gradients of what is trained came.
//! - The update, which computes with a few copies of one parameter at a time.

use firebrand_datasets::{Dataset, Example};
use firebrand_models::Model;
use serde::Serialize;

use super::data::Data;
use super::machine::Machine;
use crate::host::held_memory;
use crate::objective::{Recompute, positions_of};
use crate::optim::Parameter;
use crate::recipe::{Method, Recipe};

/// Bytes of a number.
const FLOAT: u64 = 4;
/// Most logits that exist at once (`CHUNK` of the head's operation in `kernels`), and the fewest tokens of a chunk.
const LOGITS: u64 = 1 << 24;
const LEAST_TOKENS: u64 = 256;
/// Copies of a parameter with which an update computes: of its gradient, of each new moment, and of their quotient.
const COPIES: u64 = 3;
/// Panels of a matrix product: those of both operands, and those that each thread packs for itself.
const PANELS: u64 = 2 * (16 << 20);
const PANELS_OF_THREAD: u64 = 1 << 20;

/// What a run works on.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Packs in a step, and in the largest micro-batch that occurs.
    pub step: usize,
    pub rows: usize,
    /// Tokens of the longest pack.
    pub length: usize,
    /// Positions of the largest image, where the model reads images of any size.
    pub positions: Option<usize>,
    /// Whether adapters drop inputs.
    pub drops: bool,
    /// Number of trained values, and of the largest trained tensor.
    pub trained: usize,
    pub largest: usize,
    /// Number of trained values whose gradients come with the loss: those of an output head.
    pub head: usize,
    /// Bytes of the optimiser state.
    pub optimizer_bytes: usize,
    /// Whether a moving average of what is trained is kept.
    pub averaged: bool,
    /// Whether the gradient of each micro-batch is held beside their sum.
    pub measures_noise: bool,
    /// Tokens in the vocabulary of the head; 0 without one.
    pub vocabulary: usize,
}

impl Work {
    /// The work of a recipe's steps, with micro-batches of `train.micro_batch_size` packs.
    pub fn of(recipe: &Recipe, model: &Model, data: &Data) -> Self {
        let packs = &data.train.epoch(recipe.seed, 0).packs;
        let trained = model.trained_parameters();
        let ends = model.ends();
        let is_head = |path: &str| ends.is_some_and(|ends| path == if ends.tied { ends.embedding } else { ends.head });
        let head = trained.iter().filter(|info| info.adapter.is_none() && is_head(&info.path));
        Self {
            step: recipe.train.batch_size.min(packs.len()).max(1),
            rows: recipe.train.micro_batch_size.min(packs.len()).max(1),
            length: packs.lengths().max().unwrap_or(1),
            positions: most_positions(model, &data.train),
            drops: match &recipe.method {
                Method::Lora(lora) | Method::Dora(lora) => lora.dropout > 0.0,
                Method::Full | Method::Ia3(_) => false,
            },
            trained: trained.iter().map(|info| info.elements()).sum(),
            largest: trained.iter().map(|info| info.elements()).max().unwrap_or(0),
            head: head.map(|info| info.elements()).sum(),
            optimizer_bytes: optimizer_bytes(recipe, model),
            averaged: recipe.train.ema.is_some(),
            measures_noise: recipe.log.noise_scale,
            vocabulary: model.vocabulary().unwrap_or(0),
        }
    }
}

/// Positions of the largest image of a dataset; absent where the model reads no images of any size.
fn most_positions(model: &Model, rows: &Dataset) -> Option<usize> {
    let config = model.network().image()?.config();
    let of_row = |example: Example| positions_of(&rows.outline(&example).ok()?, config);
    // A row that cannot be read was refused before.
    rows.examples().filter_map(|example| of_row(example.ok()?)).max()
}

fn optimizer_bytes(recipe: &Recipe, model: &Model) -> usize {
    model
        .trained_parameters()
        .iter()
        .flat_map(|info| recipe.optimizer.quantities(Parameter::of(info)))
        .map(|quantity| quantity.bytes())
        .sum()
}

/// An estimate in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// All weights as they are held, adapters included.
    pub weights: u64,
    /// Weights of the second model, a teacher or a reference.
    pub companion: u64,
    /// Optimiser state.
    pub optimizer: u64,
    /// The moving average of trained values.
    pub average: u64,
    /// The program without a model: its code, the tokenizer, the rows it looked at; and the panels of matrix products.
    pub program: u64,
    /// Gradients of trained values: of the step, and of one micro-batch where these are measured.
    pub gradients: u64,
    /// Activations of one micro-batch when all are kept.
    pub activations: u64,
    /// Activations of one micro-batch when blocks are recomputed: the inputs of all blocks, and those of one block.
    pub activations_recomputed: u64,
    /// Gradients between the operations of one block, of one micro-batch.
    pub passing: u64,
    /// Logits that exist at once.
    pub logits: u64,
    /// The gradient of a trained output head, which comes with the loss, when all activations are there, and its copy.
    pub head: u64,
    /// What an update of the largest trained tensor computes with.
    pub update: u64,
    /// Packs in a step, and in that micro-batch.
    pub step_rows: u64,
    pub rows: u64,
    /// Tokens of the longest of them.
    pub length: u64,
    /// What the machine has, where the system tells and the run computes on the processor.
    pub machine: Option<Machine>,
}

impl MemoryPlan {
    /// The estimate for `model` doing `work`, on a machine that had so much memory before the model was read, by a process
    /// that held `program` bytes then.
    pub fn new(model: &Model, work: Work, machine: Option<Machine>, program: u64) -> Self {
        let stacks = model.kept(work.drops);
        let (mut kept, mut again, mut passing) = (0, 0, 0);
        for stack in &stacks {
            let length = work.positions.or(stack.length).unwrap_or(work.length);
            let tokens = (work.rows * length) as u64;
            let blocks = stack.blocks.iter().filter(|values| **values > 0);
            kept += tokens * blocks.clone().sum::<usize>() as u64;
            let inputs = stack.blocks.len() * stack.width;
            again += tokens * (blocks.max().copied().unwrap_or(0) + inputs) as u64;
            passing = passing.max(tokens * stack.passing as u64);
        }
        let (vocabulary, tokens) = (work.vocabulary as u64, (work.rows * work.length) as u64);
        let logits = (vocabulary * tokens).min(LOGITS.max(vocabulary * LEAST_TOKENS));
        let trained = work.trained as u64 * FLOAT;
        Self {
            weights: model.weight_bytes(),
            companion: 0,
            optimizer: work.optimizer_bytes as u64,
            average: if work.averaged { trained } else { 0 },
            program: program + PANELS + PANELS_OF_THREAD * rayon::current_num_threads() as u64,
            gradients: trained * if work.measures_noise { 2 } else { 1 },
            activations: kept * FLOAT,
            activations_recomputed: again * FLOAT,
            passing: passing * FLOAT,
            logits: logits * FLOAT,
            head: 2 * work.head as u64 * FLOAT,
            update: COPIES * work.largest as u64 * FLOAT,
            step_rows: work.step as u64,
            rows: work.rows as u64,
            length: work.length as u64,
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
            passing: of(self.passing),
            rows,
            ..self
        }
    }

    /// What a run needs at most, with or without recomputation.
    pub fn total(&self, recompute: Recompute) -> u64 {
        let activations = match recompute {
            Recompute::Off => self.activations,
            Recompute::Blocks => self.activations_recomputed,
        };
        // The sum of earlier micro-batches is there while the next one goes.
        let earlier = if self.rows < self.step_rows { self.gradients } else { 0 };
        let of_pass = match recompute {
            Recompute::Off => self.gradients,
            // A block's are added to the sum before the next block's come.
            Recompute::Blocks => 0,
        };
        let forward = activations + self.passing.max(self.logits) + self.head + earlier;
        let backward = if earlier > 0 { earlier + of_pass } else { self.gradients } + self.head;
        let update = self.gradients + self.update;
        let always = self.weights + self.companion + self.optimizer + self.average + self.program;
        always + forward.max(backward).max(update)
    }
}

/// What this process holds, before a model is read; 0 where the system does not tell.
pub(super) fn held_before() -> u64 {
    held_memory().unwrap_or(0)
}
