//! The errors of this crate: [`ModelError`] covers what can be wrong with files, configurations and names.
//!
//! Each variant names the file, the tensor or key, what was expected and what was found; [`ModelError::help`] says what
//! to do about it. Inside the maths there are assertions, not errors.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::weights::{AccountingError, Dtype};
use crate::wording::{clip, nearest_note};

/// Any failure to read, check, name or write a model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system reported an error: missing file, permission, full disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        path: PathBuf,
        /// Completes "cannot ..": `open`, `write`, `rename`.
        action: &'static str,
        source: std::io::Error,
    },

    /// A file does not follow its format.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed { path: PathBuf, expected: String, found: String },

    /// A file saved by PyTorch holds more than tensors by name.
    #[error(
        "{}: {found}; a weights file holds tensors by name and nothing else, and nothing was executed",
        path.display()
    )]
    NotTensorsOnly {
        path: PathBuf,
        /// The beginning of a sentence, such as "asks for `os.system`".
        found: String,
    },

    /// One tensor of a file is not as expected.
    #[error("{}: tensor `{tensor}`: expected {expected}, found {found}", path.display())]
    Tensor { path: PathBuf, tensor: String, expected: String, found: String },

    /// A weight is NaN or infinite, or becomes so in f32.
    #[error("{}: tensor `{tensor}`: element {index} is {value}, not a finite f32", path.display())]
    NonFinite { path: PathBuf, tensor: String, index: usize, value: f64 },

    /// A finite weight does not fit the dtype in which it is to be held or written: it would become infinite.
    #[error(
        "{}tensor `{tensor}`: element {index} is {value}, which {} cannot hold: its largest number is {}",
        in_file(path.as_deref()), dtype.short_name(), dtype.largest()
    )]
    BeyondDtype {
        /// The file it is read from; absent when it is written.
        path: Option<PathBuf>,
        tensor: String,
        index: usize,
        value: f64,
        dtype: Dtype,
    },

    /// A weight that is to be written is NaN or infinite.
    #[error("tensor `{tensor}` cannot be written: element {index} is {value}")]
    NonFiniteResult { tensor: String, index: usize, value: f32 },

    /// The checkpoint does not hold a tensor that was asked for.
    #[error("{}: no tensor `{tensor}`{}", path.display(), nearest_note(nearest.as_deref()))]
    NoSuchTensor { path: PathBuf, tensor: String, nearest: Option<String> },

    /// Something else lies at a path that was given as a model or as an adapter.
    #[error("{} is not {wanted}: {found}\n  {instead}", path.display())]
    OtherThing { path: PathBuf, wanted: &'static str, found: String, instead: String },

    /// The architecture of a `config.json` is not one of the families.
    #[error("{}: `model_type`: expected a supported family ({known}), found {found}", path.display())]
    UnknownFamily { path: PathBuf, known: String, found: String },

    /// A folder holds no weights in a format that can be read.
    #[error("{}: no weights: looked for {}; the folder holds {}", path.display(), looked_for.join(", "), list(present))]
    NoWeights { path: PathBuf, looked_for: Vec<&'static str>, present: Vec<String> },

    /// The target folder holds other weights, which a reader might take for the new ones.
    #[error("{}: already holds {}, which would be mistaken for the weights written now", path.display(), list(present))]
    OtherWeights { path: PathBuf, present: Vec<String> },

    /// The file and the model do not have the same tensors.
    #[error(transparent)]
    Accounting(#[from] Box<AccountingError>),

    /// An adapter's configuration or files.
    #[error(transparent)]
    Adapter(#[from] firebrand_adapters::AdapterError),

    /// The number of a model's tokens cannot be changed like this.
    #[error("the vocabulary cannot be changed: {problem}")]
    Vocabulary { problem: String },

    /// A model with these of another's layers cannot be made.
    #[error("{}: the layers cannot be chosen like this: {problem}", path.display())]
    Layers { path: PathBuf, problem: String },
    /// A model cannot get these classes.
    #[error("the model cannot classify like this: {problem}")]
    Classes { problem: String },

    /// Two models that are to be compared have different tensors.
    #[error("{} is no fine-tune of {}: {problem}", tuned.display(), base.display())]
    Unlike { base: PathBuf, tuned: PathBuf, problem: String },

    /// The name rules of a family contradict each other: an error in this program.
    #[error("weight rule `{rule}`: {problem}")]
    Rules { rule: String, problem: String },

    /// A folder of quantized weights was to be quantized in another way.
    #[error("{}: the weights are quantized as {found}, asked for is {asked}", path.display())]
    OtherQuantization { path: PathBuf, asked: String, found: String },

    /// The requested format cannot hold a tensor.
    #[error("cannot write {tensor}: {problem}")]
    Unwritable { tensor: String, problem: String },

    /// A key of `config.json` is missing, of the wrong type, out of range or not supported.
    #[error("{}: `{key}`: expected {expected}, found {found}", path.display())]
    Config { path: PathBuf, key: String, expected: String, found: String },
}

impl ModelError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            ModelError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => "free some space and run the command again; nothing was replaced",
                std::io::ErrorKind::PermissionDenied => "check the permissions of the file and of its folder",
                _ => return None,
            },
            ModelError::Malformed { .. } | ModelError::Tensor { .. } => {
                "the file is damaged or incomplete: download or write it again"
            }
            ModelError::NotTensorsOnly { .. } => {
                "take the safetensors version of the model, or, if you trust the file, load it in Python and save the model's \
                 state dict alone"
            }
            ModelError::NonFinite { .. } => {
                "the file itself holds this value: the weights were damaged before they were saved, or did not fit f16; take an \
                 earlier checkpoint, or the folder in bf16 or f32"
            }
            ModelError::BeyondDtype { dtype: Dtype::F16, .. } => {
                "take bf16, which reaches as far as f32; f16 ends at 65504"
            }
            ModelError::BeyondDtype { .. } => "take f32",
            ModelError::NonFiniteResult { .. } => {
                "merging or training made it so, and nothing was written: merge another checkpoint, or train with a lower rate"
            }
            ModelError::NoSuchTensor { .. }
            | ModelError::Rules { .. }
            | ModelError::Adapter(_)
            | ModelError::Vocabulary { .. }
            | ModelError::Layers { .. }
            | ModelError::Classes { .. }
            | ModelError::OtherThing { .. } => return None,
            ModelError::UnknownFamily { .. } => {
                "take a model of one of these families; an architecture that is not built in cannot be trained here, and code in a model's \
                 folder is never run"
            }
            ModelError::NoWeights { .. } => "give a folder with weights in safetensors or PyTorch's format",
            ModelError::Unlike { .. } => "name the model that the other was trained from",
            ModelError::OtherWeights { .. } => "write to an empty folder",
            ModelError::OtherQuantization { .. } => {
                "quantized weights are taken as they are: leave [quantization] out, say --base original, or take the folder with the original \
                 weights"
            }
            ModelError::Unwritable { .. } => "write f32, bf16 or f16",
            ModelError::Accounting(_) => {
                "the weights belong to another architecture or size than `config.json` says, or the download is incomplete"
            }
            ModelError::Config { key, .. } if key.starts_with("quantization") => {
                "take the model that the quantized one was made from, or one that bitsandbytes quantized in 4 bits"
            }
            ModelError::Config { .. } => "correct `config.json`, or take the one published with the weights",
        })
    }

    /// For `map_err`: `File::open(path).map_err(ModelError::io("open", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> ModelError {
        let path = path.as_ref().to_owned();
        move |source| ModelError::Io { path, action, source }
    }

    pub(crate) fn malformed(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> ModelError {
        ModelError::Malformed { path: path.to_owned(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn tensor(
        path: &Path,
        tensor: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> ModelError {
        ModelError::Tensor {
            path: path.to_owned(),
            tensor: clip(tensor),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

fn in_file(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!("{}: ", path.display()))
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "no files".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}
