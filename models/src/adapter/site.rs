//! Places for adapters: a [`Site`] is a linear map, the token table or the output head; [`Placed`] is an adapter in its
//! place.

use std::borrow::Cow;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use firebrand_adapters::{
    Adapter, AdapterConfig, AdapterError, AdapterTensor, AdapterValues, Linear, Lora, LoraConfig, LoraFactors,
};

use crate::error::ModelError;
use crate::parameters::{ParameterInfo, Role, join};

/// A place for an adapter.
#[expect(clippy::large_enum_variant, reason = "made one at a time and dropped at once")]
pub(crate) enum Site<'a> {
    /// A linear map.
    Linear(&'a mut Linear),
    /// The token table, with the shape `[width, rows]` of the map from one-hot ids.
    Tokens(&'a mut Option<Lora>, [usize; 2]),
    /// The output head, with its matrix.
    Head(&'a mut Option<Lora>, Tensor<2>),
}

/// Reads the weight `[out, in]` of the linear map at a path in files.
pub(crate) type Original<'a> = dyn Fn(&str) -> Result<Vec<f32>, ModelError> + 'a;

/// The tensors of an adapter, with shapes and values.
pub(crate) type Values = Vec<(AdapterTensor, Vec<usize>, Vec<f32>)>;

impl Site<'_> {
    /// `[out, in]`.
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::Linear(linear) => linear.shape(),
            Self::Tokens(_, shape) => *shape,
            Self::Head(_, weight) => weight.dims(),
        }
    }

    fn in_files(&self, tensor: AdapterTensor) -> AdapterTensor {
        match self {
            Self::Tokens(..) => of_table(tensor),
            Self::Linear(_) | Self::Head(..) => tensor,
        }
    }

    /// The tensors of the adapter that `config` puts at `path`, with their shapes in files.
    pub fn shapes(&self, config: &AdapterConfig, path: &str) -> Result<Vec<(AdapterTensor, Vec<usize>)>, AdapterError> {
        if !matches!(self, Self::Linear(_)) {
            config.on_table(path)?;
        }
        let shapes = config.shapes(path, self.shape())?;
        Ok(shapes.into_iter().map(|(tensor, shape)| (self.in_files(tensor), shape)).collect())
    }

    /// The initial values, laid out as in files. `original` reads the weight of a linear map from the model's files,
    /// needed for starts from the quantization error.
    pub fn initial(
        &self,
        config: &AdapterConfig,
        seed: u64,
        path: &str,
        original: Option<&Original<'_>>,
    ) -> Result<AdapterValues, ModelError> {
        let values: AdapterValues = match self {
            Self::Linear(linear) => {
                let weight = original.map(|read| read(path)).transpose()?;
                config.initial(seed, path, linear, weight)?
            }
            Self::Tokens(_, shape) => config.on_table(path)?.initial_of_table(seed, path, *shape)?.into(),
            Self::Head(_, weight) => {
                let head = Linear::new(Param::from_tensor(weight.clone()), None);
                config.on_table(path)?.initial_of_head(seed, path, &head)?.into()
            }
        };
        Ok(values.into_iter().map(|(tensor, values)| (self.in_files(tensor), values)).collect())
    }

    /// Puts an adapter with values laid out as in files here, replacing any other.
    pub fn build(
        self,
        config: &AdapterConfig,
        path: &str,
        mut values: AdapterValues,
        device: &Device,
    ) -> Result<(), AdapterError> {
        let shape = self.shape();
        let mut factors = |a, b| {
            let mut take = |tensor| values.remove(&tensor).unwrap_or_default();
            LoraFactors { a: take(a), b: take(b) }
        };
        match self {
            Self::Linear(linear) => linear.attach(config.build(path, linear, values, device)?),
            Self::Tokens(place, _) => {
                let factors = factors(AdapterTensor::EmbeddingA, AdapterTensor::EmbeddingB);
                *place = Some(config.on_table(path)?.build(path, shape, factors, device)?);
            }
            Self::Head(place, _) => {
                let factors = factors(AdapterTensor::A, AdapterTensor::B);
                *place = Some(config.on_table(path)?.build(path, shape, factors, device)?);
            }
        }
        Ok(())
    }

    /// The values of a trained adapter for the base as it is, where `values` belong to a base from which the start of
    /// `config` was taken.
    pub fn relative_to_start(
        &self,
        config: &LoraConfig,
        path: &str,
        mut values: AdapterValues,
    ) -> Result<AdapterValues, ModelError> {
        let refuse = |problem: &str| AdapterError::Initial { path: path.into(), problem: problem.into() };
        let Self::Linear(linear) = self else {
            return Err(refuse("this start is one of linear maps").into());
        };
        if linear.quantized_weight().is_some() {
            let problem = "the adapter began at a part of the weight, which cannot be found in a quantized one; use the original weights";
            return Err(refuse(problem).into());
        }
        Ok(config.relative_to_start(path, linear, LoraFactors::from(&mut values))?.into())
    }

    /// Removes the adapter and returns it.
    pub fn detach(&mut self) -> Option<Adapter> {
        match self {
            Self::Linear(linear) => linear.detach(),
            Self::Tokens(place, _) | Self::Head(place, _) => place.take().map(Adapter::Lora),
        }
    }

    /// Adds `other` to the adapter that is here, or puts it in the empty place.
    pub fn attach_beside(&mut self, other: Adapter) -> Result<(), AdapterError> {
        match self {
            Self::Linear(linear) => {
                let both = match linear.adapter() {
                    Some(present) => other.beside(present)?,
                    None => other,
                };
                linear.attach(both);
            }
            Self::Tokens(place, _) | Self::Head(place, _) => {
                let both = match place.take() {
                    Some(present) => other.beside(&Adapter::Lora(present))?,
                    None => other,
                };
                if let Adapter::Lora(lora) = both {
                    **place = Some(lora);
                }
            }
        }
        Ok(())
    }
}

