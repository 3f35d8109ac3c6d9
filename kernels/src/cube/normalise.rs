//! RMSNorm and LayerNorm, forward and backward: a cube a row.
//!
//! Both are one formula, `(x - mean) * rsqrt(mean((x - mean)^2) + eps) * factor + bias`, where RMSNorm has no mean and no bias. The
//! backward pass computes mean and scale of a row again, and keeps the input alone.

use burn::backend::{
    Autodiff,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{UNITS, add_up, cubes, dense, units, unwritten};
use crate::{layer_norm::LayerNormBackend, rms_norm::RmsNormBackend};

/// Rows whose part of a weight's gradient is added by one unit.
const ROWS: usize = 64;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Rms,
    Layer,
}

/// Mean and scale of a row.
#[cube]
fn statistics(
    x: &[f32],
    first: usize,
    width: usize,
    eps: f32,
    #[comptime] kind: Kind,
    #[comptime] units: usize,
) -> (f32, f32) {
    let unit = UNIT_POS as usize;
    let count = f32::cast_from(width as u32);
    let mut mean = 0.0f32;
    if comptime!(kind == Kind::Layer) {
        let mut sum = 0.0f32;
        let mut at = unit;
        while at < width {
            sum += x[first + at];
            at += units;
        }
        mean = add_up(sum, units) / count;
    }
    let mut squares = 0.0f32;
    let mut at = unit;
    while at < width {
        let centred = x[first + at] - mean;
        squares += centred * centred;
        at += units;
    }
    let scale = 1.0f32 / (add_up(squares, units) / count + eps).sqrt();
    (mean, scale)
}

#[cube(launch)]
fn forward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    out: &mut [f32],
    eps: f32,
    offset: f32,
    rows: u32,
    #[comptime] kind: Kind,
    #[comptime] units: usize,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let width = weight.len();
    let first = row * width;
    let (mean, scale) = statistics(x, first, width, eps, kind, units);
    let mut at = UNIT_POS as usize;
    while at < width {
        let mut value = (x[first + at] - mean) * scale * (weight[at] + offset);
        if comptime!(kind == Kind::Layer) {
            value += bias[at];
        }
        out[first + at] = value;
        at += units;
    }
}

/// The gradient of the input; `statistics_of` gets mean and scale of each row.
#[cube(launch)]
fn backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    d_x: &mut [f32],
    statistics_of: &mut [f32],
    eps: f32,
    offset: f32,
    rows: u32,
    #[comptime] kind: Kind,
    #[comptime] units: usize,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let width = weight.len();
    let first = row * width;
    let count = f32::cast_from(width as u32);
    let (mean, scale) = statistics(x, first, width, eps, kind, units);
    let mut along = 0.0f32;
    let mut level = 0.0f32;
    let mut at = unit;
    while at < width {
        let pull = grad[first + at] * (weight[at] + offset);
        along += pull * (x[first + at] - mean) * scale;
        level += pull;
        at += units;
    }
    let along = add_up(along, units) / count;
    let mut middle = 0.0f32;
    if comptime!(kind == Kind::Layer) {
        middle = add_up(level, units) / count;
    }
    let mut at = unit;
    while at < width {
        let pull = grad[first + at] * (weight[at] + offset);
        let normal = (x[first + at] - mean) * scale;
        d_x[first + at] = scale * (pull - middle - normal * along);
        at += units;
    }
    if unit == 0 {
        statistics_of[2 * row] = mean;
        statistics_of[2 * row + 1] = scale;
    }
}

/// What some rows add to the gradients of weight and bias: a unit a column, and a part of the rows.
#[cube(launch)]
fn of_weights(
    x: &[f32],
    grad: &[f32],
    statistics_of: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    width: u32,
    rows: u32,
    #[comptime] most: usize,
) {
    let at = ABSOLUTE_POS;
    if at >= d_weight.len() {
        terminate!();
    }
    let width = width as usize;
    let column = at % width;
    let mut row = at / width * most;
    let end = min(row + most, rows as usize);
    let mut weight = 0.0f32;
    let mut bias = 0.0f32;
    while row < end {
        let place = row * width + column;
        let normal = (x[place] - statistics_of[2 * row]) * statistics_of[2 * row + 1];
        weight += grad[place] * normal;
        bias += grad[place];
        row += 1;
    }
    d_weight[at] = weight;
    d_bias[at] = bias;
}

/// Adds the rows of a matrix: a unit a column.
#[cube(launch)]
fn add_rows(parts: &[f32], out: &mut [f32]) {
    let column = ABSOLUTE_POS;
    if column >= out.len() {
        terminate!();
    }
    let width = out.len();
    let mut sum = 0.0f32;
    let mut at = column;
    while at < parts.len() {
        sum += parts[at];
        at += width;
    }
    out[column] = sum;
}

/// One normalisation of all rows of a tensor.
#[derive(Clone, Debug)]
struct Normalisation {
    x: CubeTensor,
    weight: CubeTensor,
    /// The weight itself where there is none: kernels have the same arguments always.
    bias: CubeTensor,
    eps: f32,
    offset: f32,
    kind: Kind,
}

impl Normalisation {
    fn rms(x: CubeTensor, weight: CubeTensor, eps: f64, offset: f64) -> Self {
        let (x, weight) = (dense(x), dense(weight));
        Self { x, bias: weight.clone(), weight, eps: eps as f32, offset: offset as f32, kind: Kind::Rms }
    }

