//! An opened model folder: a model is built from [`ModelFiles`], or its parameters are read one at a time without
//! building it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebrand_kernels::{QuantizationScheme, QuantizedWeight};

use crate::error::ModelError;
use crate::families::{Family, HEAD_FOR_PEFT, OF_TEXTS};
use crate::hf_config::HfConfig;
use crate::network::{Ends, Network, NetworkConfig};
use crate::parameters::{Listing, ParameterInfo, Shapes};
use crate::quantization_config::{self, as_stored, check_method, check_quantization};
use crate::weights::{Checkpoint, Dtype, Expected, Form, HeadTie, Load, Reading, RuleSet, read_quantized};
use crate::wording::clip;

/// The configuration and weights of a folder, with every tensor paired with a parameter. No tensor is read yet.
pub struct ModelFiles {
    folder: PathBuf,
    config: HfConfig,
    family: Family,
    network: NetworkConfig,
    rules: Arc<RuleSet>,
    checkpoint: Checkpoint,
    parameters: Vec<ParameterInfo>,
    /// The place of each parameter in the files, by its path.
    loads: HashMap<String, Load>,
    scheme: Option<QuantizationScheme>,
    tie: Option<HeadTie>,
    notes: Vec<String>,
}

/// The modules that hold a row for each token of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenModules {
    /// The end of the path of the token table (`embed_tokens`).
    pub embedding: String,
    /// The end of the path of the output head (`lm_head`).
    pub head: String,
    /// Whether the two are one matrix.
    pub tied: bool,
}

/// The last part of the path of the module that holds the tensor `name`.
fn last_module(name: &str) -> String {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    module.rsplit('.').next().unwrap_or(module).to_owned()
}

impl ModelFiles {
    /// Opens a model folder.
    ///
    /// # Errors
    /// A configuration that is not supported, a damaged file, or tensors that do not match the configuration one to
    /// one.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let config = HfConfig::open(folder)?;
        let family = Family::of(&config)?;
        check_method(&config)?;
        family.config(&config.without(quantization_config::KEY)).map_err(|error| family.explain(&config, error))?;
        let checkpoint = Checkpoint::open(folder)?;
        let (config, note) = as_stored(config, &checkpoint)?;
        let mut notes: Vec<String> = note.into_iter().chain(family.notes(&config)).collect();
        let network = family.config(&config)?;
        let rules = family.rules(&network)?;
        let classifier = classifier(&config);
        let network = match classifier.as_deref().is_some_and(|class| !class.ends_with(OF_TEXTS)) {
            // What its scores are of is not known here.
            true => network.with_classes(None),
            false => as_weights_end(network, &rules, &checkpoint),
        };
        // Names may depend on the end.
        let rules = Arc::new(family.rules(&network)?);
        let tie =
            network.ends().map(|ends| HeadTie::resolve(&rules, &checkpoint, ends.embedding, ends.head, ends.tied));
        let network = match &tie {
            Some(tie) => network.with_tied(tie.outcome.is_tied()),
            None => network,
        };
        let mut shapes = Shapes;
        let mut listing = Listing::of(&mut shapes);
        Network::new(&network, &mut listing);
        let parameters = listing.parameters;
        let expected: Vec<Expected> =
            parameters.iter().map(|info| Expected { name: info.path.clone(), shape: info.shape.clone() }).collect();
        let plan = rules.account(&checkpoint, &expected, tie.as_ref()).map_err(|error| match &classifier {
            Some(class) => ModelError::OtherThing {
                path: folder.to_path_buf(),
                wanted: "a language model",
                found: format!("it is a {class}, whose files do not hold an output head alone"),
                instead: "give the language model it was made from; of classifiers, those of whole texts \
                          (ForSequenceClassification, with a `score.weight` and no output head) are read"
                    .into(),
            },
            None => family.explain(&config, error),
        })?;
        if let Some(class) = classifier.filter(|_| network.classes().is_none()) {
            notes.push(format!(
                "config.json says {class}, but the files are those of a language model, and are read as one"
            ));
        }
        let scheme = check_quantization(&config, &checkpoint, &rules, &parameters, &plan)?;
        let loads = plan.loads.into_iter().map(|load| (load.ours.clone(), load)).collect();
        let folder = folder.to_path_buf();
        Ok(Self { folder, config, family, network, rules, checkpoint, parameters, loads, scheme, tie, notes })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its `config.json`.
    pub fn config(&self) -> &HfConfig {
        &self.config
    }

    /// What a user should know of the files, although nothing is wrong.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The configuration of its network, with the head tied as in the files.
    pub fn network(&self) -> &NetworkConfig {
        &self.network
    }

    /// The modules that hold a row for each token, by the ends of their paths in PEFT.
    ///
    /// # Errors
    /// A model that predicts no tokens.
    pub fn token_modules(&self) -> Result<TokenModules, ModelError> {
        let Some(Ends { embedding, head: _, tied }) = self.network.ends() else {
            let problem = format!("a model of type {} predicts no tokens", self.family.name());
            return Err(ModelError::Vocabulary { problem });
        };
        let theirs = self.rules.to_theirs(embedding).unwrap_or_else(|| embedding.to_owned());
        Ok(TokenModules { embedding: last_module(&theirs), head: last_module(HEAD_FOR_PEFT), tied })
    }

