//! A language model: decoder, configuration, names, and the adapters on it. Writing it is `save.rs`.

mod save;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use firebrand_adapters::Linear;
use firebrand_kernels::{PackedWeight, Packing};

use crate::error::ModelError;
use crate::families::{self, Family};
use crate::hf_config::HfConfig;
use crate::load::FromCheckpoint;
use crate::model_files::ModelFiles;
use crate::parameters::{AnyTensor, ParameterInfo, ParameterView, Random, Shapes, parameters, visit};
use crate::quantization_config::{self, FourBitConfig};
use crate::site::Site;
use crate::transformer::{Decoder, DecoderConfig, EMBEDDING, HEAD};
use crate::weights::{Dtype, HeadTie, Layout, RuleSet};
use crate::write_as::precision;

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
        let files = ModelFiles::open(folder)?;
        let mut source = FromCheckpoint::new(&files, hold, device);
        let decoder = Decoder::new(files.decoder(), &mut source);
        source.finish()?;
        let stored = files.checkpoint().tensors().map(|view| (view.name.to_string(), view.dtype)).collect();
        let mut model = Self {
            decoder: decoder.no_grad(),
            family: files.family(),
            config: files.config().clone(),
            rules: Arc::clone(files.rules()),
            stored,
            stored_packed: None,
            tied: Some(files.head_tie().clone()),
        };
        model.stored_packed = files.packing().zip(model.packed_weights().first().map(|weight| precision(weight)));
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

    /// Hugging Face paths of the linear maps, in the order of the model: all but the head.
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

    /// Everything that adapters can be on, with its Hugging Face path: the linear maps, the token table, the head.
    pub(crate) fn sites(&mut self) -> Result<Vec<(String, Site<'_>)>, ModelError> {
        let (tokens, head) = (self.name_for_peft(EMBEDDING)?, self.name_for_peft(HEAD)?);
        let module = |name: String| name.strip_suffix(".weight").map_or(name.clone(), String::from);
        let weight = self.decoder.head_weight();
        let [rows, width] = self.decoder.embedding_shape();
        let Self { rules, decoder, .. } = self;
        let (linears, token_adapter, head_adapter) = decoder.adapter_places();
        let mut sites = vec![];
        for (path, map) in linears {
            sites.push((their_module(rules, &path)?, Site::Linear(map)));
        }
        sites.push((module(tokens), Site::Tokens(token_adapter, [width, rows])));
        sites.push((module(head), Site::Head(head_adapter, weight)));
        Ok(sites)
    }

    /// The name of a parameter in files.
    fn name_in_files(&self, ours: &str) -> Result<String, ModelError> {
        their_name(&self.rules, ours)
    }

    /// The name of a parameter for PEFT, which goes by modules in memory: those are called as in files, but for the head of GPT-NeoX.
    ///
    /// # Errors
    /// No rule of the family names it.
    pub fn name_for_peft(&self, ours: &str) -> Result<String, ModelError> {
        match ours.strip_prefix("head.") {
            Some(part) => Ok(families::head_for_peft(part)),
            None => self.name_in_files(ours),
        }
    }

    /// Gives a head that is the token table a matrix of its own.
    pub(crate) fn untie(&mut self) {
        self.decoder.untie();
    }

    /// Paths and shapes of the packed matrices, as if they were parameters.
    pub(crate) fn packed_shapes(&mut self) -> Vec<(String, [usize; 2])> {
        let maps = self.decoder.linears_mut().into_iter();
        maps.filter_map(|(path, map)| Some((format!("{path}.weight"), map.packed_weight()?.shape()))).collect()
    }

    /// Names of the parameters of the base that are trained beside adapters.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn trained_base_names(&self) -> Result<Vec<String>, ModelError> {
        let trained = self.trained_parameters().into_iter().filter(|info| !is_adapter(&info.path));
        trained.map(|info| self.name_for_peft(&info.path)).collect()
    }

    /// Path and shape of every parameter that is trained, once [`Self::train_all`] or [`Self::train_active`] made it so.
    pub fn trained_parameters(&self) -> Vec<ParameterInfo> {
        let mut found = vec![];
        visit(&self.decoder, &mut |ParameterView { path, shape, value }| {
            let trained = match value() {
                AnyTensor::Vector(tensor) => tensor.is_require_grad(),
                AnyTensor::Matrix(tensor) => tensor.is_require_grad(),
            };
            if trained {
                found.push(ParameterInfo { path: path.into(), shape: shape.to_vec() });
            }
        });
        found
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
        self.decoder.merge_outer_adapters();
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

    /// How the head and the embedding relate in the files the model came from.
    pub fn head_tie(&self) -> Option<&HeadTie> {
        self.tied.as_ref()
    }
}

fn is_adapter(path: &str) -> bool {
    path.contains(".adapter.")
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