/// An adapter in its place.
pub(crate) struct Placed<'a> {
    /// Our path of the parameter that is adapted.
    pub parameter: String,
    /// Our path of the part that holds the adapter.
    part: String,
    adapter: Cow<'a, Adapter>,
    table: bool,
}

impl<'a> Placed<'a> {
    /// The adapter on the linear map at `path`, if there is one.
    pub fn linear(path: &str, map: &'a Linear) -> Option<Self> {
        let adapter = Cow::Borrowed(map.adapter()?);
        Some(Self { parameter: join(path, "weight"), part: path.into(), adapter, table: false })
    }

    /// The adapter of the token table `parameter`, which is a field of the part at `part`.
    pub fn tokens(parameter: &str, part: &str, lora: &Lora) -> Self {
        let adapter = Cow::Owned(Adapter::Lora(lora.clone()));
        Self { parameter: parameter.into(), part: part.into(), adapter, table: true }
    }

    /// The adapter on the matrix `parameter` of the output head at `part`.
    pub fn head(parameter: &str, part: &str, lora: &Lora) -> Self {
        Self { table: false, ..Self::tokens(parameter, part, lora) }
    }

    /// Its tensors, laid out as in files.
    pub fn tensors(&self) -> Values {
        let tensors = self.adapter.tensors().into_iter();
        tensors.map(|(tensor, shape, values)| (self.in_files(tensor), shape, values)).collect()
    }

    /// Its parameters; `role` and `distance` are those of the parameter it adapts.
    pub fn parameters(&self, role: Role, distance: usize) -> Vec<ParameterInfo> {
        let part = join(&self.part, "adapter");
        let info = |(tensor, shape): (AdapterTensor, Vec<usize>)| ParameterInfo {
            path: join(&part, tensor.field()),
            shape,
            role,
            distance,
            adapter: Some(self.in_files(tensor)),
        };
        self.adapter.parameters().into_iter().map(info).collect()
    }

    fn in_files(&self, tensor: AdapterTensor) -> AdapterTensor {
        if self.table { of_table(tensor) } else { tensor }
    }
}

/// The name in files of a tensor of a token table's adapter.
fn of_table(tensor: AdapterTensor) -> AdapterTensor {
    match tensor {
        AdapterTensor::A => AdapterTensor::EmbeddingA,
        AdapterTensor::B => AdapterTensor::EmbeddingB,
        other => other,
    }
}
