//! [`GatedMlp`]: the gated MLP, by itself or as one of several experts.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode, Place};
use firebrand_kernels::{Activation, gated};

use super::config::BlockInitials;
use super::maps::maps;
use crate::parameters::{ParameterSource, Role, linear_from};

/// `down(activation(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

maps!(GatedMlp { gate, up, down });

impl GatedMlp {
    /// Reads the projections, whose matrices are for `role`; `shape` is that of gate and up, `[intermediate_size, width]`.
    pub(super) fn new(
        shape: [usize; 2],
        activation: Activation,
        bias: bool,
        (role, initials): (Role, BlockInitials),
        source: &mut dyn ParameterSource,
    ) -> Self {
        let mut read = |name: &str, shape, initial| linear_from(source, name, shape, bias, role, initial);
        let [intermediate_size, width] = shape;
        Self {
            gate: read("gate", shape, initials.up),
            up: read("up", shape, initials.up),
            down: read("down", [width, intermediate_size], initials.down),
            activation,
        }
    }

    /// `[batch, time, width]` to the same.
    pub(super) fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        let gate = self.gate.forward(x.clone(), mode);
        let up = self.up.forward(x, mode);
        self.down.forward(gated(gate, up, self.activation), mode)
    }

    /// `[1, tokens, width]` to the same, for the tokens at `places`.
    pub(super) fn forward_at(&self, x: Tensor<3>, mode: Mode, places: &[Place]) -> Tensor<3> {
        let gate = self.gate.forward_at(x.clone(), mode, places);
        let up = self.up.forward_at(x, mode, places);
        self.down.forward_at(gated(gate, up, self.activation), mode, places)
    }
}
