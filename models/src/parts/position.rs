//! [`Context`] and [`Position`]: what all blocks of one forward pass share.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_kernels::{RopeStyle, rope};

use super::config::PositionConfig;
use super::inputs::Inputs;
use super::routing::Routing;
use crate::hf_config::Rope;

/// What the blocks of one forward pass share: rotary tables, segments, and the mode.
#[derive(Debug, Clone)]
pub struct Context {
    /// Rotary tables, ready to be applied to q and k.
    pub position: Position,
    /// Segments of the queries and of the keys, each `[batch, time]`: tokens see only their own segment. Absent: one
    /// segment.
    pub segments: Option<(Tensor<2, Int>, Tensor<2, Int>)>,
    /// Training or inference.
    pub mode: Mode,
    /// Where routers store their results; absent: they are not needed.
    pub routing: Option<Routing>,
}

/// Rotary tables of one batch. Empty where positions enter elsewhere.
#[derive(Debug, Clone)]
pub struct Position {
    tables: Vec<RotaryTable>,
    style: RopeStyle,
}

/// Cosines and sines, `[batch, time, rotated/2]`, multiplied by the attention factor of the scaling.
#[derive(Debug, Clone)]
struct RotaryTable {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Position {
    /// Tables for the positions of `inputs`.
    ///
    /// Scalings that depend on the length of the sequence use the length of each token's own segment, so the values of
    /// an example do not depend on the others in its batch or pack.
    pub fn new(config: &PositionConfig, inputs: &Inputs, device: &Device) -> Self {
        let (style, ropes) = match config {
            PositionConfig::Rope { style, rope } => (*style, std::slice::from_ref(rope)),
            PositionConfig::RopeByLayer { ropes, .. } => (RopeStyle::Half, ropes.as_slice()),
            PositionConfig::Learned { .. } | PositionConfig::Alibi(_) => (RopeStyle::Half, [].as_slice()),
        };
        Self { tables: ropes.iter().map(|rope| RotaryTable::new(rope, inputs, device)).collect(), style }
    }

    /// For a network with learned positions: no tables.
    pub fn learned() -> Self {
        Self { tables: vec![], style: RopeStyle::Half }
    }

    /// Rotates q or k, `[batch, time, heads, head_dim]`, by the table of that index.
    pub fn apply(&self, x: Tensor<4>, table: Option<usize>) -> Tensor<4> {
        match table.and_then(|table| self.tables.get(table)) {
            Some(RotaryTable { cos, sin }) => rope(x, cos.clone(), sin.clone(), self.style),
            None => x,
        }
    }
}

impl RotaryTable {
    fn new(rope: &Rope, inputs: &Inputs, device: &Device) -> Self {
        let half = rope.dims / 2;
        let count = inputs.positions.len();
        let (mut cos, mut sin) = (Vec::with_capacity(count * half), Vec::with_capacity(count * half));
        let mut frequencies = Frequencies::new(rope);
        for (index, &position) in inputs.positions.iter().enumerate() {
            let (inverse, factor) = frequencies.at(inputs.segment_length(index));
            // Products and functions in f32, as in the reference.
            for &frequency in inverse {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * factor);
                sin.push(angle.sin() * factor);
            }
        }
        let shape = [inputs.batch, inputs.time, half];
        let table = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Self { cos: table(cos), sin: table(sin) }
    }
}

/// Inverse frequencies by sequence length, computed once per distinct length.
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
