//! Parameters from a checkpoint.

use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use firebrand_kernels::{PackedWeight, Packing};

use crate::causal_lm::Hold;
use crate::error::ModelError;
use crate::parameters::{LinearWeight, ParameterSource};
use crate::weights::{Checkpoint, Dtype, Layout, LoadPlan, TensorView};

/// Reads each parameter once, in the order of the model. The first problem is kept and its place filled with zeros,
/// because building a model does not fail half-way; [`Self::finish`] reports it.
pub(crate) struct FromCheckpoint<'a> {
    checkpoint: &'a Checkpoint,
    plan: &'a LoadPlan,
    hold: Hold,
    device: Device,
    problem: Option<ModelError>,
}

impl<'a> FromCheckpoint<'a> {
    pub fn new(checkpoint: &'a Checkpoint, plan: &'a LoadPlan, hold: Hold, device: &Device) -> Self {
        Self { checkpoint, plan, hold, device: device.clone(), problem: None }
    }

    /// Whether every parameter was read.
    pub fn finish(self) -> Result<(), ModelError> {
        self.problem.map_or(Ok(()), Err)
    }

    fn read<const D: usize>(&mut self, path: &str, shape: [usize; D], hold: Hold) -> Param<Tensor<D>> {
        let data = self.values(path, &shape, hold).unwrap_or_else(|problem| {
            self.problem.get_or_insert(problem);
            TensorData::zeros::<f32, _>(shape)
        });
        let dtype = data.dtype();
        let value = Tensor::from_data(data, (&self.device, dtype));
        Param::from_tensor(value)
    }

    fn values(&self, path: &str, shape: &[usize], hold: Hold) -> Result<TensorData, ModelError> {
        let (view, layout) = self.find(path)?;
        held(view, shape, layout, hold)
    }

    /// Packs a tensor from the precision of its file.
    fn packed(&self, path: &str, shape: [usize; 2], packing: Packing) -> Result<PackedWeight, ModelError> {
        let (view, layout) = self.find(path)?;
        let stored = match view.dtype {
            Dtype::BF16 => Hold::Bf16,
            Dtype::F16 => Hold::F16,
            _ => Hold::F32,
        };
        let (file, name) = (view.file, view.name);
        let values = held(view, &shape, layout, stored)?;
        PackedWeight::quantise(&values, packing)
            .map_err(|problem| ModelError::tensor(file, name, "a matrix that can be packed", problem.to_string()))
    }

    fn find(&self, path: &str) -> Result<(TensorView<'_>, Layout), ModelError> {
        let load = self.plan.loads.iter().find(|load| load.ours == path);
        let (theirs, layout) = load.map_or((path, Layout::Same), |load| (load.theirs.as_str(), load.layout));
        let view = self.checkpoint.get(theirs)?;
        view.check_finite()?;
        Ok((view, layout))
    }
}

/// A tensor's values as they are held, of `shape` here: matrices in the wanted dtype, else f32.
fn held(view: TensorView<'_>, shape: &[usize], layout: Layout, hold: Hold) -> Result<TensorData, ModelError> {
    let stored = layout.shape(shape);
    let narrow = |dtype, kind: Dtype| {
        let bytes = match view.dtype == kind {
            true => view.bytes().into_owned(),
            false => kind.encode(&view.to_f32()?).unwrap_or_default(),
        };
        let bytes = pairs(layout, bytes, &stored);
        Ok(TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), dtype))
    };
    match hold {
        Hold::F32 | Hold::Packed(_) => Ok(TensorData::new(layout.convert(view.to_f32()?, &stored), shape.to_vec())),
        Hold::Bf16 => narrow(DType::BF16, Dtype::BF16),
        Hold::F16 => narrow(DType::F16, Dtype::F16),
    }
}

/// Values of two bytes each in the other layout.
fn pairs(layout: Layout, bytes: Vec<u8>, stored: &[usize]) -> Vec<u8> {
    match layout {
        Layout::Same => bytes,
        Layout::Transposed => {
            let values: Vec<[u8; 2]> = bytes.as_chunks::<2>().0.to_vec();
            layout.convert(values, stored).concat()
        }
    }
}

impl ParameterSource for FromCheckpoint<'_> {
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        // The embedding is looked up and serves as a tied head; only the linear maps of the blocks are held narrow.
        let hold = if path.starts_with("layers.") { self.hold } else { Hold::F32 };
        self.read(path, shape, hold)
    }

    fn weight(&mut self, path: &str, shape: [usize; 2]) -> LinearWeight {
        match self.hold {
            Hold::Packed(packing) if path.starts_with("layers.") => match self.packed(path, shape, packing) {
                Ok(weight) => LinearWeight::Packed(Arc::new(weight)),
                Err(problem) => {
                    self.problem.get_or_insert(problem);
                    LinearWeight::Dense(Param::from_data(TensorData::zeros::<f32, _>(shape), &self.device))
                }
            },
            _ => LinearWeight::Dense(self.matrix(path, shape)),
        }
    }

    fn vector(&mut self, path: &str, length: usize, _initial: f32) -> Param<Tensor<1>> {
        self.read(path, [length], Hold::F32)
    }
}
