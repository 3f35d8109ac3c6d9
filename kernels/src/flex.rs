//! Between Burn's CPU tensors and plain slices.

use crate::matmul::{Elements, Matrix};
use burn::{
    backend::DispatchDevice,
    tensor::{Bytes, DType, Device, Shape, Tensor, bf16, f16},
};
use burn_flex::{FlexTensor, Layout};

/// Whether tensors of this device have the fused forms, which read weights in 16 bits where they lie.
pub fn has_fused(device: &Device) -> bool {
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Flex(_)),
        #[allow(unreachable_patterns)] // Other devices exist only with their features.
        _ => false,
    }
}

/// Whether tensors of this device have those fused forms that CubeCL's devices have too.
pub(crate) fn is_fused(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    if crate::cube::is_cube(device) {
        return true;
    }
    has_fused(device)
}

/// The tensor itself if its elements lie in order without gaps, else a copy that does.
pub(crate) fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The elements of a [`dense`] tensor in f32.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    assert_eq!(tensor.dtype(), DType::F32, "fused operations compute in f32");
    let Some(values) = tensor.as_slice::<f32>() else {
        panic!("tensor is not dense");
    };
    values
}

/// The place of a bias where there is none: no numbers.
pub(crate) fn no_bias(device: &Device) -> Tensor<1> {
    Tensor::zeros([0], device)
}

/// The numbers of a [`dense`] bias, unless it is [`no_bias`].
pub(crate) fn bias_of(bias: &FlexTensor) -> Option<&[f32]> {
    let values = values(bias);
    (!values.is_empty()).then_some(values)
}

/// The elements of an integer tensor.
pub(crate) fn integers(tensor: &FlexTensor) -> Vec<i64> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I64 => tensor.storage::<i64>().to_vec(),
        DType::I32 => tensor.storage::<i32>().iter().map(|x| i64::from(*x)).collect(),
        other => panic!("integers are i64 or i32, not {other:?}"),
    }
}

/// A two-dimensional tensor as it lies in memory: a transposed one is not copied.
pub(crate) fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let (layout, shape) = (tensor.layout(), tensor.layout().shape());
    let start = layout.start_offset();
    let stride = |axis: usize| match usize::try_from(layout.strides()[axis]) {
        Ok(stride) => stride,
        Err(_) => panic!("matrix with a reversed axis"),
    };
    let elements = match tensor.dtype() {
        DType::F32 => Elements::F32(&tensor.storage::<f32>()[start..]),
        DType::F16 => Elements::F16(&tensor.storage::<f16>()[start..]),
        DType::BF16 => Elements::Bf16(&tensor.storage::<bf16>()[start..]),
        other => panic!("weights are f32, f16 or bf16, not {other:?}"),
    };
    Matrix { elements, rows: shape[0], columns: shape[1], row_stride: stride(0), column_stride: stride(1) }
}

/// A tensor that owns `values`.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    tensor_of(values, Shape::from(shape))
}

/// As [`tensor`], for a shape that another tensor gave.
pub(crate) fn tensor_of(values: Vec<f32>, shape: Shape) -> FlexTensor {
    assert_eq!(values.len(), shape.num_elements());
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}
