//! Where tokens stand: what every block of one forward pass shares.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_kernels::{RopeStyle, rope};

use super::{Inputs, PositionConfig};
use crate::hf_config::Rope;

/// What the blocks of one forward pass share: rotary tables, segments, and whether it trains.
#[derive(Debug, Clone)]
pub struct Context {
    /// Positions, ready to be applied to q and k.
    pub position: Position,
    /// `[batch, time]`: tokens see their own segment only. Absent: one segment.
    pub segments: Option<Tensor<2, Int>>,
    /// Training or inference.
    pub mode: Mode,
}

/// Positions of one batch, ready to be applied.
#[derive(Debug, Clone)]
pub enum Position {
    /// Cosines and sines `[batch, time, rotated/2]`.
    Rope {
        /// Cosines, the attention factor of the scaling included.
        cos: Tensor<3>,
        /// Sines, likewise.
        sin: Tensor<3>,
        /// Which dimensions form a pair.
        style: RopeStyle,
    },
}

impl Position {
    /// Tables for the positions of `inputs`.
    ///
    /// Scalings that depend on the length of the sequence use the length of each token's own segment, so a row's
    /// numbers do not depend on its neighbours in the batch or pack.
    pub fn new(config: &PositionConfig, inputs: &Inputs, device: &Device) -> Self {
        match config {
            PositionConfig::Rope { style, rope } => {
                let half = rope.dims / 2;
                let count = inputs.positions.len();
                let (mut cos, mut sin) = (Vec::with_capacity(count * half), Vec::with_capacity(count * half));
                let mut frequencies = Frequencies::new(rope);
                for (index, &position) in inputs.positions.iter().enumerate() {
                    let (inverse, factor) = frequencies.at(inputs.segment_length(index));
                    // f32 products and functions, as the reference computes them.
                    for &frequency in inverse {
                        let angle = position as f32 * frequency;
                        cos.push(angle.cos() * factor);
                        sin.push(angle.sin() * factor);
                    }
                }
                let shape = [inputs.batch, inputs.time, half];
                let table = |values| Tensor::from_data(TensorData::new(values, shape), device);
                Self::Rope { cos: table(cos), sin: table(sin), style: *style }
            }
        }
    }

    /// Puts the positions into q or k, `[batch, time, heads, head_dim]`.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Rope { cos, sin, style } => rope(x, cos.clone(), sin.clone(), *style),
        }
    }
}

/// Inverse frequencies by sequence length, computed once a distinct length.
struct Frequencies<'a> {
    rope: &'a Rope,
    known: Vec<(usize, Vec<f32>, f32)>,
}

impl<'a> Frequencies<'a> {
    fn new(rope: &'a Rope) -> Self {
        Self { rope, known: vec![] }
    }

    fn at(&mut self, length: usize) -> (&[f32], f32) {
        let index = self.known.iter().position(|(known, ..)| *known == length).unwrap_or_else(|| {
            let (inverse, factor) = self.rope.inv_freq(length);
            self.known.push((length, inverse, factor));
            self.known.len() - 1
        });
        let (_, inverse, factor) = &self.known[index];
        (inverse, *factor)
    }
}
