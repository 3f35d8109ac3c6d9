//! The number formats a recipe can name, by role: what is computed with, and what is stored.
//!
//! Two types, because they have different values: every stored format can be read, only some can be computed with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What activations, gradients and trained weights are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    F32,
}

/// What weights are held or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoredDtype {
    F32,
    Bf16,
    F16,
}

/// What a finished model is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WrittenDtype {
    F32,
    Bf16,
    F16,
    /// The linear maps in 4 bits, as bitsandbytes and transformers read them.
    Nf4,
    /// The same with another code.
    Fp4,
}
