//! Adapters as dense matrices: [`low_rank_delta`].

use burn::tensor::Tensor;
use firebrand_kernels::{Precision, multiply};

/// `scale * B A` as `[out, in]`, for `a [rank, in]` and `b [out, rank]`, in f32.
pub fn low_rank_delta(a: Tensor<2>, b: Tensor<2>, scale: f64) -> Tensor<2> {
    multiply(b, a, Precision::F32) * scale
}
