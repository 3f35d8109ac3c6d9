//! The parameters of a model: a [`ParameterSource`] gives their values, and [`Role`] says what each is for.
//!
//! A model is built in one walk that asks the source for each parameter by path, shape and role, so a weight is read
//! once, directly into its place. There are three sources: a checkpoint (`load.rs`), random values, and shapes without
//! values. A part asks by the names of its own fields; [`Under`] puts the names of the enclosing parts in front.
//!
//! The part that asks for a parameter states its role, which is kept with the model. No code reads it out of a path.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use firebrand_adapters::peft::AdapterTensor;
use firebrand_adapters::{Linear, normal, stream};
use firebrand_kernels::QuantizedWeight;

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The matrix of a linear map in a block: held in 16 bits or quantized if a run asks for it.
    Map,
    /// The same in one of several experts.
    ExpertMap,
    /// The matrix of a linear map that leads into the blocks or out of them; held in f32.
    Projection,
    /// The matrix that scores experts for each token: held in 16 bits if a run asks for it, never quantized.
    Router,
    /// The table of token embeddings.
    TokenTable,
    /// Another table whose rows are looked up or added, such as learned positions.
    Table,
    /// The matrix of the output head.
    Head,
    /// The kernel of a convolution.
    Kernel,
    /// The kernel of a convolution of one pixel, which is computed as a linear map: never quantized, and not linear to
    /// `all-linear`, as in PEFT.
    Pointwise,
    /// A scale or shift of a norm.
    Norm,
    /// What a linear map adds to its product.
    Bias,
    /// Anything else of rank one: a class embedding, a temperature.
    Vector,
}

impl Role {
    /// Whether it is the matrix of a linear map that is only used in products.
    pub fn is_linear(self) -> bool {
        match self {
            Self::Map | Self::ExpertMap | Self::Projection => true,
            Self::Router | Self::TokenTable | Self::Table | Self::Head | Self::Kernel | Self::Pointwise => false,
            Self::Norm | Self::Bias | Self::Vector => false,
        }
    }

    /// Whether it is the matrix of a linear map of any kind.
    pub fn is_map(self) -> bool {
        match self {
            Self::Map | Self::ExpertMap | Self::Projection | Self::Router | Self::Pointwise => true,
            Self::TokenTable | Self::Table | Self::Head | Self::Kernel => false,
            Self::Norm | Self::Bias | Self::Vector => false,
        }
    }

    /// Whether it has a row for every token of the vocabulary.
    pub fn is_of_vocabulary(self) -> bool {
        match self {
            Self::TokenTable | Self::Head => true,
            Self::Map | Self::ExpertMap | Self::Projection | Self::Router | Self::Table => false,
            Self::Kernel | Self::Pointwise => false,
            Self::Norm | Self::Bias | Self::Vector => false,
        }
    }

    /// Whether it is the matrix of a linear map inside a block.
    pub fn is_matrix_of_block(self) -> bool {
        match self {
            Self::Map | Self::ExpertMap | Self::Router => true,
            Self::Projection | Self::TokenTable | Self::Table | Self::Head | Self::Kernel | Self::Pointwise => false,
            Self::Norm | Self::Bias | Self::Vector => false,
        }
    }
}

/// The initial values of a new parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// One value for all elements.
    Constant(f32),
    /// Normal, with the standard deviation of the model (`initializer_range`).
    Normal,
    /// Normal, with a standard deviation of its own.
    NormalWith(f64),
}

/// A request to a source.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The path that a walk over the finished model gives (`layers.0.attention.qkv.q.weight`): field names and indices,
    /// without the names of enum variants.
    pub path: &'a str,
    /// Shape; the matrix of a linear map is `[out, in]`.
    pub shape: &'a [usize],
    /// What the parameter is for.
    pub role: Role,
    /// Its initial values, if it is new.
    pub initial: Initial,
    /// As [`ParameterInfo::distance`].
    pub distance: usize,
}

/// The answer of a source.
#[derive(Debug)]
pub enum Given {
    /// Values in the dtype in which they are held, and their device.
    Values(TensorData, Device),
    /// A shape without values.
    Shape,
    /// A frozen matrix in 4 or 8 bits; only where [`Role::is_linear`].
    Quantized(Arc<QuantizedWeight>),
}

/// A source of parameters.
pub trait ParameterSource {
    /// Gives the requested parameter.
    fn give(&mut self, wanted: Wanted<'_>) -> Given;
}

/// A source whose paths begin with the name of a part.
pub struct Under<'a> {
    prefix: String,
    distance: usize,
    source: &'a mut dyn ParameterSource,
}

/// `source` for the field `name` of the part that asks.
pub fn under<'a>(source: &'a mut dyn ParameterSource, name: impl Into<String>) -> Under<'a> {
    under_at(source, name, 0)
}

/// As [`under`], for a part that is so far from the output of its network: 1 for the last block of a stack, the number of
/// blocks for the first, one more for what comes before the blocks.
pub fn under_at(source: &mut dyn ParameterSource, name: impl Into<String>, distance: usize) -> Under<'_> {
    Under { prefix: name.into(), distance, source }
}

