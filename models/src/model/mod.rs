//! A [`Model`] is a network, the names of its tensors in files, and the adapters on it.
//!
//! ```text
//! files.rs     an opened model folder: every tensor paired with a parameter
//! hold.rs      how weights are held in memory
//! load.rs      parameters from such a folder; frozen.rs: of one that is never trained
//! classifier.rs a score for each class in place of the output head
//! component.rs what is known of the files that a model came from
//! dropout.rs   what of dropout its configuration asks for
//! save.rs      writing a model
//! student.rs   a folder with some of the blocks of another, copied
//! vocabulary.rs other numbers of tokens
//! write_as.rs  the dtypes and quantizations that tensors are written in
//! ```
//! Loading, saving, merging and adapters are written once, over paths and roles; no file here knows a kind of network.

mod classifier;
mod component;
mod dropout;
mod files;
pub(crate) mod frozen;
mod hold;
mod load;
mod save;
mod student;
mod vocabulary;
mod write_as;

pub use files::{ModelFiles, TokenModules};
pub use hold::Hold;
pub use student::Student;
pub use vocabulary::VocabularyRows;
pub use write_as::WriteAs;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use firebrand_kernels::{Precision, QuantizationScheme, QuantizedWeight};

use crate::adapter::{Placed, Site};
use crate::error::ModelError;
use crate::families::{Family, HEAD_FOR_PEFT};
use crate::hf_config::HfConfig;
use crate::network::{Ends, Kind, Network, NetworkConfig};
use crate::parameters::{Listing, ParameterInfo, ParameterSource, Random, Role, Shapes, trained, visit};
use crate::quantization_config::{self, FourBitConfig};
use crate::weights::{Dtype, HeadTie, Layout, RuleSet};
use component::Component;
use load::FromCheckpoint;
pub(crate) use write_as::encode_finite;
use write_as::precision;

/// A model of any kind.
#[derive(Debug, Clone)]
pub struct Model {
    network: Network,
    family: Family,
    component: Component,
    /// Parameters of the base model as it was built, with quantized matrices and a head that was untied.
    parameters: Vec<ParameterInfo>,
    /// What a user should know of its files although nothing is wrong.
    notes: Vec<String>,
}

impl Model {
    /// Reads a model folder. All parameters are frozen.
    ///
    /// # Errors
    /// A configuration that is not supported, a damaged file, tensors that do not match the configuration one to one.
    pub fn load(folder: &Path, hold: Hold, device: &Device) -> Result<Self, ModelError> {
        let files = ModelFiles::open(folder)?;
        Self::of_files(&files, files.network(), hold, device)
    }

