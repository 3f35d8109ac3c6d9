//! `[optimizer]`: the update rule, with the keys and the arithmetic of `torch.optim`.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::schema;

/// The update rule and its numbers, as in `torch.optim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[schemars(transform = adamw_by_default)]
pub enum Optimizer {
    Adamw(AdamwRecipe),
    Sgd(SgdRecipe),
}

impl Optimizer {
    /// The learning rate at the top of the schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Optimizer::Adamw(adamw) => adamw.learning_rate,
            Optimizer::Sgd(sgd) => sgd.learning_rate,
        }
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
}

fn adamw_by_default(schema: &mut Schema) {
    schema::default_kind(schema, "adamw");
}
