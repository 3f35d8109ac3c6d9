//! A model as files: its weights and its `config.json`, dense or packed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use firebrand_kernels::{PackedWeight, Packing};

use super::{CausalLm, host_values, is_adapter, their_name};
use crate::error::ModelError;
use crate::parameters::{AnyTensor, ParameterView, visit};
use crate::quantization_config::{self, FourBitConfig};
use crate::transformer::{Decoder, EMBEDDING, HEAD, MlpConfig};
use crate::weights::{Checkpoint, CheckpointPlan, Dtype, Layout, PlanOptions, TensorSpec, Written};
use crate::write_as::{Values, WriteAs, pack, unwritable};

impl CausalLm {
    /// Writes the weights, without adapters. `layout` repeats the files of that checkpoint when names, dtypes and shapes allow it.
    ///
    /// # Errors
    /// Those of writing, with the path; a packing that nobody reads.
    pub fn save_weights(
        &self,
        folder: &Path,
        write_as: impl Into<WriteAs>,
        layout: Option<&Checkpoint>,
    ) -> Result<Written, ModelError> {
        let write_as = write_as.into();
        let packing = self.packing_to_write(write_as)?;
        let dtype_of = |path: &str, name: &str| match write_as {
            WriteAs::Dense(dtype) => dtype,
            WriteAs::Stored | WriteAs::Packed(_) => self.stored_dtype(path, name).unwrap_or(Dtype::F32),
        };
        let mut found: Vec<(TensorSpec, Values)> = vec![];
        let mut problem = None;
        let mut add = |path: &str, shape: &[usize], weight: Weight<'_>| {
            let tensors = their_name(&self.rules, path).and_then(|name| {
                // In a folder of packed weights, what is not packed stays so.
                let was = self.stored_packed.is_none() || self.stored.get(&name) == Some(&Dtype::U8);
                let packs = |config: &FourBitConfig| weight.is_linear() && was && config.packs(module_of(&name));
                let packing = packing.as_ref().filter(|(_, config)| packs(config));
                match (weight, packing) {
                    (Weight::Packed(weight), Some((packing, _))) if weight.packing() == *packing => {
                        Values::of_packed(&name, weight)
                    }
                    (weight, Some((packing, _))) => {
                        let shape = [shape[0], shape.iter().skip(1).product()];
                        let weight = pack(&name, &weight.values(), shape, dtype_of(path, &name), *packing)?;
                        Values::of_packed(&name, &Arc::new(weight))
                    }
                    (weight, None) => {
                        let layout = self.rules.layout(path);
                        let spec = TensorSpec { dtype: dtype_of(path, &name), shape: layout.shape(shape), name };
                        Ok(vec![(spec, weight.unpacked(layout, shape))])
                    }
                }
            });
            match tensors {
                Ok(tensors) => found.extend(tensors),
                Err(error) => {
                    problem.get_or_insert(error);
                }
            }
        };
        let mut decoder = self.decoder.clone();
        let linears: HashMap<String, Option<Arc<PackedWeight>>> =
            decoder.linears_mut().into_iter().map(|(path, map)| (path, map.packed_weight().cloned())).collect();
        visit(&self.decoder, &mut |ParameterView { path, shape, value }| {
            if !is_adapter(path) {
                let linear = path
                    .strip_suffix(".weight")
                    .is_some_and(|map| linears.contains_key(map) && !Decoder::is_router(map));
                add(path, shape, if linear { Weight::Linear(value()) } else { Weight::Other(value()) });
            }
        });
        for (path, map) in decoder.linears_mut() {
            if let Some(weight) = map.packed_weight() {
                add(&format!("{path}.weight"), &weight.shape(), Weight::Packed(weight));
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        let options = PlanOptions::default();
        let specs = found.iter().map(|(spec, _)| spec.clone()).collect();
        let plan = match layout {
            Some(checkpoint) => CheckpointPlan::like(checkpoint, specs, &options)?,
            None => CheckpointPlan::new(specs, &options)?,
        };
        let tensors: HashMap<String, Values> = found.into_iter().map(|(spec, values)| (spec.name, values)).collect();
        plan.write(folder, |spec| Ok(tensors.get(&spec.name).map(|values| values.bytes(spec)).unwrap_or_default()))
    }

    /// How linear maps are packed in what is written, and what `config.json` says of it.
    fn packing_to_write(&self, write_as: WriteAs) -> Result<Option<(Packing, FourBitConfig)>, ModelError> {
        let stored = self.stored_packed.zip(FourBitConfig::of(&self.config)?);
        match (write_as, stored) {
            (WriteAs::Dense(_), _) | (WriteAs::Stored, None) => Ok(None),
            (WriteAs::Stored, Some(((packing, _), config))) => Ok(Some((packing, config))),
            (WriteAs::Packed(asked), Some(((packing, _), config))) if asked == packing => Ok(Some((packing, config))),
            (WriteAs::Packed(packing), _) => match (FourBitConfig::new(packing), &self.decoder.config().mlp) {
                (Some(_), MlpConfig::Experts { .. }) => Err(ModelError::Unwritable {
                    tensor: "the experts".to_owned(),
                    problem: "transformers reads no packed experts: they are stacked tensors to it".to_owned(),
                }),
                (Some(config), _) => Ok(Some((packing, config))),
                (None, _) => Err(unwritable(packing)),
            },
        }
    }

    /// The text of `config.json` for weights written so: unknown keys kept, the head's tie, the dtype and the packing as they now are.
    pub fn config_json(&self, write_as: impl Into<WriteAs>) -> String {
        let write_as = write_as.into();
        let mut config = self.config.clone();
        let tied = self.decoder.config().head.tied;
        if self.family.config(&config).is_ok_and(|shape| shape.head.tied != tied) {
            config.set("tie_word_embeddings", tied);
        }
        // What cannot be written has no configuration either, and `save_weights` says so.
        match (write_as, self.packing_to_write(write_as).ok().flatten()) {
            (WriteAs::Dense(dtype), _) => {
                if config.says(quantization_config::KEY) {
                    config = config.without(quantization_config::KEY);
                }
                let key = if config.says("torch_dtype") { "torch_dtype" } else { "dtype" };
                config.set(key, dtype.torch_name());
            }
            (_, Some((_, packed))) if FourBitConfig::of(&config).ok().flatten().as_ref() != Some(&packed) => {
                config.set(quantization_config::KEY, packed.to_json(self.linear_precision()));
            }
            (WriteAs::Stored | WriteAs::Packed(_), _) => {}
        }
        config.to_json()
    }

    /// The precision of the linear maps in the files the model came from.
    fn linear_precision(&self) -> Dtype {
        let maps = self.decoder.clone().linears_mut().into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        let stored = |map: &String| {
            let path = format!("{map}.weight");
            self.stored_dtype(&path, &self.rules.to_theirs(&path)?)
        };
        let stored = maps.iter().filter_map(stored).next();
        self.stored_packed.map(|(_, precision)| precision).or(stored).unwrap_or(Dtype::F32)
    }

    /// A head that was the token table is stored as that was.
    fn stored_dtype(&self, ours: &str, theirs: &str) -> Option<Dtype> {
        let table = || self.stored.get(&self.name_in_files(EMBEDDING).ok()?);
        let found = self.stored.get(theirs).or_else(|| if ours == HEAD { table() } else { None });
        match (found?, self.stored_packed) {
            (dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16), _) => Some(*dtype),
            // Codes: the weight has the precision that they came from.
            (Dtype::U8, Some((_, precision))) => Some(precision),
            _ => None,
        }
    }
}

/// A parameter to be written.
enum Weight<'a> {
    /// The matrix of a linear map.
    Linear(AnyTensor),
    /// The same in few bits.
    Packed(&'a Arc<PackedWeight>),
    Other(AnyTensor),
}

impl Weight<'_> {
    fn is_linear(&self) -> bool {
        match self {
            Self::Linear(_) | Self::Packed(_) => true,
            Self::Other(_) => false,
        }
    }

    fn values(&self) -> Vec<f32> {
        match self {
            Self::Linear(tensor) | Self::Other(tensor) => host_values(tensor),
            Self::Packed(weight) => weight.values(),
        }
    }

    fn unpacked(self, layout: Layout, shape: &[usize]) -> Values {
        match self {
            Self::Linear(tensor) | Self::Other(tensor) => {
                Values::Tensor { tensor: Box::new(tensor), layout, shape: shape.to_vec() }
            }
            Self::Packed(weight) => Values::Packed { weight: Arc::clone(weight), layout },
        }
    }
}

/// The module of a weight, by its name in files.
fn module_of(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}