impl ParameterSource for Under<'_> {
    fn give(&mut self, wanted: Wanted<'_>) -> Given {
        let path = join(&self.prefix, wanted.path);
        self.source.give(Wanted { path: &path, distance: wanted.distance + self.distance, ..wanted })
    }
}

/// The path of `name` under `prefix`; an empty prefix stands for the whole model.
pub fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// A dense parameter of any rank.
pub fn tensor<const D: usize>(
    source: &mut dyn ParameterSource,
    path: &str,
    shape: [usize; D],
    role: Role,
    initial: Initial,
) -> Param<Tensor<D>> {
    dense(source.give(Wanted { path, shape: &shape, role, initial, distance: 0 }), shape)
}

/// A frozen parameter with a value that is known.
pub(crate) fn frozen<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(value.detach()).set_require_grad(false)
}

/// A vector; if it is new, all its elements are `initial`.
pub fn vector(
    source: &mut dyn ParameterSource,
    path: &str,
    length: usize,
    role: Role,
    initial: f32,
) -> Param<Tensor<1>> {
    tensor(source, path, [length], role, Initial::Constant(initial))
}

/// The linear map at `path` with weight `[out, in]`; `role` is that of its matrix.
pub fn linear(source: &mut dyn ParameterSource, path: &str, shape: [usize; 2], bias: bool, role: Role) -> Linear {
    linear_from(source, path, shape, bias, role, Initial::Normal)
}

/// As [`linear`], with given initial values.
pub fn linear_from(
    source: &mut dyn ParameterSource,
    path: &str,
    shape: [usize; 2],
    bias: bool,
    role: Role,
    initial: Initial,
) -> Linear {
    let source = &mut under(source, path);
    let given = source.give(Wanted { path: "weight", shape: &shape, role, initial, distance: 0 });
    let bias = |source: &mut Under<'_>| bias.then(|| vector(source, "bias", shape[0], Role::Bias, 0.0));
    match given {
        Given::Quantized(weight) => Linear::quantized(weight, bias(source)),
        given => Linear::new(dense(given, shape), bias(source)),
    }
}

fn dense<const D: usize>(given: Given, shape: [usize; D]) -> Param<Tensor<D>> {
    match given {
        Given::Values(data, device) => {
            let dtype = data.dtype();
            Param::from_tensor(Tensor::from_data(data, (&device, dtype)))
        }
        Given::Shape => {
            let make = move |device: &Device, _| Tensor::zeros(shape, device);
            Param::uninitialized(ParamId::new(), make, Device::flex(), false, shape.into())
        }
        Given::Quantized(_) => panic!("a source quantizes nothing but linear maps"),
    }
}

/// Random initial values, as in Hugging Face's `_init_weights`. They depend only on the seed and the path.
#[derive(Debug)]
pub struct Random {
    /// Seed of all values.
    pub seed: u64,
    /// Standard deviation of [`Initial::Normal`] values (`initializer_range`).
    pub deviation: f64,
    /// The device of the parameters.
    pub device: Device,
}

impl ParameterSource for Random {
    fn give(&mut self, wanted: Wanted<'_>) -> Given {
        let count = wanted.shape.iter().product();
        let normal = |deviation: f64| -> Vec<f32> {
            let mut rng = stream(self.seed, wanted.path);
            (0..count).map(|_| (normal(&mut rng) * deviation) as f32).collect()
        };
        let values = match wanted.initial {
            Initial::Constant(value) => vec![value; count],
            Initial::Normal => normal(self.deviation),
            Initial::NormalWith(deviation) => normal(deviation),
        };
        Given::Values(TensorData::new(values, wanted.shape.to_vec()), self.device.clone())
    }
}

/// Shapes without values: a model made from it takes no memory and must not be run.
#[derive(Debug, Default)]
pub struct Shapes;

impl ParameterSource for Shapes {
    fn give(&mut self, _wanted: Wanted<'_>) -> Given {
        Given::Shape
    }
}

/// Lists what is asked of another source.
pub struct Listing<'a> {
    source: &'a mut dyn ParameterSource,
    /// The requested parameters, in order.
    pub parameters: Vec<ParameterInfo>,
}

impl<'a> Listing<'a> {
    /// A listing of requests to `source`.
    pub fn of(source: &'a mut dyn ParameterSource) -> Self {
        Self { source, parameters: vec![] }
    }
}

impl ParameterSource for Listing<'_> {
    fn give(&mut self, wanted: Wanted<'_>) -> Given {
        let Wanted { path, shape, role, distance, .. } = wanted;
        self.parameters.push(ParameterInfo { path: path.into(), shape: shape.to_vec(), role, distance, adapter: None });
        self.source.give(wanted)
    }
}

/// Path, shape, role and place of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its path, as sources know it.
    pub path: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What it is for; an adapter's tensor has the role of the matrix that it adapts.
    pub role: Role,
    /// How far it is from the output of its stack of blocks: 0 for what follows the blocks, 1 for the last block, the number
    /// of blocks for the first, one more for what precedes them.
    pub distance: usize,
    /// Which tensor of an adapter it is; absent: a parameter of the base model.
    pub adapter: Option<AdapterTensor>,
}

