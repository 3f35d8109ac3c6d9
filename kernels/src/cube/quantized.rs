//! The product with a quantized weight: its codes become numbers in shared memory, tile by tile. The dense weight never exists, and its
//! packed form is copied to a device once.
//!
//! A cube of 16 x 16 units has 64 rows and 64 columns of the output, and passes over the inner size 16 numbers at a time, in order.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::{FloatTensorOps, IntTensorOps},
        tensor::FloatTensor,
    },
    tensor::TensorData,
};
use burn_cubecl::{
    CubeBackend, CubeDevice,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{dense, unwritten};
use crate::{
    frozen_matmul::FrozenMatmulBackend,
    precision::Precision,
    quantized::{DoubleScales, QuantizationScheme, QuantizedWeight, Scales},
};

/// Units of a cube along each side.
const SIDE: usize = 16;
/// Rows and columns of a tile, and inner numbers that pass at once.
const TILE: usize = 64;
const STEP: usize = 16;
/// Words between the inner numbers of a shared tile: one more than a tile has, so that columns fall in different banks.
const PITCH: usize = TILE + 1;
/// Numbers that a unit has along each side.
const OWN: usize = TILE / SIDE;
/// Numbers of the map of quantized scales.
const MAP: usize = 256;

/// How a weight lies, as kernels are compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// Four bits a code, the first of a byte in its high half, or eight.
    four_bit: bool,
    /// Numbers a scale.
    block: usize,
    /// Codes a scale of scales; none where scales are as they are.
    nested: Option<usize>,
    /// Inner numbers are those of a column of the weight: the product with the weight, not with its transpose.
    along_columns: bool,
    /// A number a column is added.
    biased: bool,
}

/// The number of a weight at a place in row-major order.
#[cube]
fn number(words: &[u32], numbers: &[f32], at: usize, scale_codes: usize, #[comptime] form: Form) -> f32 {
    let book = if comptime!(form.four_bit) { 16usize } else { 256usize };
    let code = if comptime!(form.four_bit) {
        let shift = (at as u32 / 2 % 4) * 8 + (1 - at as u32 % 2) * 4;
        (words[at / 8] >> shift) & 15
    } else {
        (words[at / 4] >> (at as u32 % 4 * 8)) & 255
    };
    let block = at / form.block;
    let scale = match comptime!(form.nested) {
        None => numbers[book + block],
        Some(nested) => {
            let of_scale = (words[scale_codes + block / 4] >> (block as u32 % 4 * 8)) & 255;
            numbers[book + of_scale as usize] * numbers[book + MAP + 1 + block / nested] + numbers[book + MAP]
        }
    };
    numbers[code as usize] * scale
}

/// `out = x W^T`, or `x W` along columns. `words` has the codes and, from `scale_codes` on, those of scales; `numbers` what codes stand
/// for, then the scales, or map, offset and scales of scales.
#[cube(launch)]
fn product(
    x: &[f32],
    words: &[u32],
    numbers: &[f32],
    bias: &[f32],
    out: &mut [f32],
    inner: u32,
    columns: u32,
    scale_codes: u32,
    #[comptime] form: Form,
) {
    let (inner, columns, scale_codes) = (inner as usize, columns as usize, scale_codes as usize);
    let rows = out.len() / columns;
    let (unit, unit_x, unit_y) = (UNIT_POS as usize, UNIT_POS_X as usize, UNIT_POS_Y as usize);
    let (first_column, first_row) = (CUBE_POS_X as usize * TILE, CUBE_POS_Y as usize * TILE);
    let mut left = Shared::new_slice(comptime!(STEP * PITCH));
    let mut right = Shared::new_slice(comptime!(STEP * PITCH));
    let mut sums = Array::<f32>::new(comptime!(OWN * OWN));
    #[unroll]
    for at in 0..comptime!(OWN * OWN) {
        sums[at] = 0.0f32;
    }
    let mut start = 0usize;
    while start < inner {
        #[unroll]
        for step in 0..comptime!(TILE * STEP / (SIDE * SIDE)) {
            let at = unit + comptime!(step * SIDE * SIDE);
            let (line, depth) = (at / STEP, at % STEP);
            let mut value = 0.0f32;
            if first_row + line < rows && start + depth < inner {
                value = x[(first_row + line) * inner + start + depth];
            }
            left[depth * PITCH + line] = value;
            let mut value = 0.0f32;
            if comptime!(form.along_columns) {
                let (line, depth) = (at % TILE, at / TILE);
                if first_column + line < columns && start + depth < inner {
                    let place = (start + depth) * columns + first_column + line;
                    value = number(words, numbers, place, scale_codes, form);
                }
                right[depth * PITCH + line] = value;
            } else {
                if first_column + line < columns && start + depth < inner {
                    let place = (first_column + line) * inner + start + depth;
                    value = number(words, numbers, place, scale_codes, form);
                }
                right[depth * PITCH + line] = value;
            }
        }
        sync_cube();
        for depth in 0..STEP {
            let mut of_row = Array::<f32>::new(OWN);
            #[unroll]
            for i in 0..OWN {
                of_row[i] = left[depth * PITCH + unit_y + comptime!(i * SIDE)];
            }
            #[unroll]
            for j in 0..OWN {
                let of_column = right[depth * PITCH + unit_x + comptime!(j * SIDE)];
                #[unroll]
                for i in 0..OWN {
                    sums[comptime!(i * OWN + j)] += of_row[i] * of_column;
                }
            }
        }
        sync_cube();
        start += STEP;
    }
    #[unroll]
    for i in 0..OWN {
        #[unroll]
        for j in 0..OWN {
            let (row, column) = (first_row + unit_y + comptime!(i * SIDE), first_column + unit_x + comptime!(j * SIDE));
            if row < rows && column < columns {
                let mut sum = sums[comptime!(i * OWN + j)];
                if comptime!(form.biased) {
                    sum += bias[column];
                }
                out[row * columns + column] = sum;
            }
        }
    }
}

