//! The gradients of a step by parameter path, summed over micro-batches: [`Gradients`]. If asked, it also measures the
//! gradient of each micro-batch; the sum has the same bits either way.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients as Tape, Tensor};
use firebrand_kernels::sum;
use firebrand_models::parameters::{ModulePath, ParameterInfo};

use super::noise::NoiseSample;
use crate::optim::{LearningRates, OptimizerState, Parameter, global_norm};
use crate::recipe::Optimizer;

/// Flat gradients by parameter path.
#[derive(Debug, Default)]
pub struct Gradients {
    by_path: BTreeMap<String, Tensor<1>>,
    measured: Option<Measured>,
}

/// What is known of single micro-batches.
#[derive(Debug, Default)]
struct Measured {
    /// The gradient of the present one.
    present: BTreeMap<String, Tensor<1>>,
    /// Share of the step and squared norm of the earlier ones.
    parts: Vec<(f64, f64)>,
}

impl Gradients {
    /// Adds the gradients in `tape` for the parameters of `module`, whose path in the network is `prefix`.
    pub fn collect<M: Module>(&mut self, module: &M, prefix: &str, tape: &mut Tape) {
        let path = path_of(prefix);
        let present = self.measured.as_mut().map(|measured| &mut measured.present);
        module.visit(&mut Collector { path, tape, sum: &mut self.by_path, present });
    }

    /// Gradients of which those of each micro-batch are measured too.
    pub fn measuring() -> Self {
        Self { measured: Some(Measured::default()), ..Self::default() }
    }

    /// Ends a micro-batch that has this share of the weights of the step. Waits for the device, if it measures.
    pub fn end_micro_batch(&mut self, share: f64) {
        if let Some(measured) = &mut self.measured {
            let present = std::mem::take(&mut measured.present);
            if share > 0.0 {
                measured.parts.push((share, global_norm(present.values()).powi(2)));
            }
        }
    }

    /// What the micro-batches say of a step of `rows` rows whose gradient has this norm; `None` if they are not measured, or fewer
    /// than two.
    pub fn noise(&self, norm: f64, rows: usize) -> Option<NoiseSample> {
        NoiseSample::of(&self.measured.as_ref()?.parts, norm * norm, rows)
    }

    /// Multiplies every gradient.
    pub fn scale(&mut self, factor: f64) {
        for gradient in self.by_path.values_mut() {
            *gradient = gradient.clone() * factor;
        }
    }

    /// The gradients, in the order of their paths.
    pub fn values(&self) -> impl Iterator<Item = &Tensor<1>> {
        self.by_path.values()
    }

    /// The gradients with their paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.by_path.iter().map(|(path, gradient)| (path.as_str(), gradient))
    }

    /// The path of the first parameter whose gradient is not finite. Waits for the device once.
    pub fn first_non_finite(&self) -> Option<&str> {
        let sums: Vec<Tensor<1>> = self.by_path.values().map(|gradient| sum(gradient.clone())).collect();
        if sums.is_empty() {
            return None;
        }
        let sums = Tensor::cat(sums, 0).into_data();
        self.by_path.keys().zip(sums.iter::<f32>()).find(|(_, sum)| !sum.is_finite()).map(|(path, _)| path.as_str())
    }

    /// Makes one optimiser step on `module`, whose path is `prefix` and of which the parameters in `trained` are trained.
    pub fn apply<M: Module>(
        &mut self,
        module: M,
        prefix: &str,
        trained: &[ParameterInfo],
        optimizer: &Optimizer,
        state: &mut OptimizerState,
        rates: LearningRates,
    ) -> M {
        let trained = trained.iter().map(|info| (info.path.as_str(), info)).collect();
        let gradients = &mut self.by_path;
        module.map(&mut Updater { path: path_of(prefix), trained, gradients, optimizer, state, rates })
    }
}

fn path_of(prefix: &str) -> ModulePath {
    let mut path = ModulePath::default();
    prefix.split('.').filter(|name| !name.is_empty()).for_each(|name| path.enter(name, ""));
    path
}

struct Collector<'a> {
    path: ModulePath,
    tape: &'a mut Tape,
    sum: &'a mut BTreeMap<String, Tensor<1>>,
    present: Option<&'a mut BTreeMap<String, Tensor<1>>>,
}

fn add(gradients: &mut BTreeMap<String, Tensor<1>>, path: String, gradient: Tensor<1>) {
    let sum = match gradients.remove(&path) {
        Some(sum) => sum + gradient,
        None => gradient,
    };
    gradients.insert(path, sum);
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            return;
        }
        if let Some(gradient) = value.grad_remove(self.tape) {
            let gradient = gradient.reshape([-1]);
            let path = self.path.join();
            if let Some(present) = &mut self.present {
                add(present, path.clone(), gradient.clone());
            }
            add(self.sum, path, gradient);
        }
    }
}

struct Updater<'a> {
    path: ModulePath,
    trained: HashMap<&'a str, &'a ParameterInfo>,
    gradients: &'a mut BTreeMap<String, Tensor<1>>,
    optimizer: &'a Optimizer,
    state: &'a mut OptimizerState,
    rates: LearningRates,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join();
        let Some(info) = self.trained.get(path.as_str()) else { return param };
        // Without a gradient: an expert to which no token of the step went. The reference keeps all experts of a layer
        // in one parameter, so momentum and weight decay change unused ones too.
        let idle = || Tensor::zeros([param.lazy_shape().num_elements()], &param.lazy_device().inner());
        let gradient = self.gradients.remove(&path).unwrap_or_else(idle);
        param.map(|value| {
            let shape = value.dims();
            let flat = value.inner().reshape([-1]);
            let parameter = Parameter::of(info);
            let rate = self.rates.of(parameter);
            let updated = self.optimizer.update(self.state, parameter, flat, gradient, rate);
            Tensor::from_inner(updated.reshape(shape)).require_grad()
        })
    }
}
