//! [`HubId`], parsed from `owner/name[@revision]`: the name of a model or dataset on the hub.
//!
//! The rules are the hub's own (letters, digits, `-`, `_`, `.`; no `--` and no `..`), which also makes
//! every id safe as a folder name. A revision is a branch, a tag, `refs/pr/N` or a commit.

use std::fmt;

use hf_hub::RepoType;

use crate::digest::is_lower_hex;

/// The revision used when none is written.
const DEFAULT_REVISION: &str = "main";

/// The type of a hub repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Dataset,
}

/// A repository of the hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    kind: Kind,
    owner: String,
    name: String,
    revision: Option<String>,
}

impl HubId {
    /// Reads `owner/name[@revision]`.
    ///
    /// # Errors
    /// The reason why `text` is not such an id, to end a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = match repo.split('/').collect::<Vec<_>>()[..] {
            [owner, name] => (owner, name),
            [_] => return Err("it has no owner".to_string()),
            _ => return Err("it has more than one `/`".to_string()),
        };
        check_segment(owner).map_err(|reason| format!("its owner {reason}"))?;
        check_segment(name).map_err(|reason| format!("its name {reason}"))?;
        if let Some(revision) = revision {
            check_revision(revision).map_err(|reason| format!("its revision {reason}"))?;
        }
        let revision = revision.map(str::to_string);
        Ok(Self { kind: Kind::Model, owner: owner.to_string(), name: name.to_string(), revision })
    }

    /// The dataset `owner/name` at a revision.
    ///
    /// # Errors
    /// The reason why this is not an id, to end a sentence.
    pub fn dataset(repo: &str, revision: Option<&str>) -> Result<Self, String> {
        let text = revision.map_or_else(|| repo.to_string(), |revision| format!("{repo}@{revision}"));
        Ok(Self { kind: Kind::Dataset, ..Self::parse(&text)? })
    }

    /// `owner/name`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Its place on the hub's website: `owner/name`, or `datasets/owner/name`.
    pub fn place(&self) -> String {
        match self.kind {
            Kind::Model => self.repo(),
            Kind::Dataset => format!("datasets/{}", self.repo()),
        }
    }

    /// The type by which the hub's addresses and the cache's folders differ.
    pub(crate) fn repo_type(&self) -> RepoType {
        match self.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        }
    }

    /// The part of a listing address that names the type of repository.
    pub(crate) fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    /// The branch, tag or commit; `main` if none was written.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The revision if it is a full commit hash, whose files can never change.
    pub fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|revision| is_commit(revision))
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether `text` is a full commit hash.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_lower_hex(text)
}

fn check_segment(segment: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if segment.is_empty() {
        Err("is empty")
    } else if segment.len() > 96 {
        Err("is longer than 96 characters")
    } else if !segment.chars().all(allowed) {
        Err("has characters other than letters, digits, `-`, `_` and `.`")
    } else if segment.contains("--") || segment.contains("..") {
        Err("contains `--` or `..`")
    } else if segment.starts_with(['-', '.']) || segment.ends_with(['-', '.']) {
        Err("begins or ends with `-` or `.`")
    } else {
        Ok(())
    }
}

fn check_revision(revision: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '=');
    if revision.is_empty() {
        Err("is empty")
    } else if revision.len() > 200 {
        Err("is longer than 200 characters")
    } else if !revision.chars().all(allowed) {
        Err("has characters other than letters, digits and `-_./+=`")
    } else if revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) || revision.contains("..") {
        Err("is not the name of a branch, a tag or a commit")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_name_and_revision_are_read() {
        let id = HubId::parse("HuggingFaceTB/SmolLM2-135M-Instruct").unwrap();
        assert_eq!(id.repo(), "HuggingFaceTB/SmolLM2-135M-Instruct");
        assert_eq!(id.revision(), "main");
        let id = HubId::parse("a/b@refs/pr/3").unwrap();
        assert_eq!((id.revision(), id.commit()), ("refs/pr/3", None));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(HubId::parse(&format!("a/b@{commit}")).unwrap().commit(), Some(commit));
    }

    #[test]
    fn a_dataset_is_no_model_of_the_same_name() {
        let id = HubId::dataset("a/b", Some("v1")).unwrap();
        assert_eq!((id.to_string().as_str(), id.plural()), ("datasets/a/b@v1", "datasets"));
        assert_ne!(id, HubId::parse("a/b@v1").unwrap());
        assert!(HubId::dataset("a/b/c", None).is_err() && HubId::dataset("a/b", Some("..")).is_err());
    }

    #[test]
    fn what_could_leave_the_cache_folder_is_no_id() {
        for text in [
            "",
            "gpt2",
            "/",
            "a/",
            "/b",
            "../b",
            "a/..",
            "./models",
            "a/b/c",
            "a--b/c",
            "~/m",
            "C:\\m",
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "a/b@x/",
            "a/b@x y",
            "a/b@.lock",
            "a/b c",
            "a\0/b",
            "a/b@x?y",
            "a/b@x%2e",
        ] {
            assert!(HubId::parse(text).is_err(), "{text:?} was taken for a hub id");
        }
    }
}
