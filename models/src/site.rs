//! What an adapter can be on: a linear map, the token table, the output head.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use firebrand_adapters::{
    Adapter, AdapterConfig, AdapterError, AdapterTensor, AdapterValues, Linear, Lora, LoraFactors,
};

use crate::error::ModelError;
use crate::model_files::ModelFiles;

/// A place for an adapter.
#[expect(clippy::large_enum_variant, reason = "made one at a time and dropped at once")]
pub(crate) enum Site<'a> {
    /// A linear map.
    Linear(&'a mut Linear),
    /// The token table, of `[width, rows]` as the map from one-hot ids that it is.
    Tokens(&'a mut Option<Lora>, [usize; 2]),
    /// The output head with its matrix.
    Head(&'a mut Option<Lora>, Tensor<2>),
}

/// A tensor of an adapter, its shape and its values.
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

    /// What files call a tensor of the adapter here.
    fn in_files(&self, tensor: AdapterTensor) -> AdapterTensor {
        match (self, tensor) {
            (Self::Tokens(..), AdapterTensor::A) => AdapterTensor::EmbeddingA,
            (Self::Tokens(..), AdapterTensor::B) => AdapterTensor::EmbeddingB,
            (_, tensor) => tensor,
        }
    }

    /// Tensors of the adapter that `config` puts at `path`, and their shapes, as in files.
    pub fn shapes(&self, config: &AdapterConfig, path: &str) -> Result<Vec<(AdapterTensor, Vec<usize>)>, AdapterError> {
        if !matches!(self, Self::Linear(_)) {
            config.on_table(path)?;
        }
        let shapes = config.shapes(path, self.shape())?;
        Ok(shapes.into_iter().map(|(tensor, shape)| (self.in_files(tensor), shape)).collect())
    }

    /// The starting values, as in files. `original`: the model's files, where the start needs what packing lost.
    pub fn initial(
        &self,
        config: &AdapterConfig,
        seed: u64,
        path: &str,
        original: Option<&ModelFiles>,
    ) -> Result<AdapterValues, ModelError> {
        let values: AdapterValues = match self {
            Self::Linear(linear) => {
                let weight = original.map(|files| files.values_of_map(path)).transpose()?;
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

    /// Puts an adapter with values as in files here, in place of any other.
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

    /// The tensors of the adapter that is here, as in files.
    pub fn tensors(&self) -> Option<Values> {
        let values = match self {
            Self::Linear(linear) => linear.adapter().map(Adapter::tensors),
            Self::Tokens(place, _) | Self::Head(place, _) => {
                place.as_ref().map(|lora| Adapter::Lora(lora.clone()).tensors())
            }
        };
        Some(values?.into_iter().map(|(tensor, shape, values)| (self.in_files(tensor), shape, values)).collect())
    }

    /// Takes the adapter off.
    pub fn detach(&mut self) -> Option<Adapter> {
        match self {
            Self::Linear(linear) => linear.detach(),
            Self::Tokens(place, _) | Self::Head(place, _) => place.take().map(Adapter::Lora),
        }
    }

    /// Puts `other` beside the adapter that is here, or in its empty place.
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
