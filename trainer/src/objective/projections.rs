//! The learned maps between hidden states of different widths, [`Projections`]: parameters of the objective, not of the model. They
//! are trained by the run's optimiser, are part of its checkpoints, and are thrown away at its end.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients as Tape, Tensor, TensorData};
use firebrand_kernels::{Precision, multiply};
use firebrand_models::ModelError;
use firebrand_models::parameters::{ParameterInfo, Role};
use firebrand_models::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};

use super::gradients::Gradients;
use crate::error::Error;
use crate::optim::{LearningRates, OptimizerState};
use crate::recipe::Optimizer;

/// Where the paths of the maps begin.
const PREFIX: &str = "projections";
/// The file of a checkpoint, without its ending.
const FILE: &str = "projections";

/// One map for each matched pair of blocks, `[teacher's width, student's width]`.
#[derive(Module, Debug)]
pub struct Projections {
    maps: Vec<Param<Tensor<2>>>,
}

impl Projections {
    /// `count` maps that start as the identity on the numbers that both have.
    pub fn identity(count: usize, from: usize, to: usize, device: &Device) -> Self {
        let mut values = vec![0.0f32; to * from];
        (0..to.min(from)).for_each(|index| values[index * from + index] = 1.0);
        let map = || {
            let values = TensorData::new(values.clone(), [to, from]);
            Param::from_tensor(Tensor::from_data(values, device)).set_require_grad(true)
        };
        Self { maps: (0..count).map(|_| map()).collect() }
    }

    /// Maps hidden states `[tokens, from]` to `[tokens, to]` by the map of a pair.
    pub fn project(&self, place: usize, hidden: Tensor<2>) -> Tensor<2> {
        let map = self.maps[place].val();
        let map = if map.device() == hidden.device() { map } else { map.inner() };
        multiply(hidden, map.transpose(), Precision::F32)
    }

    /// The maps as an optimiser sees them.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let info = |(index, map): (usize, &Param<Tensor<2>>)| ParameterInfo {
            path: format!("{PREFIX}.maps.{index}"),
            shape: map.val().dims().to_vec(),
            role: Role::Projection,
            distance: 0,
            adapter: None,
        };
        self.maps.iter().enumerate().map(info).collect()
    }

    /// Adds the gradients in `tape`.
    pub fn collect(&self, tape: &mut Tape, gradients: &mut Gradients) {
        gradients.collect(self, PREFIX, tape);
    }

    /// Makes one optimiser step.
    pub fn update(
        self,
        gradients: &mut Gradients,
        optimizer: &Optimizer,
        state: &mut OptimizerState,
        rates: LearningRates,
    ) -> Self {
        let parameters = self.parameters();
        gradients.apply(self, PREFIX, &parameters, optimizer, state, rates)
    }

    /// Writes the maps into the folder of a checkpoint.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self, folder: &Path) -> Result<(), ModelError> {
        let spec = |info: ParameterInfo| TensorSpec { name: info.path, dtype: Dtype::F32, shape: info.shape };
        let specs: Vec<TensorSpec> = self.parameters().into_iter().map(spec).collect();
        let values = |map: &Param<Tensor<2>>| map.val().into_data().iter::<f32>().collect::<Vec<_>>();
        let names = specs.iter().map(|spec| spec.name.clone());
        let by_name: BTreeMap<String, Vec<f32>> = names.zip(self.maps.iter().map(values)).collect();
        let options = PlanOptions { base_name: FILE.into(), max_shard_bytes: u64::MAX, ..PlanOptions::default() };
        CheckpointPlan::new(specs, &options)?.write(folder, |spec| {
            let bytes = by_name.get(&spec.name).and_then(|values| Dtype::F32.encode(values));
            Ok(bytes.unwrap_or_default().into())
        })?;
        Ok(())
    }

    /// The maps in the folder of a checkpoint.
    ///
    /// # Errors
    /// A file that is not there, or has other maps.
    pub fn read(self, folder: &Path) -> Result<Self, Error> {
        let file = SafetensorsFile::open(folder.join(format!("{FILE}.safetensors")))?;
        let parameters = self.parameters();
        let maps = self.maps.into_iter().zip(parameters).map(|(map, info)| {
            let view = file.get(&info.path)?;
            if view.shape != info.shape {
                return Err(Error::Resume {
                    checkpoint: folder.to_path_buf(),
                    problem: format!("`{}` is {:?}, not {:?}", info.path, view.shape, info.shape),
                });
            }
            let values = TensorData::new(view.to_f32()?, info.shape);
            let device = map.val().device();
            Ok(Param::from_tensor(Tensor::from_data(values, &device)).set_require_grad(true))
        });
        Ok(Self { maps: maps.collect::<Result<_, Error>>()? })
    }
}