    fn layer(x: CubeTensor, weight: CubeTensor, bias: CubeTensor, eps: f64) -> Self {
        let [x, weight, bias] = [x, weight, bias].map(dense);
        Self { x, weight, bias, eps: eps as f32, offset: 0.0, kind: Kind::Layer }
    }

    fn width(&self) -> usize {
        self.weight.meta.num_elements()
    }

    fn rows(&self) -> usize {
        self.x.meta.num_elements() / self.width().max(1)
    }

    fn apply(&self) -> CubeTensor {
        let out = unwritten(&self.x, self.x.meta.shape().clone());
        if self.x.meta.num_elements() > 0 {
            forward::launch(
                &self.x.client,
                cubes(self.rows()),
                CubeDim::new_1d(UNITS as u32),
                self.x.clone().into_buffer_arg(),
                self.weight.clone().into_buffer_arg(),
                self.bias.clone().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                self.eps,
                self.offset,
                self.rows() as u32,
                self.kind,
                UNITS,
            );
        }
        out
    }

    /// Gradients of the input and, if they are wanted, of weight and bias.
    fn derive(self, grad: CubeTensor, of_weights_too: bool) -> (CubeTensor, Option<[CubeTensor; 2]>) {
        let grad = dense(grad);
        let (rows, width, client) = (self.rows(), self.width(), self.x.client.clone());
        let d_x = unwritten(&self.x, self.x.meta.shape().clone());
        let statistics_of = unwritten(&self.x, [2 * rows]);
        if d_x.meta.num_elements() == 0 {
            let zeros = || {
                burn_cubecl::ops::numeric::zeros_client(
                    client.clone(),
                    self.x.device.clone(),
                    [width].into(),
                    burn::tensor::DType::F32,
                )
            };
            return (d_x, of_weights_too.then(|| [zeros(), zeros()]));
        }
        backward::launch(
            &client,
            cubes(rows),
            CubeDim::new_1d(UNITS as u32),
            self.x.clone().into_buffer_arg(),
            self.weight.clone().into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            d_x.clone().into_buffer_arg(),
            statistics_of.clone().into_buffer_arg(),
            self.eps,
            self.offset,
            rows as u32,
            self.kind,
            UNITS,
        );
        let weights = of_weights_too.then(|| {
            let parts = rows.div_ceil(ROWS);
            let [weight_parts, bias_parts] = [(); 2].map(|()| unwritten(&self.x, [parts * width]));
            let (count, dim) = units(parts * width);
            of_weights::launch(
                &client,
                count,
                dim,
                self.x.clone().into_buffer_arg(),
                grad.into_buffer_arg(),
                statistics_of.into_buffer_arg(),
                weight_parts.clone().into_buffer_arg(),
                bias_parts.clone().into_buffer_arg(),
                width as u32,
                rows as u32,
                ROWS,
            );
            [weight_parts, bias_parts].map(|parts| {
                let out = unwritten(&self.x, [width]);
                let (count, dim) = units(width);
                add_rows::launch(&client, count, dim, parts.into_buffer_arg(), out.clone().into_buffer_arg());
                out
            })
        });
        (d_x, weights)
    }
}

impl RmsNormBackend for CubeBackend {
    fn fused_rms_norm(x: CubeTensor, weight: CubeTensor, eps: f64, offset: f64) -> CubeTensor {
        Normalisation::rms(x, weight, eps, offset).apply()
    }
}

impl LayerNormBackend for CubeBackend {
    fn fused_layer_norm(x: CubeTensor, weight: CubeTensor, bias: CubeTensor, eps: f64) -> CubeTensor {
        Normalisation::layer(x, weight, bias, eps).apply()
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl Backward<CubeBackend, 2> for RmsNormBackward {
    type State = Normalisation;

    fn backward(self, ops: Ops<Normalisation, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let grad = grads.consume::<CubeBackend>(&ops.node);
        let (d_x, weights) = ops.state.derive(grad, weight_node.is_some());
        if let Some(node) = x_node {
            grads.register::<CubeBackend>(node.id, d_x);
        }
        if let (Some(node), Some([d_weight, _])) = (weight_node, weights) {
            grads.register::<CubeBackend>(node.id, d_weight);
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl Backward<CubeBackend, 3> for LayerNormBackward {
    type State = Normalisation;

    fn backward(self, ops: Ops<Normalisation, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node, bias_node] = ops.parents;
        let grad = grads.consume::<CubeBackend>(&ops.node);
        let (d_x, weights) = ops.state.derive(grad, weight_node.is_some() || bias_node.is_some());
        if let Some(node) = x_node {
            grads.register::<CubeBackend>(node.id, d_x);
        }
        let [d_weight, d_bias] = weights.map_or([None, None], |weights| weights.map(Some));
        for (node, derivative) in [(weight_node, d_weight), (bias_node, d_bias)] {
            if let (Some(node), Some(derivative)) = (node, derivative) {
                grads.register::<CubeBackend>(node.id, derivative);
            }
        }
    }
}

impl<C: CheckpointStrategy> RmsNormBackend for Autodiff<CubeBackend, C> {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64, offset: f64) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let normalisation = Normalisation::rms(x, weight, eps, offset);
        let out = normalisation.apply();
        match RmsNormBackward.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(normalisation, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

impl<C: CheckpointStrategy> LayerNormBackend for Autodiff<CubeBackend, C> {
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let [(x, x_node), (weight, weight_node), (bias, bias_node)] = [x, weight, bias].map(|input| input.into_parts());
        let normalisation = Normalisation::layer(x, weight, bias, eps);
        let out = normalisation.apply();
        match LayerNormBackward.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(normalisation, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
