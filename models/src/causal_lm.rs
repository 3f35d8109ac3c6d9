//! A language model: decoder, configuration, names, and the adapters on it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use firebrand_adapters::{Adapter, Linear};
use firebrand_kernels::{PackedWeight, Packing};

use crate::error::ModelError;
use crate::families::Family;
use crate::hf_config::HfConfig;
use crate::load::FromCheckpoint;
use crate::parameters::{AnyTensor, ParameterView, Random, Shapes, parameters, visit};
use crate::quantization_config::{self, FourBitConfig, check_packing};
use crate::transformer::{Decoder, DecoderConfig, EMBEDDING, HEAD, MlpConfig};
use crate::weights::{
    Checkpoint, CheckpointPlan, Dtype, Expected, HeadTie, Layout, PlanOptions, RuleSet, TensorSpec, Written,
};
use crate::write_as::{Values, WriteAs, pack, precision, unwritable};

/// How the matrices of the blocks are held in memory; everything else is f32. What a folder has packed is held as it is: then
/// [`Hold::Packed`] may only name the packing that is there, and the others are about what is not packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// 4 bytes a parameter.
    F32,
    /// 2 bytes; exact when the file is bf16.
    Bf16,
    /// 2 bytes; exact when the file is f16.
    F16,
    /// Packed while they are read, tensor by tensor: about half a byte in 4 bits, about one in 8.
    Packed(Packing),
}

/// A causal language model.
#[derive(Debug, Clone)]
pub struct CausalLm {
    decoder: Decoder,
    family: Family,
    config: HfConfig,
    rules: Arc<RuleSet>,
    /// Dtype of each tensor in the files the model came from, by their name.
    stored: HashMap<String, Dtype>,
    /// How the folder's linear maps are packed, and the precision they were packed from.
    stored_packed: Option<(Packing, Dtype)>,
    tied: Option<HeadTie>,
}

