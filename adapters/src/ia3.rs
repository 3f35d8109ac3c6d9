//! IA3: `y = l * (W x + b)` where outputs are scaled, `y = W (l * x) + b` where inputs are (Liu et al. 2022,
//! arXiv:2205.05638). The adapter is [`Ia3`].
//!
//! There is one factor for each output (in the paper: of keys and values) or input (of the second matrix of an MLP).
//! All start at 1. `feedforward` selects the maps whose inputs are scaled; PEFT compares its entries with the end of a
//! path without regard to dots (`tuners/ia3/model.py`), and so does this code.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::adapter::Shapes;
use crate::{AdapterError, AdapterTensor, Linear, ModulePattern, Targets, TrainedBase};

/// The IA3 adapter of one linear map.
#[derive(Module, Debug)]
pub struct Ia3 {
    /// The factors, `[out]` or `[in]`.
    pub scale: Param<Tensor<1>>,
    #[module(skip)]
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inputs,
    Outputs,
}

/// How IA3 adapters are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Ia3Config {
    /// Modules to adapt.
    pub targets: Targets,
    /// Modules to leave out.
    pub exclude: Option<ModulePattern>,
    /// Modules whose inputs are scaled instead of their outputs.
    pub feedforward: ModulePattern,
    /// The parameters of the base that are trained beside the adapters.
    pub base: TrainedBase,
}

impl Ia3Config {
    fn side(&self, path: &str) -> Result<Side, AdapterError> {
        let inputs = self.feedforward.ends("adapter.feedforward", path)?;
        Ok(if inputs { Side::Inputs } else { Side::Outputs })
    }

    pub(crate) fn shapes(&self, path: &str, [out, input]: [usize; 2]) -> Result<Shapes, AdapterError> {
        let shape = match self.side(path)? {
            Side::Inputs => vec![1, input],
            Side::Outputs => vec![out, 1],
        };
        Ok(vec![(AdapterTensor::Scale, shape)])
    }

    /// The paths of `modules` whose inputs are scaled.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub(crate) fn feeding(&self, modules: &[String]) -> Result<Vec<String>, AdapterError> {
        let sides =
            modules.iter().map(|path| Ok((path, self.side(path)?))).collect::<Result<Vec<_>, AdapterError>>()?;
        Ok(sides.into_iter().filter(|(_, side)| *side == Side::Inputs).map(|(path, _)| path.clone()).collect())
    }

    /// Removes the names of `feedforward` that no adapted module ends in, and returns them.
    pub(crate) fn drop_unmatched(&mut self, selected: &[String]) -> Vec<String> {
        let ModulePattern::Suffixes(names) = &mut self.feedforward else { return vec![] };
        let used = |name: &String| selected.iter().any(|path| path.ends_with(name.as_str()));
        let (kept, dropped) = names.drain(..).partition(used);
        *names = kept;
        dropped
    }

    /// Error: an entry of `feedforward` is not a module that is adapted.
    pub(crate) fn check(&self, selected: &[String]) -> Result<(), AdapterError> {
        let ModulePattern::Suffixes(names) = &self.feedforward else { return Ok(()) };
        match names.iter().find(|name| !selected.iter().any(|path| path.ends_with(name.as_str()))) {
            None => Ok(()),
            Some(unused) => Err(AdapterError::UnusedTarget {
                key: "adapter.feedforward".into(),
                target: unused.clone(),
                available: "(of those in adapter.targets) ".to_string() + &selected.join(", "),
            }),
        }
    }

    pub(crate) fn build(&self, path: &str, scale: Vec<f32>, device: &Device) -> Result<Ia3, AdapterError> {
        let length = scale.len();
        Ok(Ia3 { scale: Param::from_data(TensorData::new(scale, [length]), device), side: self.side(path)? })
    }
}

impl Ia3 {
    /// The device of its factors.
    pub(crate) fn device(&self) -> Device {
        self.scale.lazy_device()
    }

    /// The adapted map of `x`, `[batch, time, in]`.
    pub(crate) fn project(&self, x: Tensor<3>, base: &Linear) -> Tensor<3> {
        let scale: Tensor<3> = self.scale.val().unsqueeze();
        match self.side {
            Side::Inputs => base.biased_product(x * scale),
            Side::Outputs => base.biased_product(x) * scale,
        }
    }

    /// The weight with the same effect.
    pub(crate) fn apply(&self, weight: Tensor<2>) -> Tensor<2> {
        match self.side {
            Side::Inputs => weight * self.scale.val().unsqueeze_dim::<2>(0),
            Side::Outputs => weight * self.scale.val().unsqueeze_dim::<2>(1),
        }
    }

    /// The bias with the same effect.
    pub(crate) fn apply_to_bias(&self, bias: Tensor<1>) -> Tensor<1> {
        match self.side {
            Side::Inputs => bias,
            Side::Outputs => bias * self.scale.val(),
        }
    }

    /// Its tensor, laid out as in files.
    pub(crate) fn tensors(&self) -> Vec<(AdapterTensor, Vec<usize>, Vec<f32>)> {
        let values: Vec<f32> = self.scale.val().into_data().iter::<f32>().collect();
        let shape = match self.side {
            Side::Inputs => vec![1, values.len()],
            Side::Outputs => vec![values.len(), 1],
        };
        vec![(AdapterTensor::Scale, shape, values)]
    }

    /// The parameters, with their shapes in memory.
    pub(crate) fn parameters(&self) -> Vec<(AdapterTensor, Vec<usize>)> {
        vec![(AdapterTensor::Scale, self.scale.lazy_shape().to_vec())]
    }
}
