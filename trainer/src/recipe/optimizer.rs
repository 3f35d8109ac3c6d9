//! `[optimizer]`: the update rule, with the keys and the arithmetic of its reference implementation.
//!
//! Not here: the separate rate of LoRA's `B` (LoRA+), which is a key of `[adapter]` and goes with every rule.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::inlined::default_kind;

/// The update rule and its numbers, as in `torch.optim` and the packages named below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[schemars(transform = adamw_by_default)]
pub enum Optimizer {
    Adamw(AdamwRecipe),
    #[serde(rename = "adamw-8bit")]
    Adamw8bit(Adamw8bitRecipe),
    Adafactor(AdafactorRecipe),
    Lion(LionRecipe),
    Muon(MuonRecipe),
    Sgd(SgdRecipe),
}

impl Optimizer {
    /// The learning rate of the step with index `step` (0 for the first), before the schedule.
    pub fn learning_rate(&self, step: u64) -> f64 {
        match self {
            Optimizer::Adamw(adamw) => adamw.learning_rate,
            Optimizer::Adamw8bit(adamw) => adamw.learning_rate,
            Optimizer::Adafactor(adafactor) => adafactor.learning_rate.at(step),
            Optimizer::Lion(lion) => lion.learning_rate,
            Optimizer::Muon(muon) => muon.learning_rate,
            Optimizer::Sgd(sgd) => sgd.learning_rate,
        }
    }

    /// Whether its learning rate is a number, and not made from the step.
    pub fn has_fixed_rate(&self) -> bool {
        match self {
            Optimizer::Adafactor(adafactor) => matches!(adafactor.learning_rate, AdafactorRate::Fixed(_)),
            Optimizer::Adamw(_)
            | Optimizer::Adamw8bit(_)
            | Optimizer::Lion(_)
            | Optimizer::Muon(_)
            | Optimizer::Sgd(_) => true,
        }
    }

    /// Whether norms and biases are left out of the decay.
    pub fn no_decay(&self) -> bool {
        match self {
            Optimizer::Adamw(AdamwRecipe { no_decay, .. })
            | Optimizer::Adamw8bit(Adamw8bitRecipe { no_decay, .. })
            | Optimizer::Adafactor(AdafactorRecipe { no_decay, .. })
            | Optimizer::Lion(LionRecipe { no_decay, .. })
            | Optimizer::Muon(MuonRecipe { no_decay, .. })
            | Optimizer::Sgd(SgdRecipe { no_decay, .. }) => *no_decay,
        }
    }

    /// Factor on the learning rate for each step away from the output.
    pub fn layer_decay(&self) -> f64 {
        match self {
            Optimizer::Adamw(AdamwRecipe { layer_decay, .. })
            | Optimizer::Adamw8bit(Adamw8bitRecipe { layer_decay, .. })
            | Optimizer::Adafactor(AdafactorRecipe { layer_decay, .. })
            | Optimizer::Lion(LionRecipe { layer_decay, .. })
            | Optimizer::Muon(MuonRecipe { layer_decay, .. })
            | Optimizer::Sgd(SgdRecipe { layer_decay, .. }) => *layer_decay,
        }
    }

    /// The same rule without weight decay.
    pub fn without_decay(&self) -> Self {
        let mut other = self.clone();
        match &mut other {
            Optimizer::Adamw(adamw) => adamw.weight_decay = 0.0,
            Optimizer::Adamw8bit(adamw) => adamw.weight_decay = 0.0,
            Optimizer::Adafactor(adafactor) => adafactor.weight_decay = 0.0,
            Optimizer::Lion(lion) => lion.weight_decay = 0.0,
            Optimizer::Muon(muon) => (muon.weight_decay, muon.adamw.weight_decay) = (0.0, 0.0),
            Optimizer::Sgd(sgd) => sgd.weight_decay = 0.0,
        }
        other
    }
}

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101): decoupled weight decay, bias-corrected, as `torch.optim.AdamW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamwRecipe {
    /// The highest learning rate, which the schedule scales. 1e-4 to 1e-3 is usual for adapters, 1e-5 to 1e-4 for full
    /// fine-tuning.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-4)]
    pub learning_rate: f64,
    /// How much of the running mean of gradients, and of their squares, each step keeps.
    #[schemars(extend("items" = { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }), extend("examples" = [[0.9, 0.95]]))]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-6)]
    pub eps: f64,
    /// Share of each trained weight removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
}

/// AdamW whose two running means are held in 8 bits, in blocks of 256 (Dettmers et al., arXiv 2110.02861), as
/// `bitsandbytes.optim.AdamW8bit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adamw8bitRecipe {
    /// The highest learning rate, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-4)]
    pub learning_rate: f64,
    /// How much of the running mean of gradients, and of their squares, each step keeps.
    #[schemars(extend("items" = { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }), extend("examples" = [[0.9, 0.95]]))]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-6)]
    pub eps: f64,
    /// Share of each trained weight removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
    /// Tensors with fewer values keep their means in f32.
    #[schemars(range(min = 1), example = 16384)]
    pub min_8bit_size: usize,
}

