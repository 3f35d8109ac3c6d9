//! The methods, as one sum type.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::{Lora, LoraConfig, Mode, Place};

/// What is added to one linear map. A variant is a file of its own.
#[derive(Module, Debug)]
pub enum Adapter {
    /// Low-rank additive update.
    Lora(Lora),
}

/// How the adapters of a run are made.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterConfig {
    /// Low-rank additive updates.
    Lora(LoraConfig),
}

impl Adapter {
    /// The term added to `base(x)`; `x` is `[batch, time, in]`, the result `[batch, time, out]`. For `places` see
    /// [`crate::Linear::forward_at`].
    pub fn forward(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>) -> Tensor<3> {
        match self {
            Self::Lora(lora) => lora.forward(x, mode, places),
        }
    }

    /// The dense matrix `[out, in]` that, added to the base weight, has the same effect in inference.
    pub fn delta(&self) -> Tensor<2> {
        match self {
            Self::Lora(lora) => lora.delta(),
        }
    }
}