impl ParameterInfo {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A parameter tensor of any rank.
#[derive(Debug, Clone)]
pub enum AnyTensor {
    /// Rank one.
    Rank1(Tensor<1>),
    /// Rank two.
    Rank2(Tensor<2>),
    /// Rank three.
    Rank3(Tensor<3>),
    /// Rank four.
    Rank4(Tensor<4>),
}

impl AnyTensor {
    /// The values, row-major, in f32.
    pub fn values(&self) -> Vec<f32> {
        let data = match self {
            Self::Rank1(tensor) => tensor.to_data(),
            Self::Rank2(tensor) => tensor.to_data(),
            Self::Rank3(tensor) => tensor.to_data(),
            Self::Rank4(tensor) => tensor.to_data(),
        };
        data.iter::<f32>().collect()
    }

    /// The type of its values.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Rank1(tensor) => tensor.dtype(),
            Self::Rank2(tensor) => tensor.dtype(),
            Self::Rank3(tensor) => tensor.dtype(),
            Self::Rank4(tensor) => tensor.dtype(),
        }
    }

    /// Whether it is trainable.
    pub fn is_require_grad(&self) -> bool {
        match self {
            Self::Rank1(tensor) => tensor.is_require_grad(),
            Self::Rank2(tensor) => tensor.is_require_grad(),
            Self::Rank3(tensor) => tensor.is_require_grad(),
            Self::Rank4(tensor) => tensor.is_require_grad(),
        }
    }

    /// The values of its gradient, row-major, if the tape has one.
    pub fn gradient(&self, tape: &Gradients) -> Option<Vec<f32>> {
        let data = match self {
            Self::Rank1(tensor) => tensor.grad(tape)?.into_data(),
            Self::Rank2(tensor) => tensor.grad(tape)?.into_data(),
            Self::Rank3(tensor) => tensor.grad(tape)?.into_data(),
            Self::Rank4(tensor) => tensor.grad(tape)?.into_data(),
        };
        Some(data.iter::<f32>().collect())
    }
}

/// A parameter during a walk. Its value is computed only on request.
#[derive(Clone, Copy)]
pub struct ParameterView<'a> {
    /// Its path, as sources know it.
    pub path: &'a str,
    /// Shape.
    pub shape: &'a [usize],
    /// Gives the value; this creates the values of a parameter from [`Shapes`].
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
            // Through the untyped form, so that a tracked parameter stays the same leaf of the tape.
            let value = || match D {
                1 => AnyTensor::Rank1(Tensor::from_dispatch(param.val().into_dispatch())),
                2 => AnyTensor::Rank2(Tensor::from_dispatch(param.val().into_dispatch())),
                3 => AnyTensor::Rank3(Tensor::from_dispatch(param.val().into_dispatch())),
                _ => AnyTensor::Rank4(Tensor::from_dispatch(param.val().into_dispatch())),
            };
            (self.f)(ParameterView { path: &self.path.join(), shape: &shape.to_vec(), value: &value });
        }
    }
    model.visit(&mut Walk { path: ModulePath::default(), f });
}

/// The module with the parameters trainable whose paths `choose` accepts, and all others frozen.
pub fn trained<M: Module>(module: M, choose: impl Fn(&str) -> bool) -> M {
    struct Choose<F> {
        path: ModulePath,
        choose: F,
    }
    impl<F: Fn(&str) -> bool> ModuleMapper for Choose<F> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let chosen = (self.choose)(&self.path.join());
            param.set_require_grad(chosen)
        }
    }
    module.map(&mut Choose { path: ModulePath::default(), choose })
}

/// The path of a module during a walk. Names of enum variants are left out of it.
#[derive(Debug, Default)]
pub struct ModulePath {
    names: Vec<Option<String>>,
}

impl ModulePath {
    /// Enters a module.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.names.push((!container.starts_with("Enum:")).then(|| name.to_string()));
    }

    /// Leaves it.
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
    use super::*;

    #[test]
    fn fresh_matrices_have_the_asked_deviation() {
        let mut source = Random { seed: 3, deviation: 0.02, device: Device::flex() };
        let matrix: Param<Tensor<2>> = tensor(&mut source, "a", [100, 100], Role::Map, Initial::Normal);
        let values: Vec<f32> = matrix.val().into_data().try_to_vec().unwrap();
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!((variance.sqrt() - 0.02).abs() < 0.0005, "{}", variance.sqrt());
    }

    #[test]
    fn values_depend_on_the_whole_path_and_not_on_who_asks() {
        let mut source = Random { seed: 3, deviation: 1.0, device: Device::flex() };
        let mut ask = |prefix: &str, path: &str| {
            let matrix: Param<Tensor<2>> =
                tensor(&mut under(&mut source, prefix), path, [3, 4], Role::Map, Initial::Normal);
            matrix.val().into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(ask("a", "b.c"), ask("a.b", "c"));
        assert_eq!(ask("", "a.b.c"), ask("a.b", "c"));
        assert_ne!(ask("x", "b.c"), ask("a.b", "c"));
    }
}