    /// Its weights files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How its linear maps are quantized, if they are.
    pub fn scheme(&self) -> Option<QuantizationScheme> {
        self.scheme
    }

    /// How its head and its embedding are tied, where it has both.
    pub fn head_tie(&self) -> Option<&HeadTie> {
        self.tie.as_ref()
    }

    /// Whether head and embedding are one matrix.
    pub fn is_tied(&self) -> bool {
        self.tie.as_ref().is_some_and(|tie| tie.outcome.is_tied())
    }

    /// The place in the files of the parameter at `path`.
    pub(crate) fn load(&self, path: &str) -> Option<&Load> {
        self.loads.get(path)
    }

    /// Names of its tensors.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// All parameters, in the order of the model; a tied head is not among them.
    pub fn parameters(&self) -> &[ParameterInfo] {
        &self.parameters
    }

    /// The shape of the parameter at `path`; for a tied head, that of the embedding.
    pub fn shape(&self, path: &str) -> Option<&[usize]> {
        let path = self.source(path);
        self.parameters.iter().find(|info| info.path == path).map(|info| info.shape.as_slice())
    }

    /// The values of the parameter at `path` in f32, row-major: a matrix as `[out, in]`, dequantized if it is
    /// quantized; for a tied head, the values of the embedding.
    ///
    /// # Errors
    /// There is no such parameter, or a value is not finite.
    pub fn values(&self, path: &str) -> Result<Vec<f32>, ModelError> {
        let path = self.source(path);
        let (Some(load), Some(shape)) = (self.loads.get(path), self.shape(path)) else {
            return Err(ModelError::NoSuchTensor { path: self.folder.clone(), tensor: path.into(), nearest: None });
        };
        let values = match (load.form, self.quantized(path)?) {
            (Form::Quantized(_), Some(weight)) => weight.values(),
            (Form::Dense(layout), _) => {
                let view = self.checkpoint.get(&load.theirs)?;
                view.check_finite()?;
                layout.convert(view.to_f32()?, &layout.shape(shape))
            }
            (Form::Quantized(_), None) => {
                return Err(ModelError::tensor(
                    self.checkpoint.path(),
                    &load.theirs,
                    "a quantized weight",
                    "no state of one",
                ));
            }
        };
        self.checkpoint.release(&self.checkpoint.get(&load.theirs)?);
        Ok(values)
    }

    /// Checks that every weight is finite in `dtype`, in which the model is to be written.
    ///
    /// # Errors
    /// The first that is not, with file and index.
    pub fn check_fits(&self, dtype: Dtype) -> Result<(), ModelError> {
        for view in self.checkpoint.tensors() {
            view.check_fits(dtype)?;
            self.checkpoint.release(&view);
        }
        Ok(())
    }

    /// The quantized weight of the linear map whose matrix is the parameter at `path`; `None` where it is not
    /// quantized.
    ///
    /// # Errors
    /// The tensors do not form a quantized weight.
    pub fn quantized(&self, path: &str) -> Result<Option<QuantizedWeight>, ModelError> {
        match (self.loads.get(path), self.shape(path)) {
            (Some(Load { form: Form::Quantized(_), theirs, .. }), Some(&[out, input])) => {
                read_quantized(theirs, [out, input], |name| self.checkpoint.find(name))
            }
            _ => Ok(None),
        }
    }

    /// The weight `[out, in]` of the linear map that files call `module`.
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

    /// The path under which the values of `path` are stored.
    fn source<'a>(&'a self, path: &'a str) -> &'a str {
        match &self.tie {
            Some(tie) if tie.outcome.is_tied() && tie.head == path => &tie.embedding,
            _ => path,
        }
    }
}

/// The network with the end that the weights have: scores of classes, as many as the matrix has rows, where it stands in
/// place of an output head. Without weights for it, a classifier of `config.json` is the decoder below it.
fn as_weights_end(network: NetworkConfig, rules: &RuleSet, checkpoint: &Checkpoint) -> NetworkConfig {
    let find = |ours: Option<&str>| ours.and_then(|ours| checkpoint.find(&rules.to_theirs(ours)?));
    let predicts = network.clone().with_classes(None);
    let scores = find(network.score()).filter(|_| find(predicts.ends().map(|ends| ends.head)).is_none());
    let rows = scores.and_then(|view| view.shape.first().copied());
    predicts.with_classes(rows.filter(|rows| *rows > 0))
}

/// The class in transformers of a model that ends in a classifier, if `config` names one.
fn classifier(config: &HfConfig) -> Option<String> {
    const ENDS: [&str; 4] = [OF_TEXTS, "ForTokenClassification", "ForQuestionAnswering", "RewardModel"];
    let classes = config.optional_strings("architectures").ok().flatten()?;
    let class = classes.into_iter().find(|class| ENDS.iter().any(|end| class.ends_with(end)))?;
    Some(clip(class))
}

impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFiles").field("folder", &self.folder).finish_non_exhaustive()
    }
}
