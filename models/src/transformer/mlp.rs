//! Feed-forward parts.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{Activation, gated};

use super::MlpConfig;
use crate::parameters::{ParameterSource, linear};

/// The feed-forward part of a block.
#[derive(Module, Debug)]
pub enum Mlp {
    /// Gated (SwiGLU and relatives; Shazeer 2020, arXiv:2002.05202).
    Gated(GatedMlp),
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Reads the projections under `path` for a residual stream of `width`.
    pub fn new(config: MlpConfig, width: usize, path: &str, source: &mut dyn ParameterSource) -> Self {
        match config {
            MlpConfig::Gated { intermediate_size, activation, bias } => {
                let mut read = |name: &str, shape| linear(source, &format!("{path}.{name}"), shape, bias);
                Self::Gated(GatedMlp {
                    gate: read("gate", [intermediate_size, width]),
                    up: read("up", [intermediate_size, width]),
                    down: read("down", [width, intermediate_size]),
                    activation,
                })
            }
        }
    }

    /// `[batch, time, width]` to the same.
    pub fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        match self {
            Self::Gated(mlp) => {
                let gate = mlp.gate.forward(x.clone(), mode);
                let up = mlp.up.forward(x, mode);
                mlp.down.forward(gated(gate, up, mlp.activation), mode)
            }
        }
    }

    /// The linear maps with their names below the MLP.
    pub(super) fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        match self {
            Self::Gated(mlp) => vec![("gate", &mut mlp.gate), ("up", &mut mlp.up), ("down", &mut mlp.down)],
        }
    }
}