    /// Reads the weights of another folder into a network of this model's configuration, which the folder must have, and precision.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self, folder: &Path, hold: Hold, device: &Device) -> Result<Self, ModelError> {
        let model = Self::of_files(&ModelFiles::open(folder)?, &self.network.config(), hold, device)?;
        Ok(model.with_precision(self.network.precision()))
    }

    fn of_files(files: &ModelFiles, config: &NetworkConfig, hold: Hold, device: &Device) -> Result<Self, ModelError> {
        let mut source = FromCheckpoint::new(files, hold, device);
        let (network, parameters) = build(config, &mut source);
        source.finish()?;
        let component = Component::of(files);
        let notes = files.notes().to_vec();
        let mut model = Self { network, family: files.family(), component, parameters, notes };
        let first = model.quantized_weights().first().map(|weight| precision(weight));
        model.component.quantized = files.scheme().zip(first);
        Ok(model)
    }

    /// A model with random initial values, from the configuration in `folder`. All parameters are frozen.
    ///
    /// # Errors
    /// A configuration that is not supported, or one of quantized weights.
    pub fn random(folder: &Path, seed: u64, device: &Device) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        if FourBitConfig::of(&config)?.is_some() {
            let expected = "none: fresh values are not quantized";
            return Err(config.wrong(quantization_config::KEY, expected, "quantized weights"));
        }
        Family::of(&config)?.check_sizes(&config)?;
        Self::without_files(config, |shape| {
            Box::new(Random { seed, deviation: shape.initializer_range(), device: device.clone() })
        })
    }

    /// A model without values from a folder's configuration: for its names and shapes. It must not be run.
    ///
    /// # Errors
    /// A configuration that is not supported.
    pub fn outline(folder: &Path) -> Result<Self, ModelError> {
        Self::without_files(HfConfig::open(folder)?, |_| Box::new(Shapes))
    }

    fn without_files(
        config: HfConfig,
        source: impl FnOnce(&NetworkConfig) -> Box<dyn ParameterSource>,
    ) -> Result<Self, ModelError> {
        let family = Family::of(&config)?;
        let shape = family.config(&config)?;
        let rules = Arc::new(family.rules(&shape)?);
        let (network, parameters) = build(&shape, &mut *source(&shape));
        let notes = family.notes(&config);
        Ok(Self { network, family, component: Component::fresh(config, rules), parameters, notes })
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The kind of its network.
    pub fn kind(&self) -> Kind {
        self.network.kind()
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Names of its tensors.
    pub fn rules(&self) -> &RuleSet {
        &self.component.rules
    }

    /// Its `config.json`.
    pub fn config(&self) -> &HfConfig {
        &self.component.config
    }

    /// The device of its parameters.
    pub fn device(&self) -> Device {
        self.network.device()
    }

    /// The model with `change` applied to its network. Only one network exists while `change` runs, so its tensors are
    /// not shared and may be updated in place.
    pub fn with_network(self, change: impl FnOnce(Network) -> Network) -> Self {
        Self { network: change(self.network), ..self }
    }

    /// Replaces the network by another one with the same parameters.
    pub(crate) fn replace_network(&mut self, network: Network) {
        self.network = network;
    }

    /// Makes every parameter trainable.
    pub fn train_all(self) -> Self {
        self.train_all_but(&[])
    }

    /// Makes every parameter trainable, except those at the paths `frozen` and those that nothing reads: without a gradient,
    /// an optimiser would neither move nor decay them.
    pub fn train_all_but(self, frozen: &[&str]) -> Self {
        let unread = self.network.config().unread();
        self.with_network(|network| trained(network, |path| !frozen.contains(&path) && !unread.contains(&path)).train())
    }

    /// Our path of each parameter of the base model, with its name in files. A head that is tied has none.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn names_in_files(&self) -> Result<Vec<(&str, String)>, ModelError> {
        let named = |info: &'_ ParameterInfo| self.component.name_in_files(&info.path);
        self.parameters.iter().map(|info| Ok((info.path.as_str(), named(info)?))).collect()
    }

    /// Trains what is not frozen: after [`crate::adapter_folder::attach`], the adapters.
    pub fn train_active(self) -> Self {
        self.with_network(Module::train)
    }

    /// The same model for inference: no gradients, no dropout.
    pub fn for_inference(&self) -> Self {
        Self {
            network: self.network.valid(),
            family: self.family,
            component: self.component.clone(),
            parameters: self.parameters.clone(),
            notes: self.notes.clone(),
        }
    }

    /// What a user should know of the files of the model and of its adapters, although nothing is wrong.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The parameters of the base model in its order, including quantized matrices.
    pub fn base_parameters(&self) -> &[ParameterInfo] {
        &self.parameters
    }

    /// The parameters of the adapters on the model.
    pub fn adapter_parameters(&self) -> Vec<ParameterInfo> {
        let places = self.parameters.iter().map(|info| (info.path.as_str(), (info.role, info.distance)));
        let places: HashMap<&str, (Role, usize)> = places.collect();
        // A tied head has no parameter of its own.
        let place = |placed: &Placed<'_>| places.get(placed.parameter.as_str()).copied().unwrap_or((Role::Head, 0));
        let parameters = |placed: &Placed<'_>| {
            let (role, distance) = place(placed);
            placed.parameters(role, distance)
        };
        self.network.adapters().iter().flat_map(parameters).collect()
    }

    /// The parameters that [`Self::train_all`] or [`Self::train_active`] made trainable, in the order of the model.
    pub fn trained_parameters(&self) -> Vec<ParameterInfo> {
        let adapters = self.adapter_parameters();
        let known = self.parameters.iter().chain(&adapters).map(|info| (info.path.as_str(), info));
        let known: HashMap<&str, &ParameterInfo> = known.collect();
        let mut found = vec![];
        visit(&self.network, &mut |parameter| {
            if let Some(info) = known.get(parameter.path).filter(|_| (parameter.value)().is_require_grad()) {
                found.push((*info).clone());
            }
        });
        found
    }

    /// The adapted modules whose factors have a higher rank than their matrix: path in PEFT, rank, smaller side.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn outsized_adapters(&self) -> Result<Vec<(String, usize, usize)>, ModelError> {
        let mut found = vec![];
        for (path, placed) in self.adapters()? {
            let shapes: Vec<Vec<usize>> = placed.parameters(Role::Map, 0).into_iter().map(|info| info.shape).collect();
            if let [a, b, ..] = shapes.as_slice()
                && let (&[rank, input], &[out, _]) = (a.as_slice(), b.as_slice())
                && rank > input.min(out)
            {
                found.push((path, rank, input.min(out)));
            }
        }
        Ok(found)
    }

    /// Number of parameter values of the base model and of its adapters.
    pub fn parameter_counts(&self) -> (usize, usize) {
        let count = |parameters: &[ParameterInfo]| parameters.iter().map(ParameterInfo::elements).sum();
        (count(&self.parameters), count(&self.adapter_parameters()))
    }

    /// Hugging Face paths of all linear maps except the head, in the order of the model.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn linear_paths(&self) -> Result<Vec<String>, ModelError> {
        let maps = self.matrices(Role::is_map)?;
        Ok(maps.into_iter().map(|(_, path)| path).collect())
    }

    /// The paths of [`Self::linear_paths`] that `all-linear` adapts: all except routers.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn projection_paths(&self) -> Result<Vec<String>, ModelError> {
        Ok(self.matrices(Role::is_linear)?.into_iter().map(|(_, path)| path).collect())
    }

    /// The linear maps of experts.
    pub(crate) fn expert_maps(&self) -> Result<Vec<ExpertMap>, ModelError> {
        let maps = self.matrices(|role| role == Role::ExpertMap)?.into_iter().map(|(ours, path)| {
            // `{experts}.{number}.{map}.weight`; the names of lists and parts may be any.
            let mut names = ours.rsplitn(4, '.').skip(1);
            let mut next = || names.next().unwrap_or_default().to_string();
            let (part, expert, layer) = (next(), next(), next());
            ExpertMap { layer, expert, part, path }
        });
        Ok(maps.collect())
    }

    /// Our paths of the matrices with wanted roles, and PEFT's paths of their modules.
    fn matrices(&self, wanted: impl Fn(Role) -> bool) -> Result<Vec<(&str, String)>, ModelError> {
        let chosen = self.parameters.iter().filter(|info| wanted(info.role));
        chosen.map(|info| Ok((info.path.as_str(), self.module_for_peft(&info.path)?))).collect()
    }

    /// PEFT's paths of the modules that can have adapters: linear maps, token table, head.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub(crate) fn site_paths(&self) -> Result<Vec<String>, ModelError> {
        let has_site = |info: &&ParameterInfo| info.role.is_map() || info.role == Role::TokenTable;
        let ours = self.parameters.iter().filter(has_site).map(|info| info.path.as_str());
        ours.chain(self.ends().map(|ends| ends.head)).map(|path| self.module_for_peft(path)).collect()
    }

    /// The places for adapters, with PEFT's path of each.
    pub(crate) fn sites_mut(&mut self) -> Result<Vec<(String, Site<'_>)>, ModelError> {
        let Self { network, component, .. } = self;
        let head = network.ends().map(|ends| ends.head);
        let sites = network.sites_mut().into_iter();
        sites.map(|(ours, site)| Ok((module(&name_for_peft(component, head, &ours)?), site))).collect()
    }

    /// The adapters on the model, with PEFT's path of the module of each.
    pub(crate) fn adapters(&self) -> Result<Vec<(String, Placed<'_>)>, ModelError> {
        let placed = self.network.adapters().into_iter();
        placed.map(|placed| Ok((self.module_for_peft(&placed.parameter)?, placed))).collect()
    }

    /// PEFT's name of a parameter. PEFT uses the names of modules in memory, which are those in files except for
    /// GPT-NeoX's head and where a rule says so.
    ///
    /// # Errors
    /// No rule of the family names it.
    pub fn name_for_peft(&self, ours: &str) -> Result<String, ModelError> {
        name_for_peft(&self.component, self.ends().map(|ends| ends.head), ours)
    }

    /// PEFT's path of the module that a parameter belongs to.
    fn module_for_peft(&self, ours: &str) -> Result<String, ModelError> {
        Ok(module(&self.name_for_peft(ours)?))
    }

    /// The token table and the head, where the network has both.
    pub fn ends(&self) -> Option<Ends> {
        self.network.ends()
    }

    /// Gives a tied head a matrix of its own.
    pub(crate) fn untie(&mut self) {
        let Some(ends) = self.ends().filter(|ends| ends.tied) else { return };
        self.network.untie();
        self.note_head(ends);
    }

    /// Lists the matrix that the head now has.
    fn note_head(&mut self, ends: Ends) {
        let table = self.parameters.iter().find(|info| info.path == ends.embedding).map(|info| info.shape.clone());
        let shape = table.unwrap_or_default();
        self.parameters.push(ParameterInfo {
            path: ends.head.into(),
            shape,
            role: Role::Head,
            distance: 0,
            adapter: None,
        });
    }

    /// Whether it has routers that choose experts.
    pub fn has_routers(&self) -> bool {
        self.parameters.iter().any(|info| info.role == Role::Router)
    }

    /// Names of the parameters of the base that are trained beside adapters.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn trained_base_names(&self) -> Result<Vec<String>, ModelError> {
        let trained = self.trained_parameters().into_iter().filter(|info| info.adapter.is_none());
        trained.map(|info| self.name_for_peft(&info.path)).collect()
    }

    /// Whether files hold the matrices of these modules transposed; `adapter_config.json` states it.
    ///
    /// # Errors
    /// The family's rules contradict themselves.
    pub fn stored_transposed(&self, modules: &[String]) -> Result<bool, ModelError> {
        let transposed = self.parameters.iter().filter(|info| self.rules().layout(&info.path) == Layout::Transposed);
        for info in transposed {
            if modules.contains(&self.module_for_peft(&info.path)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Merges all adapters into their weights, in f32; quantized weights become dense.
    pub fn merge(&mut self) {
        let before = self.ends().filter(|ends| ends.tied);
        self.network.merge();
        if let Some(ends) = before.filter(|_| self.ends().is_some_and(|ends| !ends.tied)) {
            self.note_head(ends);
        }
    }

    /// The quantized weights of linear maps.
    pub fn quantized_weights(&self) -> Vec<Arc<QuantizedWeight>> {
        self.network.linears().into_iter().filter_map(|(_, map)| map.quantized_weight().cloned()).collect()
    }

    /// See [`Network::set_precision`].
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.network.set_precision(precision);
        self
    }

    /// Bytes of all weights as they are held in memory, those of adapters included.
    pub fn weight_bytes(&self) -> u64 {
        let mut bytes: usize = self.quantized_weights().iter().map(|weight| weight.bytes()).sum();
        visit(&self.network, &mut |parameter| {
            bytes += parameter.shape.iter().product::<usize>() * (parameter.value)().dtype().size();
        });
        bytes as u64
    }

    /// How the model's folder quantizes its linear maps, and the precision it states for them; `None` where they are
    /// not quantized.
    pub fn stored_scheme(&self) -> Option<(QuantizationScheme, Dtype)> {
        self.component.quantized
    }

    /// How the files of the model tie head and embedding.
    pub fn head_tie(&self) -> Option<&HeadTie> {
        self.component.tie.as_ref()
    }
}

/// Builds a frozen network and lists the parameters that it asked for.
fn build(config: &NetworkConfig, source: &mut dyn ParameterSource) -> (Network, Vec<ParameterInfo>) {
    let mut listing = Listing::of(source);
    let network = Network::new(config, &mut listing).no_grad();
    (network, listing.parameters)
}

/// A linear map of an expert.
pub(crate) struct ExpertMap {
    /// Our path of its layer's experts.
    pub layer: String,
    /// Number of the expert.
    pub expert: String,
    /// `gate`, `up` or `down`.
    pub part: String,
    /// The path in files.
    pub path: String,
}

fn name_for_peft(component: &Component, head: Option<&str>, ours: &str) -> Result<String, ModelError> {
    match head {
        Some(head) if head == ours => Ok(HEAD_FOR_PEFT.into()),
        _ => component.name_in_memory(ours),
    }
}

/// The module of the parameter with this name.
fn module(name: &str) -> String {
    name.strip_suffix(".weight").unwrap_or(name).to_string()
}