/// Adafactor (Shazeer and Stern, arXiv 1804.04235): of the squares of a matrix only row and column means are kept, as
/// `transformers.optimization.Adafactor`. Its own clipping comes after that of `train.max_grad_norm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdafactorRecipe {
    /// The highest learning rate, which the schedule scales. Or `"relative"`: the smaller of 0.01 and 1 / sqrt(step)
    /// (`relative_step` of transformers), or `"relative-with-warmup"`: 0.000001 * step in place of 0.01 (`warmup_init`).
    /// Both need a constant schedule without warm-up, and go with `scale_parameter`.
    #[schemars(example = 1e-4)]
    pub learning_rate: AdafactorRate,
    /// Added to the squares of gradients; the least root mean square of a weight under `scale_parameter`.
    #[schemars(extend("items" = { "type": "number", "exclusiveMinimum": 0 }), extend("examples" = [[1e-20, 1e-2]]))]
    pub eps: [f64; 2],
    /// The largest root mean square of an update, before the learning rate.
    #[schemars(extend("exclusiveMinimum" = 0), example = 2.0)]
    pub clip_threshold: f64,
    /// The mean of squares keeps 1 - step ^ this.
    #[schemars(extend("exclusiveMaximum" = 0), example = -0.5)]
    pub decay_rate: f64,
    /// How much of the running mean of updates each step keeps. No such mean is held when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.9)]
    pub beta1: Option<f64>,
    /// Share of each trained weight removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
    /// Whether a tensor's learning rate is multiplied by the root mean square of its values.
    #[schemars(example = true)]
    pub scale_parameter: bool,
}

/// Lion (Chen et al., arXiv 2302.06675): every weight moves by the learning rate, in the direction of a running mean, as
/// the package `lion-pytorch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LionRecipe {
    /// The highest learning rate, which the schedule scales. A third to a tenth of AdamW's is usual.
    #[schemars(extend("exclusiveMinimum" = 0), example = 3e-5)]
    pub learning_rate: f64,
    /// How much of the running mean of gradients the direction takes, and how much of it each step keeps.
    #[schemars(extend("items" = { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }), extend("examples" = [[0.95, 0.98]]))]
    pub betas: [f64; 2],
    /// Share of each trained weight removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.1)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
}

/// Muon (Jordan et al. 2024): the momentum of each matrix inside the layers is made nearly orthogonal, as `torch.optim.Muon`
/// does it, but in f32. Everything else that is trained (norms, biases, embeddings, output head) goes by AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MuonRecipe {
    /// The highest learning rate of the matrices, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.02)]
    pub learning_rate: f64,
    /// How much of the running mean of gradients each step keeps.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.9)]
    pub momentum: f64,
    /// Nesterov's look-ahead.
    #[schemars(example = false)]
    pub nesterov: bool,
    /// Share of each matrix removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.1)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
    /// Newton-Schulz steps towards an orthogonal matrix.
    #[schemars(range(min = 1, max = 99), example = 6)]
    pub ns_steps: usize,
    /// What a matrix `[rows, columns]` multiplies the learning rate by. `original`: the root of rows / columns, at least 1.
    /// `match-rms-adamw`: 0.2 times the root of the longer side, so that learning rates of AdamW fit.
    #[schemars(example = MuonAdjustment::MatchRmsAdamw)]
    pub adjust_lr_fn: MuonAdjustment,
    /// AdamW for everything that is no matrix inside the layers; the schedule scales its learning rate too.
    pub adamw: MuonAdamwRecipe,
}

/// AdamW beside Muon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MuonAdamwRecipe {
    /// The highest learning rate, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-4)]
    pub learning_rate: f64,
    /// How much of the running mean of gradients, and of their squares, each step keeps.
    #[schemars(extend("items" = { "type": "number", "minimum": 0, "exclusiveMaximum": 1 }), extend("examples" = [[0.9, 0.95]]))]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-6)]
    pub eps: f64,
    /// Share of each trained weight removed per step, times the learning rate.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
}

/// Stochastic gradient descent, as `torch.optim.SGD` without dampening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdRecipe {
    /// The highest learning rate, which the schedule scales.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.01)]
    pub learning_rate: f64,
    /// How much of the running sum of gradients each step keeps; 0 keeps none.
    #[schemars(range(min = 0), example = 0.9)]
    pub momentum: f64,
    /// Nesterov's look-ahead. Needs a momentum above 0.
    #[schemars(example = true)]
    pub nesterov: bool,
    /// Added to the gradient: this times the weight.
    #[schemars(range(min = 0), example = 0.01)]
    pub weight_decay: f64,
    /// Whether norms and biases are left out of the decay, as transformers' Trainer does.
    #[schemars(example = true)]
    pub no_decay: bool,
    /// Factor on the learning rate for each step away from the output: what follows the blocks has the full rate, the last block
    /// this part of it, the one before it this part of that, and so on down to the embeddings. 0.65 to 0.95 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.8)]
    pub layer_decay: f64,
}

/// Adafactor's learning rate: a number, or made from the number of the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AdafactorRate {
    Fixed(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    Relative(RelativeRate),
}

/// How Adafactor makes a learning rate from the number of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum RelativeRate {
    Relative,
    RelativeWithWarmup,
}

impl AdafactorRate {
    /// The rate of the step with index `step`, 0 for the first.
    pub fn at(self, step: u64) -> f64 {
        let number = (step + 1) as f64;
        match self {
            AdafactorRate::Fixed(rate) => rate,
            AdafactorRate::Relative(RelativeRate::Relative) => f64::min(1e-2, 1.0 / number.sqrt()),
            AdafactorRate::Relative(RelativeRate::RelativeWithWarmup) => f64::min(1e-6 * number, 1.0 / number.sqrt()),
        }
    }
}

/// How Muon's learning rate depends on the shape of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum MuonAdjustment {
    Original,
    MatchRmsAdamw,
}

fn adamw_by_default(schema: &mut Schema) {
    default_kind(schema, "adamw");
}