impl CausalLm {
    /// Reads a model folder. All parameters are frozen.
    ///
    /// # Errors
    /// A configuration that is not supported, a damaged file, or tensors that do not fit the configuration one to one.
    pub fn load(folder: &Path, hold: Hold, device: &Device) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        let family = Family::of(&config)?;
        let mut shape = family.config(&config)?;
        let rules = Arc::new(family.rules(&shape)?);
        let checkpoint = Checkpoint::open(folder)?;
        let tie = HeadTie::resolve(&rules, &checkpoint, EMBEDDING, HEAD, shape.head.tied);
        shape.head.tied = tie.outcome.is_tied();
        let expected: Vec<Expected> = parameters(&Decoder::new(&shape, &mut Shapes))
            .into_iter()
            .map(|info| Expected { name: info.path, shape: info.shape })
            .collect();
        let plan = rules.account(&checkpoint, &expected, Some(&tie))?;
        let packing = check_packing(&config, &checkpoint, &rules, &expected, &plan)?;
        let mut source = FromCheckpoint::new(&checkpoint, &plan, hold, device);
        let decoder = Decoder::new(&shape, &mut source);
        source.finish()?;
        let stored = checkpoint.tensors().map(|view| (view.name.to_string(), view.dtype)).collect();
        let mut model =
            Self { decoder: decoder.no_grad(), family, config, rules, stored, stored_packed: None, tied: Some(tie) };
        model.stored_packed = packing.zip(model.packed_weights().first().map(|weight| precision(weight)));
        Ok(model)
    }

    /// A model with fresh values. All parameters are frozen.
    ///
    /// # Errors
    /// A configuration that is not supported, or of packed weights.
    pub fn random(folder: &Path, seed: u64, device: &Device) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        if FourBitConfig::of(&config)?.is_some() {
            return Err(config.wrong(quantization_config::KEY, "none: fresh values are not packed", "packed weights"));
        }
        let family = Family::of(&config)?;
        let shape = family.config(&config)?;
        let rules = Arc::new(family.rules(&shape)?);
        let mut source = Random { seed, deviation: shape.initializer_range, device: device.clone() };
        let decoder = Decoder::new(&shape, &mut source).no_grad();
        Ok(Self { decoder, family, config, rules, stored: HashMap::new(), stored_packed: None, tied: None })
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Its architecture.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Names of its tensors.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Its `config.json`.
    pub fn config(&self) -> &HfConfig {
        &self.config
    }

    /// Replaces the decoder, after an optimiser step. Only one decoder exists while `change` runs, so its tensors are
    /// not shared and may be updated in place.
    pub fn update(&mut self, change: impl FnOnce(Decoder) -> Decoder) {
        let shape = DecoderConfig { layers: 0, ..self.decoder.config().clone() };
        let empty = Decoder::new(&shape, &mut Shapes);
        self.decoder = change(std::mem::replace(&mut self.decoder, empty));
    }

    fn map_decoder(mut self, change: impl FnOnce(Decoder) -> Decoder) -> Self {
        self.decoder = change(self.decoder);
        self
    }

    /// Every parameter is trained.
    pub fn train_all(self) -> Self {
        self.map_decoder(|decoder| decoder.set_require_grad(true).train())
    }

    /// What is not frozen is trained: after [`crate::adapter_folder::attach`], the adapters.
    pub fn train_active(self) -> Self {
        self.map_decoder(Module::train)
    }

    /// The same model for inference: no gradients, no dropout.
    pub fn for_inference(&self) -> Self {
        Self { decoder: self.decoder.valid(), ..self.clone() }
    }

    /// Hugging Face paths of the linear maps that adapters can be on, in the order of the model: all but the head.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn linear_paths(&mut self) -> Result<Vec<String>, ModelError> {
        Ok(self.linears()?.into_iter().map(|(path, _)| path).collect())
    }

    /// Those of [`Self::linear_paths`] that are adapted when all are asked for: routers are left alone.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn projection_paths(&mut self) -> Result<Vec<String>, ModelError> {
        let Self { rules, decoder, .. } = self;
        let maps = decoder.linears_mut().into_iter().map(|(path, _)| path).filter(|path| !Decoder::is_router(path));
        maps.map(|path| their_module(rules, &path)).collect()
    }

    /// The linear maps of experts.
    pub(crate) fn expert_maps(&mut self) -> Result<Vec<ExpertMap>, ModelError> {
        let Self { rules, decoder, .. } = self;
        let mut found = vec![];
        for (ours, _) in decoder.linears_mut() {
            let Some((layer, rest)) = ours.split_once(".mlp.experts.") else { continue };
            let Some((expert, part)) = rest.split_once('.') else { continue };
            let path = their_module(rules, &ours)?;
            found.push(ExpertMap { layer: layer.into(), expert: expert.into(), part: part.into(), path });
        }
        Ok(found)
    }

    /// The linear maps with their Hugging Face paths.
    pub(crate) fn linears(&mut self) -> Result<Vec<(String, &mut Linear)>, ModelError> {
        let Self { rules, decoder, .. } = self;
        decoder.linears_mut().into_iter().map(|(path, map)| Ok((their_module(rules, &path)?, map))).collect()
    }

    /// The adapters with the Hugging Face paths of the maps they are on.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn adapters(&mut self) -> Result<Vec<(String, &Adapter)>, ModelError> {
        let linears = self.linears()?;
        Ok(linears.into_iter().filter_map(|(path, map)| Some((path, (*map).adapter()?))).collect())
    }

    /// Whether files hold the matrices of these maps with rows and columns exchanged; `adapter_config.json` says so.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn stored_transposed(&mut self, paths: &[String]) -> Result<bool, ModelError> {
        let rules = Arc::clone(&self.rules);
        let maps = self.decoder.linears_mut();
        let transposed = |path: &String| rules.layout(&format!("{path}.weight")) == Layout::Transposed;
        let mut found = maps.iter().map(|(path, _)| path).filter(|path| transposed(path));
        Ok(found.any(|path| their_module(&rules, path).is_ok_and(|name| paths.contains(&name))))
    }

    /// Folds all adapters into their weights, in f32; packed weights become dense.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn merge(&mut self) -> Result<(), ModelError> {
        self.linears()?.into_iter().for_each(|(_, map)| map.merge());
        Ok(())
    }

    /// Parameters of the model and of its adapters.
    pub fn parameter_counts(&self) -> (usize, usize) {
        let (mut base, mut adapters) = (0, 0);
        for info in parameters(&self.decoder) {
            let count: usize = info.shape.iter().product();
            if is_adapter(&info.path) { adapters += count } else { base += count }
        }
        let packed = self.packed_weights().iter().map(|weight| weight.len()).sum::<usize>();
        (base + packed, adapters)
    }

    /// The packed matrices.
    pub fn packed_weights(&self) -> Vec<Arc<PackedWeight>> {
        let mut decoder = self.decoder.clone();
        decoder.linears_mut().into_iter().filter_map(|(_, map)| map.packed_weight().cloned()).collect()
    }

    /// How the folder that the model came from packs its linear maps, and the precision it says they had; `None` where they are not packed.
    pub fn stored_packing(&self) -> Option<(Packing, Dtype)> {
        self.stored_packed
    }

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
        let dtype_of = |name: &str| match write_as {
            WriteAs::Dense(dtype) => dtype,
            WriteAs::Stored | WriteAs::Packed(_) => self.stored_dtype(name).unwrap_or(Dtype::F32),
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
                        let weight = pack(&name, &weight.values(), shape, dtype_of(&name), *packing)?;
                        Values::of_packed(&name, &Arc::new(weight))
                    }
                    (weight, None) => {
                        let layout = self.rules.layout(path);
                        let spec = TensorSpec { dtype: dtype_of(&name), shape: layout.shape(shape), name };
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
        let names = maps.iter().filter_map(|path| self.rules.to_theirs(&format!("{path}.weight")));
        let stored = names.filter_map(|name| self.stored_dtype(&name)).next();
        self.stored_packed.map(|(_, precision)| precision).or(stored).unwrap_or(Dtype::F32)
    }

    /// How the head and the embedding relate in the files the model came from.
    pub fn head_tie(&self) -> Option<&HeadTie> {
        self.tied.as_ref()
    }

    fn stored_dtype(&self, theirs: &str) -> Option<Dtype> {
        match (self.stored.get(theirs)?, self.stored_packed) {
            (dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16), _) => Some(*dtype),
            // Codes: the weight has the precision that they came from.
            (Dtype::U8, Some((_, precision))) => Some(precision),
            _ => None,
        }
    }
}

fn is_adapter(path: &str) -> bool {
    path.contains(".adapter.")
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

/// A linear map of an expert.
pub(crate) struct ExpertMap {
    /// Our path of the layer.
    pub layer: String,
    /// Number of the expert.
    pub expert: String,
    /// `gate`, `up` or `down`.
    pub part: String,
    /// The path in files.
    pub path: String,
}

/// The path in files of the linear map at `path`.
fn their_module(rules: &RuleSet, path: &str) -> Result<String, ModelError> {
    let weight = their_name(rules, &format!("{path}.weight"))?;
    Ok(weight.strip_suffix(".weight").unwrap_or(&weight).to_string())
}

fn their_name(rules: &RuleSet, ours: &str) -> Result<String, ModelError> {
    rules.to_theirs(ours).ok_or_else(|| ModelError::Rules {
        rule: ours.to_string(),
        problem: "no rule of the family names this parameter".into(),
    })
}

/// A parameter's values in f32.
pub(crate) fn host_values(tensor: &AnyTensor) -> Vec<f32> {
    let data: TensorData = match tensor {
        AnyTensor::Vector(tensor) => tensor.to_data(),
        AnyTensor::Matrix(tensor) => tensor.to_data(),
    };
    data.iter::<f32>().collect()
}
