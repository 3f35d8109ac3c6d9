//! The exponential moving average of the trained weights, [`WeightAverage`] (Polyak averaging; `torch.optim.swa_utils.AveragedModel`
//! with `get_ema_multi_avg_fn`): it starts at the weights before the first step, and after each step
//! `average = decay * average + (1 - decay) * weights`, in f32.
//!
//! Nothing of training depends on it.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_models::parameters::{ModulePath, ParameterInfo};

/// The moving average of every trained parameter, flat, by its path.
#[derive(Debug, Clone, Default)]
pub struct WeightAverage {
    decay: f64,
    values: BTreeMap<String, Tensor<1>>,
}

impl WeightAverage {
    /// The average before the first step: the weights of `trained` in `module`.
    pub fn of<M: Module>(module: &M, trained: &[ParameterInfo], decay: f64) -> Self {
        let mut average = Self { decay, values: BTreeMap::new() };
        average.walk(module, trained, |_, weights| weights);
        average
    }

    /// An average without values; [`Self::import`] adds them.
    pub fn empty(decay: f64) -> Self {
        Self { decay, values: BTreeMap::new() }
    }

    /// Takes the weights after a step in.
    pub fn update<M: Module>(&mut self, module: &M, trained: &[ParameterInfo]) {
        let decay = self.decay;
        self.walk(module, trained, |average, weights| match average {
            Some(average) => average * decay + weights * (1.0 - decay),
            None => weights,
        });
    }

    fn walk<M: Module>(
        &mut self,
        module: &M,
        trained: &[ParameterInfo],
        change: impl FnMut(Option<Tensor<1>>, Tensor<1>) -> Tensor<1>,
    ) {
        let values = trained.iter().map(|info| (info.path.clone(), self.values.remove(&info.path))).collect();
        let mut reader = Reader { path: ModulePath::default(), values, change };
        module.visit(&mut reader);
        self.values = reader.values.into_iter().filter_map(|(path, value)| Some((path, value?))).collect();
    }

    /// `module` with the averages in place of its trained weights.
    pub fn put_into<M: Module>(&self, module: M) -> M {
        module.map(&mut Writer { path: ModulePath::default(), values: &self.values })
    }

    /// The paths and numbers of values of all averages.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, usize)> {
        self.values.iter().map(|(path, values)| (path.as_str(), values.dims()[0]))
    }

    /// The values of one; `None` if there is none of that path. Waits for the device.
    pub fn values(&self, path: &str) -> Option<Vec<f32>> {
        Some(self.values.get(path)?.to_data().iter::<f32>().collect())
    }

    /// Adds what [`Self::values`] returned.
    pub fn import(&mut self, path: String, values: Vec<f32>, device: &Device) {
        let length = values.len();
        self.values.insert(path, Tensor::from_data(TensorData::new(values, [length]), device));
    }
}

struct Reader<F> {
    path: ModulePath,
    values: BTreeMap<String, Option<Tensor<1>>>,
    change: F,
}

impl<F: FnMut(Option<Tensor<1>>, Tensor<1>) -> Tensor<1>> ModuleVisitor for Reader<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(value) = self.values.get_mut(&self.path.join()) {
            let weights = param.val().inner().reshape([-1]);
            *value = Some((self.change)(value.take(), weights));
        }
    }
}

struct Writer<'a> {
    path: ModulePath,
    values: &'a BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.get(&self.path.join()).cloned() else { return param };
        param.map(|value| Tensor::from_inner(values.reshape(value.dims())).require_grad())
    }
}