/// A weight as a device has it.
#[derive(Clone, Debug)]
struct Copied {
    words: CubeTensor,
    numbers: CubeTensor,
    /// The first word of the codes of scales.
    scale_codes: usize,
}

impl Copied {
    fn new(weight: &QuantizedWeight, device: &CubeDevice) -> Self {
        let mut words = words_of(weight.codes());
        let scale_codes = words.len();
        let mut numbers = match weight.scheme() {
            QuantizationScheme::FourBit { code, .. } => code.values().to_vec(),
            QuantizationScheme::Int8 { .. } => DoubleScales::map().to_vec(),
        };
        match weight.scales() {
            Scales::Plain(scales) => numbers.extend(scales),
            Scales::Double(DoubleScales { codes, absmax, map, offset }) => {
                words.extend(words_of(codes));
                numbers.extend(map.iter().chain([offset]).chain(absmax));
            }
        }
        let (of_words, of_numbers) = ([words.len()], [numbers.len()]);
        Self {
            words: CubeBackend::int_from_data(TensorData::new(words, of_words), device),
            numbers: CubeBackend::float_from_data(TensorData::new(numbers, of_numbers), device),
            scale_codes,
        }
    }
}

/// Bytes as words, the first in the lowest place, with zeros behind them.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks(4).map(word).collect()
}

/// What devices have of a weight.
#[derive(Default)]
pub(crate) struct Copies(Mutex<Vec<(CubeDevice, Copied)>>);

impl Copies {
    fn on(&self, weight: &QuantizedWeight, device: &CubeDevice) -> Copied {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, copied)) = copies.iter().find(|(on, _)| on == device) {
            return copied.clone();
        }
        let copied = Copied::new(weight, device);
        copies.push((device.clone(), copied.clone()));
        copied
    }
}

/// `x W^T`, or `x W`, and a bias unless it has no numbers.
fn multiply(x: CubeTensor, weight: &QuantizedWeight, bias: Option<CubeTensor>, along_columns: bool) -> CubeTensor {
    let x = dense(x);
    let bias = bias.filter(|bias| bias.meta.num_elements() > 0);
    let [outputs, inputs] = weight.shape();
    let (inner, columns) = if along_columns { (outputs, inputs) } else { (inputs, outputs) };
    let mut shape = x.meta.shape().clone();
    let last = shape.num_dims() - 1;
    let rows = x.meta.num_elements() / inner.max(1);
    shape[last] = columns;
    let out = unwritten(&x, shape);
    if rows * columns == 0 {
        return out;
    }
    let Copied { words, numbers, scale_codes } = weight.copies().on(weight, &x.device);
    let form = Form {
        four_bit: matches!(weight.scheme(), QuantizationScheme::FourBit { .. }),
        block: weight.scheme().block(),
        nested: match weight.scales() {
            Scales::Plain(_) => None,
            Scales::Double(_) => Some(crate::quantized::NESTED_BLOCK),
        },
        along_columns,
        biased: bias.is_some(),
    };
    let bias = bias.map_or_else(|| numbers.clone(), dense);
    product::launch(
        &out.client,
        CubeCount::Static(columns.div_ceil(TILE) as u32, rows.div_ceil(TILE) as u32, 1),
        CubeDim::new_2d(SIDE as u32, SIDE as u32),
        x.into_buffer_arg(),
        words.into_buffer_arg(),
        numbers.into_buffer_arg(),
        bias.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        inner as u32,
        columns as u32,
        scale_codes as u32,
        form,
    );
    out
}

impl FrozenMatmulBackend for CubeBackend {
    fn fused_frozen_matmul(x: CubeTensor, weight: Arc<QuantizedWeight>, bias: CubeTensor, _: Precision) -> CubeTensor {
        multiply(x, &weight, Some(bias), false)
    }
}

#[derive(Debug)]
struct FrozenMatmulBackward;

impl Backward<CubeBackend, 1> for FrozenMatmulBackward {
    type State = Arc<QuantizedWeight>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = node {
            grads.register::<CubeBackend>(node.id, multiply(grad, &ops.state, None, true));
        }
    }
}

impl<C: CheckpointStrategy> FrozenMatmulBackend for Autodiff<CubeBackend, C> {
    fn fused_frozen_matmul(
        x: FloatTensor<Self>,
        weight: Arc<QuantizedWeight>,
        bias: FloatTensor<Self>,
        _: Precision,
    ) -> FloatTensor<Self> {
        assert!(!bias.is_tracked(), "a bias that learns is added by an operation of its own");
        let (x, node) = x.into_parts();
        let out = multiply(x, &weight, Some(bias.into_primitive()), false);
        match FrozenMatmulBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
