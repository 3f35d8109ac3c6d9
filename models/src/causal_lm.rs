//! A language model: decoder, configuration, names, and the adapters on it.

use std::borrow::Cow;
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
use crate::transformer::{Decoder, DecoderConfig, EMBEDDING, HEAD};
use crate::weights::{
    Checkpoint, CheckpointPlan, Dtype, Expected, HeadTie, Layout, PlanOptions, RuleSet, TensorSpec, Written,
};

/// How the matrices of the blocks are held in memory; everything else is f32.
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
        let mut source = FromCheckpoint::new(&checkpoint, &plan, hold, device);
        let decoder = Decoder::new(&shape, &mut source);
        source.finish()?;
        let stored = checkpoint.tensors().map(|view| (view.name.to_string(), view.dtype)).collect();
        Ok(Self { decoder: decoder.no_grad(), family, config, rules, stored, tied: Some(tie) })
    }

    /// A model with fresh values. All parameters are frozen.
    ///
    /// # Errors
    /// A configuration that is not supported.
    pub fn random(folder: &Path, seed: u64, device: &Device) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        let family = Family::of(&config)?;
        let shape = family.config(&config)?;
        let rules = Arc::new(family.rules(&shape)?);
        let mut source = Random { seed, deviation: shape.initializer_range, device: device.clone() };
        let decoder = Decoder::new(&shape, &mut source).no_grad();
        Ok(Self { decoder, family, config, rules, stored: HashMap::new(), tied: None })
    }

    /// The model of a folder's configuration without values: for its names and shapes. It must not be run.
    ///
    /// # Errors
    /// A configuration that is not supported.
    pub fn outline(folder: &Path) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        let family = Family::of(&config)?;
        let shape = family.config(&config)?;
        let rules = Arc::new(family.rules(&shape)?);
        let decoder = Decoder::new(&shape, &mut Shapes);
        Ok(Self { decoder, family, config, rules, stored: HashMap::new(), tied: None })
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

    /// Writes the weights, without adapters: every tensor in `dtype`, or as it was stored (f32 where it was not).
    /// `layout` repeats the files of that checkpoint when names, dtypes and shapes allow it.
    ///
    /// # Errors
    /// Those of writing, with the path.
    pub fn save_weights(
        &self,
        folder: &Path,
        dtype: Option<Dtype>,
        layout: Option<&Checkpoint>,
    ) -> Result<Written, ModelError> {
        let mut tensors = HashMap::new();
        let mut specs = vec![];
        let mut problem = None;
        let mut add = |path: &str, shape: &[usize], values: Values| match their_name(&self.rules, path) {
            Ok(name) => {
                let dtype = dtype.or(self.stored_dtype(&name)).unwrap_or(Dtype::F32);
                let layout = self.rules.layout(path);
                specs.push(TensorSpec { name: name.clone(), dtype, shape: layout.shape(shape) });
                tensors.insert(name, (values, layout, shape.to_vec()));
            }
            Err(error) => problem = Some(error),
        };
        visit(&self.decoder, &mut |ParameterView { path, shape, value }| {
            if !is_adapter(path) {
                add(path, shape, Values::Tensor(Box::new(value())));
            }
        });
        for (path, map) in self.decoder.clone().linears_mut() {
            if let Some(weight) = map.packed_weight() {
                add(&format!("{path}.weight"), &weight.shape(), Values::Packed(Arc::clone(weight)));
            }
        }
        if let Some(problem) = problem {
            return Err(problem);
        }
        let options = PlanOptions::default();
        let plan = match layout {
            Some(checkpoint) => CheckpointPlan::like(checkpoint, specs, &options)?,
            None => CheckpointPlan::new(specs, &options)?,
        };
        plan.write(folder, |spec| {
            let value = tensors.get(&spec.name);
            let value = value.map(|(values, layout, shape)| layout.convert(values.on_host(), shape));
            Ok(Cow::Owned(value.and_then(|values| spec.dtype.encode(&values)).unwrap_or_default()))
        })
    }

    /// The text of `config.json` for weights written in `dtype`: unknown keys kept, the head's tie and the dtype as they
    /// now are.
    pub fn config_json(&self, dtype: Option<Dtype>) -> String {
        let mut config = self.config.clone();
        let tied = self.decoder.config().head.tied;
        if self.family.config(&config).is_ok_and(|shape| shape.head.tied != tied) {
            config.set("tie_word_embeddings", tied);
        }
        if let Some(dtype) = dtype {
            let key = if config.map().contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
            let name = match dtype {
                Dtype::BF16 => "bfloat16",
                Dtype::F16 => "float16",
                _ => "float32",
            };
            config.set(key, name);
        }
        config.to_json()
    }

    /// How the head and the embedding relate in the files the model came from.
    pub fn head_tie(&self) -> Option<&HeadTie> {
        self.tied.as_ref()
    }

    fn stored_dtype(&self, theirs: &str) -> Option<Dtype> {
        self.stored.get(theirs).copied().filter(|dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16))
    }
}

fn is_adapter(path: &str) -> bool {
    path.contains(".adapter.")
}

/// Where the values of a tensor to be written are.
enum Values {
    Tensor(Box<AnyTensor>),
    /// Dequantised when it is written.
    Packed(Arc<PackedWeight>),
}

impl Values {
    fn on_host(&self) -> Vec<f32> {
        match self {
            Self::Tensor(tensor) => host_values(tensor),
            Self::Packed(weight) => weight.values(),
        }
    }
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
