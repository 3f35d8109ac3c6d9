//! A model folder, opened and accounted for: what a model is built from, or read from one parameter at a time without building it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebrand_kernels::{PackedWeight, Packing};

use crate::error::ModelError;
use crate::families::Family;
use crate::hf_config::HfConfig;
use crate::parameters::{Shapes, parameters};
use crate::quantization_config::check_packing;
use crate::transformer::{Decoder, DecoderConfig, EMBEDDING, HEAD};
use crate::weights::{Checkpoint, Expected, Form, HeadTie, Load, Reading, RuleSet, read_packed};

/// Configuration and weights, accounted for; no tensor is read yet.
pub struct ModelFiles {
    folder: PathBuf,
    config: HfConfig,
    family: Family,
    decoder: DecoderConfig,
    rules: Arc<RuleSet>,
    checkpoint: Checkpoint,
    expected: Vec<Expected>,
    /// Where each parameter is, by its path.
    loads: HashMap<String, Load>,
    packing: Option<Packing>,
    tie: HeadTie,
}

impl ModelFiles {
    /// Opens a model folder.
    ///
    /// # Errors
    /// A configuration that is not supported, a damaged file, or tensors that do not fit the configuration one to one.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        let family = Family::of(&config)?;
        let mut decoder = family.config(&config)?;
        let rules = Arc::new(family.rules(&decoder)?);
        let checkpoint = Checkpoint::open(folder)?;
        let tie = HeadTie::resolve(&rules, &checkpoint, EMBEDDING, HEAD, decoder.head.tied);
        decoder.head.tied = tie.outcome.is_tied();
        let expected: Vec<Expected> = parameters(&Decoder::new(&decoder, &mut Shapes))
            .into_iter()
            .map(|info| Expected { name: info.path, shape: info.shape })
            .collect();
        let plan = rules.account(&checkpoint, &expected, Some(&tie))?;
        let packing = check_packing(&config, &checkpoint, &rules, &expected, &plan)?;
        let loads = plan.loads.into_iter().map(|load| (load.ours.clone(), load)).collect();
        let folder = folder.to_path_buf();
        Ok(Self { folder, config, family, decoder, rules, checkpoint, expected, loads, packing, tie })
    }

    /// What was opened.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its `config.json`.
    pub fn config(&self) -> &HfConfig {
        &self.config
    }

    /// Its architecture.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its sizes and parts, the head tied as in the files.
    pub fn decoder(&self) -> &DecoderConfig {
        &self.decoder
    }

    /// Its tensors.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How its linear maps are packed, if they are.
    pub fn packing(&self) -> Option<Packing> {
        self.packing
    }

    /// How its head and its embedding relate.
    pub fn head_tie(&self) -> &HeadTie {
        &self.tie
    }

    /// Where the parameter at `path` is.
    pub(crate) fn load(&self, path: &str) -> Option<&Load> {
        self.loads.get(path)
    }

    /// Names of its tensors.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Paths and shapes of all parameters, in the order of the model; a tied head is no parameter.
    pub fn parameters(&self) -> &[Expected] {
        &self.expected
    }

    /// The shape of the parameter at `path`; of a tied head, that of the embedding.
    pub fn shape(&self, path: &str) -> Option<&[usize]> {
        let path = self.source(path);
        self.expected.iter().find(|expected| expected.name == path).map(|expected| expected.shape.as_slice())
    }

    /// The values of the parameter at `path` in f32, row-major, a matrix as `[out, in]`, dequantised where it is packed; of a tied head, those of the
    /// embedding.
    ///
    /// # Errors
    /// No such parameter, or a value that is not finite.
    pub fn values(&self, path: &str) -> Result<Vec<f32>, ModelError> {
        let path = self.source(path);
        let (Some(load), Some(shape)) = (self.loads.get(path), self.shape(path)) else {
            return Err(ModelError::NoSuchTensor { path: self.folder.clone(), tensor: path.into(), nearest: None });
        };
        let values = match (load.form, self.packed(path)?) {
            (Form::Packed(_), Some(weight)) => weight.values(),
            (Form::Dense(layout), _) => {
                let view = self.checkpoint.get(&load.theirs)?;
                view.check_finite()?;
                layout.convert(view.to_f32()?, &layout.shape(shape))
            }
            (Form::Packed(_), None) => {
                return Err(ModelError::tensor(
                    self.checkpoint.path(),
                    &load.theirs,
                    "a packed weight",
                    "no state of one",
                ));
            }
        };
        self.checkpoint.release(&self.checkpoint.get(&load.theirs)?);
        Ok(values)
    }

    /// The weight of the linear map whose matrix is the parameter at `path`; `None` where it is not packed.
    ///
    /// # Errors
    /// Tensors that do not make a packed weight.
    pub fn packed(&self, path: &str) -> Result<Option<PackedWeight>, ModelError> {
        match (self.loads.get(path), self.shape(path)) {
            (Some(Load { form: Form::Packed(_), theirs, .. }), Some(&[out, input])) => {
                read_packed(theirs, [out, input], |name| self.checkpoint.find(name))
            }
            _ => Ok(None),
        }
    }

    /// The weight `[out, in]` of the linear map at the path `module` in files.
    ///
    /// # Errors
    /// As [`Self::values`].
    pub fn values_of_map(&self, module: &str) -> Result<Vec<f32>, ModelError> {
        let name = format!("{module}.weight");
        match self.rules.to_ours(&name) {
            Some(Reading::Tensor(ours)) => self.values(&ours),
            Some(Reading::Ignored) | None => self.values(&name),
        }
    }

    /// Where the values of `path` are.
    fn source<'a>(&self, path: &'a str) -> &'a str {
        if path == HEAD && self.decoder.head.tied { EMBEDDING } else { path }
    }
}

impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFiles").field("folder", &self.folder).finish_non_exhaustive()
    }
}
