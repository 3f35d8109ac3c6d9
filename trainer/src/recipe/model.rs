//! Where the base model comes from: a local folder or a hub id. Fetching is the hub module's work.

use std::fmt;
use std::path::{Path, PathBuf};

/// A base model: a path that exists, or `owner/name[@revision]` on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    Local(PathBuf),
    Hub {
        /// `owner/name`.
        repository: String,
        /// Branch, tag or commit; absent = the default branch.
        revision: Option<String>,
    },
}

impl ModelSource {
    /// Reads `owner/name[@revision]`. `None` when the text cannot be a hub id, so it was meant as a path.
    pub fn hub_id(text: &str) -> Option<Self> {
        let (repository, revision) = match text.split_once('@') {
            Some((_, "")) => return None,
            Some((repository, revision)) => (repository, Some(revision.to_owned())),
            None => (text, None),
        };
        let (owner, name) = repository.split_once('/')?;
        let legal = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        (legal(owner) && legal(name)).then(|| ModelSource::Hub { repository: repository.to_owned(), revision })
    }
}

impl ModelSource {
    /// A model that was found: what is no path is a hub id.
    pub(super) fn found(text: &str) -> Self {
        match Self::hub_id(text) {
            Some(hub) if !Path::new(text).exists() => hub,
            _ => Self::Local(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Local(path) => write!(f, "{}", path.display()),
            ModelSource::Hub { repository, revision: None } => write!(f, "{repository}"),
            ModelSource::Hub { repository, revision: Some(revision) } => write!(f, "{repository}@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ModelSource;

    #[test]
    fn hub_ids_survive_printing() {
        for id in ["owner/name", "HuggingFaceTB/SmolLM2-135M@refs/pr/1"] {
            assert_eq!(ModelSource::hub_id(id).unwrap().to_string(), id);
        }
    }

    #[test]
    fn paths_are_no_hub_ids() {
        for path in ["./model", "../model", "/models/a", "a/b/c", "model", "a/", "a/b@", "a b/c"] {
            assert_eq!(ModelSource::hub_id(path), None, "{path}");
        }
    }
}
