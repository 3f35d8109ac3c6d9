//! What the tensors of a model are written in, and where their bytes are until then.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, TensorData};
use firebrand_kernels::{PackedWeight, Packing};

use crate::causal_lm::host_values;
use crate::error::ModelError;
use crate::parameters::AnyTensor;
use crate::weights::{Dtype, Layout, TensorSpec, packed_tensors};

/// What a model is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteAs {
    /// Each tensor as in the files the model came from, f32 where it came from none. A folder of packed weights becomes one again.
    Stored,
    /// Every tensor in one dtype; packed weights dequantised.
    Dense(Dtype),
    /// The linear maps in 4 bits, under bitsandbytes' names, everything else as in the files. A map that is packed so already keeps its codes.
    Packed(Packing),
}

impl From<Option<Dtype>> for WriteAs {
    fn from(dtype: Option<Dtype>) -> Self {
        dtype.map_or(Self::Stored, Self::Dense)
    }
}

/// Where the values of a tensor to be written are.
pub(crate) enum Values {
    /// A parameter, to be written in another layout.
    Tensor { tensor: Box<AnyTensor>, layout: Layout, shape: Vec<usize> },
    /// To be dequantised when it is written.
    Packed { weight: Arc<PackedWeight>, layout: Layout },
    /// The codes of a packed weight.
    Codes(Arc<PackedWeight>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

impl Values {
    /// The bytes of the tensor `spec`.
    pub fn bytes(&self, spec: &TensorSpec) -> Cow<'_, [u8]> {
        let encode = |values: Vec<f32>, layout: Layout, shape: &[usize]| {
            Cow::Owned(spec.dtype.encode(&layout.convert(values, shape)).unwrap_or_default())
        };
        match self {
            Self::Tensor { tensor, layout, shape } => encode(host_values(tensor), *layout, shape),
            Self::Packed { weight, layout } => encode(weight.values(), *layout, &weight.shape()),
            Self::Codes(weight) => Cow::Borrowed(weight.codes()),
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }

    /// The tensors of a packed weight.
    pub fn of_packed(name: &str, weight: &Arc<PackedWeight>) -> Result<Vec<(TensorSpec, Self)>, ModelError> {
        let tensors = packed_tensors(name, weight).ok_or_else(|| unwritable(weight.packing()))?;
        let values = |(spec, bytes): (TensorSpec, Cow<'_, [u8]>)| match bytes {
            Cow::Borrowed(_) if spec.name == name => (spec, Self::Codes(Arc::clone(weight))),
            bytes => (spec, Self::Bytes(bytes.into_owned())),
        };
        Ok(tensors.into_iter().map(values).collect())
    }
}

/// Packs a matrix `[out, in]` that is to be written as `name`: from the precision that its folder has, as a reader of that folder would.
pub(crate) fn pack(
    name: &str,
    values: &[f32],
    shape: [usize; 2],
    precision: Dtype,
    packing: Packing,
) -> Result<PackedWeight, ModelError> {
    let kind = match precision {
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        _ => DType::F32,
    };
    let precision = if kind == DType::F32 { Dtype::F32 } else { precision };
    let bytes = precision.encode(values).unwrap_or_default();
    let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), kind);
    PackedWeight::quantise(&data, packing)
        .map_err(|problem| ModelError::Unwritable { tensor: name.to_owned(), problem: problem.to_string() })
}

/// The precision that a packed weight came in.
pub(crate) fn precision(weight: &PackedWeight) -> Dtype {
    match weight.dtype() {
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    }
}

/// Packings that no reader has names for.
pub(crate) fn unwritable(packing: Packing) -> ModelError {
    ModelError::Unwritable {
        tensor: "the linear maps".to_owned(),
        problem: format!("bitsandbytes has no names in files for weights as {packing}"),
    }
}
