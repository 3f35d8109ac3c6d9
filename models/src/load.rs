//! Parameters from a checkpoint.

use burn::module::Param;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};

use crate::causal_lm::Hold;
use crate::error::ModelError;
use crate::parameters::ParameterSource;
use crate::weights::{Checkpoint, Dtype, LoadPlan, TensorView};

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
        let load = self.plan.loads.iter().find(|load| load.ours == path);
        let theirs = load.map_or(path, |load| load.theirs.as_str());
        let view = self.checkpoint.get(theirs)?;
        view.check_finite()?;
        held(view, shape, hold)
    }
}

/// A tensor's values as they are held: matrices in the wanted dtype when that loses nothing, else f32.
fn held(view: TensorView<'_>, shape: &[usize], hold: Hold) -> Result<TensorData, ModelError> {
    let same = |dtype| TensorData::from_bytes(Bytes::from_bytes_vec(view.bytes().into_owned()), shape.to_vec(), dtype);
    Ok(match (hold, view.dtype) {
        (Hold::Bf16, Dtype::BF16) => same(DType::BF16),
        (Hold::F16, Dtype::F16) => same(DType::F16),
        (Hold::F32, _) => TensorData::new(view.to_f32()?, shape.to_vec()),
        (Hold::Bf16, _) => rounded(view, shape, Dtype::BF16, DType::BF16)?,
        (Hold::F16, _) => rounded(view, shape, Dtype::F16, DType::F16)?,
    })
}

fn rounded(view: TensorView<'_>, shape: &[usize], to: Dtype, dtype: DType) -> Result<TensorData, ModelError> {
    let bytes = to.encode(&view.to_f32()?).unwrap_or_default();
    Ok(TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), dtype))
}

impl ParameterSource for FromCheckpoint<'_> {
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        // The embedding is looked up and serves as a tied head; only the linear maps of the blocks are held narrow.
        let hold = if path.starts_with("layers.") { self.hold } else { Hold::F32 };
        self.read(path, shape, hold)
    }

    fn vector(&mut self, path: &str, length: usize) -> Param<Tensor<1>> {
        self.read(path, [length], Hold::F32)
    }
}
