//! [`HubError`]: everything that can go wrong between a model's name and its files, each with advice.

use std::io;
use std::path::PathBuf;

/// Why [`crate::locate`] found no model, or [`crate::data_files`] no dataset.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "there is no file or folder `{model}`, and it is no hub id either: {reason}\n\
         Give the path of a model folder, or a hub id as `owner/name` or `owner/name@revision`."
    )]
    NeitherPathNorId { model: String, reason: String },

    #[error(
        "there is no folder `{repo}` here, and {endpoint} has nothing of that name that {who} may see (HTTP {status})\n\
         Check the spelling; for a private one set HF_TOKEN to a token that may read it."
    )]
    UnknownModel { repo: String, endpoint: String, who: &'static str, status: u16 },

    #[error(
        "{repo} has no revision `{revision}` at {endpoint}\n\
         Name a branch, a tag or a commit after the @, or leave it out for `main`."
    )]
    UnknownRevision { repo: String, revision: String, endpoint: String },

    #[error(
        "{repo} is gated, and {who} has no access to it yet (HTTP {status})\n\
         Accept its terms at {endpoint}/{repo}, then set HF_TOKEN to a token of that account."
    )]
    Gated { repo: String, endpoint: String, who: &'static str, status: u16 },

    #[error(
        "{endpoint} refused {who} for {repo} (HTTP {status}{message})\n\
         Set HF_TOKEN to a valid token that may read it."
    )]
    Refused { repo: String, endpoint: String, who: &'static str, status: u16, message: String },

    #[error("the environment variable {variable} is {value:?}, which is not {expected}")]
    Setting { variable: &'static str, value: String, expected: &'static str },

    #[error("the access token cannot be sent: it has characters that no token has\nCheck HF_TOKEN or the token file.")]
    MalformedToken,

    #[error(
        "the model {id} has no {missing}; it has: {found}\n\
         A model here is a folder with config.json and weights in safetensors or PyTorch's format; look for another repository or \
         revision of this model that has them."
    )]
    NotAModel { id: String, missing: &'static str, found: String },

    #[error(
        "{id} lacks the file {file}, which {needed_by}\n\
         The repository itself is incomplete; choose another revision or tell its owner."
    )]
    MissingFile { id: String, file: String, needed_by: String },

    #[error("the file {file} of {id} cannot be used: {reason}")]
    MalformedFile { id: String, file: String, reason: String },

    #[error(
        "cannot reach {address}: {detail}\n\
         Check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; what has been fetched so far is kept. A \
         local model folder needs no network."
    )]
    Network { address: String, detail: String },

    #[error("{address} answered HTTP {status}{message}\nThis is a trouble of the hub; try again later.")]
    Server { address: String, status: u16, message: String },

    #[error("{address} answered with something that is not the hub's language: {detail}\nCheck HF_ENDPOINT.")]
    Answer { address: String, detail: String },

    #[error(
        "the download of {file} broke off at {received} of {expected} bytes: {detail}\n\
         What arrived is kept; run the command again to go on from there."
    )]
    Cut { file: String, received: u64, expected: u64, detail: String },

    #[error(
        "{file} has the wrong size: expected {expected} bytes, found {found}\n\
         Nothing of it was kept. Run the command again; if it happens again, something between here and the \
         hub changes the file."
    )]
    Size { file: String, expected: u64, found: u64 },

    #[error(
        "{file} arrived damaged: expected {kind} {expected}, found {found}\n\
         The file was deleted. Run the command again; if it happens again, something between here and the hub \
         changes the file."
    )]
    Checksum { file: String, kind: &'static str, expected: String, found: String },

    #[error(
        "{id} is not in the cache {cache}, and the hub may not be asked (HF_HUB_OFFLINE)\n\
         Run once without HF_HUB_OFFLINE to fetch it, or give a local folder."
    )]
    NotCached { id: String, cache: PathBuf },

    #[error(
        "the cached copy of {id} in {snapshot} is not whole: {reason}\n\
         Run once without HF_HUB_OFFLINE to fetch what is missing."
    )]
    NotWhole { id: String, snapshot: PathBuf, reason: String },

    #[error("{id}: {reason}")]
    Choice { id: String, reason: String },

    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl HubError {
    /// Whether the hub could not be reached at all, so that a complete copy in the cache should be used.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Network { .. } | Self::Server { .. })
    }

    /// For `map_err` after an operation on a file.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
