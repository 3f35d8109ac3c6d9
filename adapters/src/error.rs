//! The errors of adapter configurations and files: [`AdapterError`].

use std::path::PathBuf;

/// A problem with an adapter that is found before it runs.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A regular expression of the targets or a pattern does not compile.
    #[error("{key}: `{pattern}` is no regular expression: {reason}")]
    Pattern { key: String, pattern: String, reason: String },
    /// No module of the model is selected.
    #[error("{key} = {targets} matches no linear module of the model\n  its linear modules end in: {available}")]
    NoMatch { key: String, targets: String, available: String },
    /// One entry of a target list selects nothing, so the run would not do what the list says.
    #[error("{key}: `{target}` matches no linear module of the model\n  its linear modules end in: {available}")]
    UnusedTarget { key: String, target: String, available: String },
    /// One entry of `modules_to_save` is not a module of the model.
    #[error("adapter.modules_to_save: no module of the model ends in `{module}`\n  they end in: {available}")]
    UnusedModule { module: String, available: String },
    /// An adapter file has a setting that is not implemented.
    #[error("{}: `{key} = {value}` changes what the adapter means and is not supported; supported: {supported}", path.display())]
    Unsupported { path: PathBuf, key: String, value: String, supported: String },
    /// The adapter began at a part of the base's weights, which was taken out of them, and is not converted.
    #[error(
        "{}: `init_lora_weights = \"{init}\"`: this start took a part of the base's weights out of them, so the tensors do not \
         belong to the base as it was published, and the start cannot be made again here\n  PEFT converts such an adapter into \
         one for the published base: save_pretrained(.., path_initial_model_for_weight_conversion = the folder that was saved \
         before training)",
        path.display()
    )]
    ChangedBase { path: PathBuf, init: String },
    /// A key of an adapter file has the wrong type or value.
    #[error("{}: `{key}`: expected {expected}, found {found}", path.display())]
    Value { path: PathBuf, key: String, expected: String, found: String },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file is not valid JSON.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    /// An initialisation that the module's shape or rank does not allow.
    #[error("{path}: {problem}")]
    Initial { path: String, problem: String },
    /// Adapters that cannot share a module.
    #[error("{problem}")]
    Several { problem: String },
    /// PEFT would misread the adapter.
    #[error("PEFT does not read {problem}")]
    Unreadable { problem: String },
    /// Tensors of the adapter and modules of the model do not match one to one.
    #[error("{}: the adapter does not fit the model: {problem}", path.display())]
    Mismatch { path: PathBuf, problem: String },
}
