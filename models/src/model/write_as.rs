//! Formats for writing a model: [`WriteAs`] chooses the dtypes, and [`Values`] holds a tensor until it is written.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, TensorData};
use firebrand_kernels::{QuantizationScheme, QuantizedWeight};

use crate::error::ModelError;
use crate::parameters::AnyTensor;
use crate::weights::{Dtype, Layout, TensorSpec, quantized_tensors};

/// The dtypes and quantization in which a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAs {
    /// Each tensor as in the files of the model, f32 where there are none. A folder of quantized weights stays one.
    Stored,
    /// Every tensor in one dtype; quantized weights are dequantized.
    Dense(Dtype),
    /// Linear maps in 4 bits, under bitsandbytes' names; other tensors as in the files. Weights that already have this
    /// quantization keep their codes.
    Quantized(QuantizationScheme),
}

impl From<Option<Dtype>> for WriteAs {
    fn from(dtype: Option<Dtype>) -> Self {
        dtype.map_or(Self::Stored, Self::Dense)
    }
}

/// The values of a tensor to be written.
pub(crate) enum Values {
    /// A parameter, to be converted to the layout of files.
    Tensor { tensor: Box<AnyTensor>, layout: Layout, shape: Vec<usize> },
    /// A quantized weight, to be dequantized when it is written.
    Quantized { weight: Arc<QuantizedWeight>, layout: Layout },
    /// The codes of a quantized weight.
    Codes(Arc<QuantizedWeight>),
    /// Bytes that are written unchanged.
    Bytes(Vec<u8>),
}

impl Values {
    /// The bytes of the tensor `spec`.
    ///
    /// # Errors
    /// A value that is not finite in the tensor's dtype.
    pub fn bytes(&self, spec: &TensorSpec) -> Result<Cow<'_, [u8]>, ModelError> {
        let encode = |values: Vec<f32>, layout: Layout, shape: &[usize]| {
            encode_finite(&spec.name, &layout.convert(values, shape), spec.dtype).map(Cow::Owned)
        };
        match self {
            Self::Tensor { tensor, layout, shape } => encode(tensor.values(), *layout, shape),
            Self::Quantized { weight, layout } => encode(weight.values(), *layout, &weight.shape()),
            Self::Codes(weight) => Ok(Cow::Borrowed(weight.codes())),
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// The tensors that a file holds for a quantized weight.
    pub fn of_quantized(name: &str, weight: &Arc<QuantizedWeight>) -> Result<Vec<(TensorSpec, Self)>, ModelError> {
        let tensors = quantized_tensors(name, weight).ok_or_else(|| unwritable(weight.scheme()))?;
        let values = |(spec, bytes): (TensorSpec, Cow<'_, [u8]>)| match bytes {
            Cow::Borrowed(_) if spec.name == name => (spec, Self::Codes(Arc::clone(weight))),
            bytes => (spec, Self::Bytes(bytes.into_owned())),
        };
        Ok(tensors.into_iter().map(values).collect())
    }
}

/// The bytes of the tensor `name` to be written in `dtype`, a float.
///
/// # Errors
/// A value that is not finite in it: a reader would find a damaged file.
pub(crate) fn encode_finite(name: &str, values: &[f32], dtype: Dtype) -> Result<Vec<u8>, ModelError> {
    let tensor = name.to_owned();
    match dtype.first_beyond(values) {
        None => Ok(dtype.encode(values).unwrap_or_default()),
        Some((index, value)) if value.is_finite() => {
            Err(ModelError::BeyondDtype { path: None, tensor, index, value: value.into(), dtype })
        }
        Some((index, value)) => Err(ModelError::NonFiniteResult { tensor, index, value }),
    }
}

/// Quantizes a matrix `[out, in]` to be written as `name`: from the precision of its folder, as a reader of that folder
/// would.
pub(crate) fn quantize(
    name: &str,
    values: &[f32],
    shape: [usize; 2],
    precision: Dtype,
    scheme: QuantizationScheme,
) -> Result<QuantizedWeight, ModelError> {
    let kind = match precision {
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        _ => DType::F32,
    };
    let precision = if kind == DType::F32 { Dtype::F32 } else { precision };
    let bytes = encode_finite(name, values, precision)?;
    let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), kind);
    QuantizedWeight::quantize(&data, scheme)
        .map_err(|problem| ModelError::Unwritable { tensor: name.to_owned(), problem: problem.to_string() })
}

/// The precision from which a weight was quantized.
pub(crate) fn precision(weight: &QuantizedWeight) -> Dtype {
    match weight.dtype() {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    }
}

/// The error for quantizations whose tensors no reader knows names for.
pub(crate) fn unwritable(scheme: QuantizationScheme) -> ModelError {
    ModelError::Unwritable {
        tensor: "the linear maps".to_owned(),
        problem: format!("bitsandbytes has no names in files for weights as {scheme}"),
    }
}
