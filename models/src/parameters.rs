//! Where a model's parameters come from.
//!
//! A model is built in one walk that asks a [`ParameterSource`] for each parameter by path and shape, so a weight is
//! read once, straight into its place. Three sources: a checkpoint (`load.rs`), random values, and shapes alone.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_adapters::{Linear, normal, stream};
use firebrand_kernels::PackedWeight;

/// Gives parameters by path and shape. A path is what a walk through the finished model says
/// (`layers.0.attention.qkv.q.weight`): field names and indices, without the names of enum variants.
pub trait ParameterSource {
    /// A matrix, `[out, in]` for linear maps.
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>>;
    /// The matrix of a linear map that nobody looks into but by multiplying: some sources pack it.
    fn weight(&mut self, path: &str, shape: [usize; 2]) -> LinearWeight {
        LinearWeight::Dense(self.matrix(path, shape))
    }
    /// A vector, all `initial` where it is new.
    fn vector(&mut self, path: &str, length: usize, initial: f32) -> Param<Tensor<1>>;
}

/// The linear map at `path` with weight `[out, in]`.
pub fn linear(source: &mut dyn ParameterSource, path: &str, shape: [usize; 2], bias: bool) -> Linear {
    let weight = source.weight(&format!("{path}.weight"), shape);
    let bias = bias.then(|| source.vector(&format!("{path}.bias"), shape[0], 0.0));
    match weight {
        LinearWeight::Dense(weight) => Linear::new(weight, bias),
        LinearWeight::Packed(weight) => Linear::packed(weight, bias),
    }
}

/// The matrix of a linear map, `[out, in]`.
#[derive(Debug)]
pub enum LinearWeight {
    /// A parameter.
    Dense(Param<Tensor<2>>),
    /// Frozen, in few bits.
    Packed(Arc<PackedWeight>),
}

/// Fresh values: matrices normal with the given standard deviation, vectors as the part that has them says.
///
/// As in Hugging Face's `_init_weights`. Values depend on the seed and the path only.
#[derive(Debug)]
pub struct Random {
    /// Seed of all values.
    pub seed: u64,
    /// Standard deviation of matrices (`initializer_range`).
    pub deviation: f64,
    /// Where the parameters live.
    pub device: Device,
}

impl ParameterSource for Random {
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        let mut rng = stream(self.seed, path);
        let deviation = self.deviation;
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (normal(&mut rng) * deviation) as f32).collect();
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    fn vector(&mut self, _path: &str, length: usize, initial: f32) -> Param<Tensor<1>> {
        Param::from_data(TensorData::new(vec![initial; length], [length]), &self.device)
    }
}

/// Shapes without values: a model made from it costs no memory and must not be run.
#[derive(Debug, Default)]
pub struct Shapes;

impl ParameterSource for Shapes {
    fn matrix(&mut self, _path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        let make = move |device: &Device, _| Tensor::zeros(shape, device);
        Param::uninitialized(ParamId::new(), make, Device::flex(), false, shape.into())
    }

    fn vector(&mut self, _path: &str, length: usize, _initial: f32) -> Param<Tensor<1>> {
        let make = move |device: &Device, _| Tensor::zeros([length], device);
        Param::uninitialized(ParamId::new(), make, Device::flex(), false, [length].into())
    }
}

/// A parameter met on a walk through a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterInfo {
    /// Path as sources know it.
    pub path: String,
    /// Shape.
    pub shape: Vec<usize>,
}

/// All parameters in the order of the model, adapters included.
pub fn parameters<M: Module>(model: &M) -> Vec<ParameterInfo> {
    let mut found = vec![];
    visit(model, &mut |parameter| {
        found.push(ParameterInfo { path: parameter.path.into(), shape: parameter.shape.to_vec() });
    });
    found
}

/// A parameter tensor of either rank.
#[derive(Debug, Clone)]
pub enum AnyTensor {
    /// Rank one.
    Vector(Tensor<1>),
    /// Rank two; no parameter of these models has a higher rank.
    Matrix(Tensor<2>),
}

/// A parameter on a walk, its value not yet asked for.
#[derive(Clone, Copy)]
pub struct ParameterView<'a> {
    /// Path as sources know it.
    pub path: &'a str,
    /// Shape.
    pub shape: &'a [usize],
    /// Gives the value; a parameter of [`Shapes`] comes into being by this.
    pub value: &'a dyn Fn() -> AnyTensor,
}

/// Calls `f` with every parameter, in the order of the model.
pub fn visit<M: Module>(model: &M, f: &mut dyn FnMut(ParameterView<'_>)) {
    struct Walk<'a> {
        path: ModulePath,
        f: &'a mut dyn FnMut(ParameterView<'_>),
    }
    impl ModuleVisitor for Walk<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.lazy_shape();
            // Through the untyped form, so that a tracked parameter stays the same leaf.
            let value = || match D {
                1 => AnyTensor::Vector(Tensor::from_dispatch(param.val().into_dispatch())),
                _ => AnyTensor::Matrix(Tensor::from_dispatch(param.val().into_dispatch())),
            };
            (self.f)(ParameterView { path: &self.path.join(), shape: &shape.to_vec(), value: &value });
        }
    }
    model.visit(&mut Walk { path: ModulePath::default(), f });
}

/// The path of a module walk, without the names of enum variants: which variant a part is, is not part of its name.
#[derive(Debug, Default)]
pub struct ModulePath {
    names: Vec<Option<String>>,
}

impl ModulePath {
    /// Going into a module.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.names.push((!container.starts_with("Enum:")).then(|| name.to_string()));
    }

    /// Coming out again.
    pub fn exit(&mut self) {
        self.names.pop();
    }

    /// The names joined by dots.
    pub fn join(&self) -> String {
        self.names.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::families::Family;
    use crate::hf_config::HfConfig;
    use crate::transformer::Decoder;

    const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 12, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": true, "mlp_bias": true}"#;

    /// Notes the paths it is asked for.
    struct Recorder(BTreeSet<String>);

    impl ParameterSource for Recorder {
        fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
            self.0.insert(path.into());
            Shapes.matrix(path, shape)
        }

        fn vector(&mut self, path: &str, length: usize, initial: f32) -> Param<Tensor<1>> {
            self.0.insert(path.into());
            Shapes.vector(path, length, initial)
        }
    }

    #[test]
    fn paths_asked_for_are_paths_walked() {
        let config = HfConfig::from_json("config.json", CONFIG).unwrap();
        let shape = Family::of(&config).unwrap().config(&config).unwrap();
        let mut asked = Recorder(BTreeSet::new());
        let decoder = Decoder::new(&shape, &mut asked);
        let walked: BTreeSet<String> = parameters(&decoder).into_iter().map(|info| info.path).collect();
        assert_eq!(asked.0, walked);
        assert!(walked.contains("layers.1.attention.qkv.k.bias"));
    }

    #[test]
    fn fresh_matrices_have_the_asked_deviation() {
        let mut source = Random { seed: 3, deviation: 0.02, device: Device::flex() };
        let values: Vec<f32> = source.matrix("a", [100, 100]).val().into_data().try_to_vec().unwrap();
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!((variance.sqrt() - 0.02).abs() < 0.0005, "{}", variance.sqrt());
    }
}
