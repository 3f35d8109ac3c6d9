//! [`Mlp`]: the feed-forward part of a block, in its variants.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Linear;
use firebrand_kernels::{Activation, activate, gated, split_columns};

use super::config::{BlockInitials, MlpConfig};
use super::experts::Experts;
use super::gated::GatedMlp;
use super::maps::maps;
use super::position::Context;
use crate::parameters::{ParameterSource, Role, linear_from};

/// The feed-forward part of a block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a layer, and handles to tensors: hundreds of bytes are nothing")]
pub enum Mlp {
    /// Gated (SwiGLU and relatives; Shazeer 2020, arXiv:2002.05202).
    Gated(GatedMlp),
    /// Gated, with gate and up in one matrix.
    GatedFused(FusedGatedMlp),
    /// Two matrices without a gate.
    Plain(PlainMlp),
    /// Several gated MLPs and a router.
    Experts(Experts),
}

/// The same with gate and up in one matrix.
#[derive(Module, Debug)]
pub struct FusedGatedMlp {
    gate_up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

/// `down(activation(up(x)))`.
#[derive(Module, Debug)]
pub struct PlainMlp {
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Reads the matrices for a residual stream of `width`.
    pub fn new(config: MlpConfig, width: usize, initials: BlockInitials, source: &mut dyn ParameterSource) -> Self {
        let BlockInitials { up, down, .. } = initials;
        let mut read = |name: &str, shape, bias, initial| linear_from(source, name, shape, bias, Role::Map, initial);
        match config {
            MlpConfig::Gated { intermediate_size, activation, bias } => {
                Self::Gated(GatedMlp::new([intermediate_size, width], activation, bias, (Role::Map, initials), source))
            }
            MlpConfig::GatedFused { intermediate_size, activation, bias } => Self::GatedFused(FusedGatedMlp {
                gate_up: read("gate_up", [2 * intermediate_size, width], bias, up),
                down: read("down", [width, intermediate_size], bias, down),
                activation,
            }),
            MlpConfig::Plain { intermediate_size, activation, bias } => Self::Plain(PlainMlp {
                up: read("up", [intermediate_size, width], bias, up),
                down: read("down", [width, intermediate_size], bias, down),
                activation,
            }),
            MlpConfig::Experts { intermediate_size, activation, experts, chosen } => {
                let expert = |source: &mut dyn ParameterSource| {
                    GatedMlp::new([intermediate_size, width], activation, false, (Role::ExpertMap, initials), source)
                };
                Self::Experts(Experts::new(experts, chosen, width, expert, source))
            }
        }
    }

    /// `[batch, time, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let mode = context.mode;
        match self {
            Self::Gated(mlp) => mlp.forward(x, mode),
            Self::GatedFused(mlp) => {
                let both = mlp.gate_up.forward(x, mode);
                let [batch, time, width] = both.dims();
                let halves = split_columns(both.reshape([batch * time, width]), &[width / 2; 2]);
                let mut halves = halves.into_iter().map(|half| half.reshape([batch, time, width / 2]));
                let (Some(gate), Some(up)) = (halves.next(), halves.next()) else { unreachable!("two halves") };
                mlp.down.forward(gated(gate, up, mlp.activation), mode)
            }
            Self::Plain(mlp) => mlp.down.forward(activate(mlp.up.forward(x, mode), mlp.activation), mode),
            Self::Experts(experts) => experts.forward(x, context),
        }
    }
}

maps!(
    enum Mlp {
        Gated,
        GatedFused,
        Plain,
        Experts,
    }
);
maps!(FusedGatedMlp { gate_up, down });
maps!(PlainMlp { up, down });
