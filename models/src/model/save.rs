//! Saving a model: [`Model::save_weights`] writes its weights files and [`Model::config_json`] its configuration.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use firebrand_kernels::{QuantizationScheme, QuantizedWeight};

use super::Model;
use super::write_as::{Values, WriteAs, quantize, unwritable};
use crate::error::ModelError;
use crate::network::Ends;
use crate::parameters::{AnyTensor, Role, join, visit};
use crate::quantization_config::{self, FourBitConfig};
use crate::weights::{Checkpoint, CheckpointPlan, Dtype, Layout, PlanOptions, TensorSpec, Written};

impl Model {
    /// Writes the weights, without adapters. `layout` repeats the layout of that checkpoint's files if names, dtypes
    /// and shapes allow it.
    ///
    /// # Errors
    /// Errors of writing, with the path; a quantization that no reader supports; a value that is not finite in the dtype
    /// it is written in.
    pub fn save_weights(
        &self,
        folder: &Path,
        write_as: impl Into<WriteAs>,
        layout: Option<&Checkpoint>,
    ) -> Result<Written, ModelError> {
        let write_as = write_as.into();
        let scheme = self.scheme_to_write(write_as)?;
        let dtype_of = |path: &str, name: &str| match write_as {
            WriteAs::Dense(dtype) => dtype,
            WriteAs::Stored | WriteAs::Quantized(_) => self.stored_dtype(path, name).unwrap_or(Dtype::F32),
        };
        let tensors_of = |path: &str, shape: &[usize], weight: Weight<'_>| {
            let name = self.component.name_in_files(path)?;
            // In a folder of quantized weights, maps that were not quantized stay so.
            let was = self.component.quantized.is_none() || self.component.stored.get(&name) == Some(&Dtype::U8);
            let may = was && weight.is_linear();
            let quantizes = |config: &FourBitConfig| may && config.quantizes(module_of(&name));
            match (weight, scheme.as_ref().filter(|(_, config)| quantizes(config))) {
                (Weight::Quantized(weight), Some((scheme, _))) if weight.scheme() == *scheme => {
                    Values::of_quantized(&name, weight)
                }
                (weight, Some((scheme, _))) => {
                    let shape = [shape[0], shape.iter().skip(1).product()];
                    let weight = quantize(&name, &weight.values(), shape, dtype_of(path, &name), *scheme)?;
                    Values::of_quantized(&name, &Arc::new(weight))
                }
                (weight, None) => {
                    let layout = self.rules().layout(path);
                    let spec = TensorSpec { dtype: dtype_of(path, &name), shape: layout.shape(shape), name };
                    Ok(vec![(spec, weight.dense(layout, shape))])
                }
            }
        };
        let roles: HashMap<&str, Role> = self.parameters.iter().map(|info| (info.path.as_str(), info.role)).collect();
        let mut found: Vec<(TensorSpec, Values)> = vec![];
        let mut problem = None;
        let mut add = |path: &str, shape: &[usize], weight: Weight<'_>| match tensors_of(path, shape, weight) {
            Ok(tensors) => found.extend(tensors),
            Err(error) => {
                problem.get_or_insert(error);
            }
        };
        visit(&self.network, &mut |parameter| {
            // A parameter that is not of the base model belongs to an adapter.
            if let Some(role) = roles.get(parameter.path) {
                let value = (parameter.value)();
                let weight = if role.is_linear() { Weight::Linear(value) } else { Weight::Other(value) };
                add(parameter.path, parameter.shape, weight);
            }
        });
        for (path, map) in self.network.linears() {
            if let Some(weight) = map.quantized_weight() {
                add(&join(&path, "weight"), &weight.shape(), Weight::Quantized(weight));
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        let options = PlanOptions { base_name: self.family.weights_file().to_owned(), ..PlanOptions::default() };
        let specs = found.iter().map(|(spec, _)| spec.clone()).collect();
        let plan = match layout {
            Some(checkpoint) => CheckpointPlan::like(checkpoint, specs, &options)?,
            None => CheckpointPlan::new(specs, &options)?,
        };
        let tensors: HashMap<String, Values> = found.into_iter().map(|(spec, values)| (spec.name, values)).collect();
        plan.write(folder, |spec| match tensors.get(&spec.name) {
            Some(values) => values.bytes(spec),
            None => Ok(Cow::default()),
        })
    }

    /// Checks that the model can be written like this.
    ///
    /// # Errors
    /// A quantization that no reader supports.
    pub fn check_writable(&self, write_as: WriteAs) -> Result<(), ModelError> {
        self.scheme_to_write(write_as).map(|_| ())
    }

    /// How linear maps are quantized in the files to be written, and what `config.json` says of it.
    fn scheme_to_write(&self, write_as: WriteAs) -> Result<Option<(QuantizationScheme, FourBitConfig)>, ModelError> {
        let stored = self.component.quantized.zip(FourBitConfig::of(&self.component.config)?);
        match (write_as, stored) {
            (WriteAs::Dense(_), _) | (WriteAs::Stored, None) => Ok(None),
            (WriteAs::Stored, Some(((scheme, _), config))) => Ok(Some((scheme, config))),
            (WriteAs::Quantized(asked), Some(((scheme, _), config))) if asked == scheme => Ok(Some((scheme, config))),
            (WriteAs::Quantized(scheme), _) if !self.family.has_quantized_folders() => Err(ModelError::Unwritable {
                tensor: "the linear maps".to_owned(),
                problem: format!("folders of {} are not written in {scheme}; write them in bf16", self.family.name()),
            }),
            (WriteAs::Quantized(scheme), _) => match (FourBitConfig::new(scheme), self.has_experts()) {
                (Some(_), true) => Err(ModelError::Unwritable {
                    tensor: "the experts".to_owned(),
                    problem: "transformers reads no quantized experts: they are stacked tensors to it".to_owned(),
                }),
                (Some(config), false) => Ok(Some((scheme, config))),
                (None, _) => Err(unwritable(scheme)),
            },
        }
    }

    /// The text of `config.json` for weights written like this: unknown keys are kept; tie, dtype and quantization are
    /// updated.
    pub fn config_json(&self, write_as: impl Into<WriteAs>) -> String {
        let write_as = write_as.into();
        let mut config = self.component.config.clone();
        let said = self.family.config(&config).ok().and_then(|shape| shape.ends());
        if let (Some(said), Some(ends)) = (said, self.ends())
            && said.tied != ends.tied
        {
            config.set("tie_word_embeddings", ends.tied);
        }
        // A quantization that cannot be written leaves the configuration as it is; `save_weights` reports the error.
        match (write_as, self.scheme_to_write(write_as).ok().flatten()) {
            (WriteAs::Dense(_), _) if !self.family.states_dtype() => {}
            (WriteAs::Dense(dtype), _) => {
                if config.says(quantization_config::KEY) {
                    config = config.without(quantization_config::KEY);
                }
                let key = if config.says("torch_dtype") { "torch_dtype" } else { "dtype" };
                config.set(key, dtype.torch_name());
            }
            (_, Some((_, quantized))) if FourBitConfig::of(&config).ok().flatten().as_ref() != Some(&quantized) => {
                config.set(quantization_config::KEY, quantized.to_json(self.linear_precision()));
            }
            (WriteAs::Stored | WriteAs::Quantized(_), _) => {}
        }
        config.to_json()
    }

    /// The precision of linear maps in the model's files.
    fn linear_precision(&self) -> Dtype {
        let mut maps = self.parameters.iter().filter(|info| info.role.is_linear());
        let stored = maps.find_map(|info| self.stored_dtype(&info.path, &self.rules().to_theirs(&info.path)?));
        self.component.quantized.map(|(_, precision)| precision).or(stored).unwrap_or(Dtype::F32)
    }

    /// Whether it has experts.
    fn has_experts(&self) -> bool {
        self.parameters.iter().any(|info| info.role == Role::ExpertMap)
    }

    /// The dtype of a parameter in the model's files. A head that was untied is stored like the embedding.
    fn stored_dtype(&self, ours: &str, theirs: &str) -> Option<Dtype> {
        let stored = &self.component.stored;
        let table = |ends: Ends| stored.get(&self.component.name_in_files(ends.embedding).ok()?);
        let stored = stored.get(theirs).or_else(|| self.ends().filter(|ends| ends.head == ours).and_then(table));
        // New scores are stored like the embedding too.
        let of_score = || self.network.config().is_of_scores(ours).then(|| self.table()).flatten();
        let stored = stored.or_else(|| {
            of_score().and_then(|table| self.component.stored.get(&self.component.name_in_files(table).ok()?))
        });
        match (stored?, self.component.quantized) {
            (dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16), _) => Some(*dtype),
            // The file holds codes; the weight has the precision from which they were quantized.
            (Dtype::U8, Some((_, precision))) => Some(precision),
            _ => None,
        }
    }
}

/// A parameter to be written.
enum Weight<'a> {
    /// The matrix of a linear map.
    Linear(AnyTensor),
    /// A quantized matrix of a linear map.
    Quantized(&'a Arc<QuantizedWeight>),
    Other(AnyTensor),
}

impl Weight<'_> {
    fn is_linear(&self) -> bool {
        match self {
            Self::Linear(_) | Self::Quantized(_) => true,
            Self::Other(_) => false,
        }
    }

    fn values(&self) -> Vec<f32> {
        match self {
            Self::Linear(tensor) | Self::Other(tensor) => tensor.values(),
            Self::Quantized(weight) => weight.values(),
        }
    }

    fn dense(self, layout: Layout, shape: &[usize]) -> Values {
        match self {
            Self::Linear(tensor) | Self::Other(tensor) => {
                Values::Tensor { tensor: Box::new(tensor), layout, shape: shape.to_vec() }
            }
            Self::Quantized(weight) => Values::Quantized { weight: Arc::clone(weight), layout },
        }
    }
}

/// The module of a weight, by its name in files.
fn module_of(weight: &str) -> &str {
    weight.strip_suffix(".weight").unwrap_or(weight)
}
