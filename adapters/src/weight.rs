//! The weight of a linear map: [`Weight`] is a dense matrix, or a frozen quantized one.
//!
//! A dense weight is a parameter, which Burn's walks find under the map's `weight`. A quantized weight is no tensor and
//! is never trained, so walks skip it: it is a handle that clones, devices and autodiff do not change. Every product
//! with it goes through `frozen_matmul`.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use firebrand_kernels::{
    FrozenWeight, Precision, QuantizedWeight, frozen_matmul_with_bias, linear_with_bias, low_rank_linear_with_bias,
};

/// The weight of a linear map, `[out, in]`.
#[derive(Module, Debug)]
pub(crate) enum Weight {
    /// In f32, bf16 or f16.
    Dense(Param<Tensor<2>>),
    /// In 4 or 8 bits.
    Quantized(Quantized),
}

/// A handle to a quantized weight.
#[derive(Module, Debug)]
pub(crate) struct Quantized {
    #[module(skip)]
    weight: Arc<QuantizedWeight>,
}

impl Weight {
    pub fn quantized(weight: Arc<QuantizedWeight>) -> Self {
        Self::Quantized(Quantized { weight })
    }

    /// `x W^T`, for `x` `[batch, time, in]`, plus a bias `[out]`.
    pub fn product(&self, x: Tensor<3>, bias: Option<Tensor<1>>, precision: Precision) -> Tensor<3> {
        match self {
            Self::Dense(weight) => linear_with_bias(x, weight.val(), bias, precision),
            Self::Quantized(Quantized { weight }) => frozen_matmul_with_bias(x, weight, bias, precision),
        }
    }

    /// `x W^T + scale (x A^T) B^T`, plus a bias.
    pub fn product_beside(
        &self,
        x: Tensor<3>,
        factors: [Tensor<2>; 2],
        bias: Option<Tensor<1>>,
        scale: f64,
        precision: Precision,
    ) -> Tensor<3> {
        let weight = match self {
            Self::Dense(weight) => FrozenWeight::Dense(weight.val()),
            Self::Quantized(Quantized { weight }) => FrozenWeight::Quantized(weight.clone()),
        };
        low_rank_linear_with_bias(x, weight, factors, bias, scale, precision)
    }

    /// All values in f32, row-major.
    pub fn values(&self) -> Vec<f32> {
        match self {
            Self::Dense(weight) => weight.val().into_data().iter::<f32>().collect(),
            Self::Quantized(Quantized { weight }) => weight.values(),
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.lazy_shape().dims(),
            Self::Quantized(Quantized { weight }) => weight.shape(),
        }
    }

    /// The handle, if this weight is quantized.
    pub fn as_quantized(&self) -> Option<&Arc<QuantizedWeight>> {
        match self {
            Self::Dense(_) => None,
            Self::Quantized(Quantized { weight }) => Some(weight),
        }
    }

    /// The dense weight that `change` makes of this one in f32. A quantized weight is first dequantized on `device`.
    pub fn changed(&self, device: &Device, change: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self::Dense(match self {
            Self::Dense(weight) => weight.clone().map(|weight| change(weight.cast(DType::F32))),
            Self::Quantized(Quantized { weight }) => Param::from_tensor(change(weight.dequantize(device))),
        })
    }
}
