//! Fetches the files of one split of a hub dataset into the cache that the Python tools use
//! (`datasets--owner--name`): [`data_files`]. `firebrand_datasets` chooses the files by their names.
//!
//! Files are fetched like those of a model: each is checked against its hash, a complete copy is used without a
//! network, and a branch is recorded as a commit only after all chosen files are in the cache.

use std::path::{Path, PathBuf};

use firebrand_datasets::source::{Choose, Fetch as FetchData, Repository};

use crate::cache::{ModelCache, State};
use crate::client::Client;
use crate::error::HubError;
use crate::fetch::{self, Fetch};
use crate::files;
use crate::id::HubId;
use crate::options::HubOptions;
use crate::progress::Progress;

/// Fetches datasets from the hub that the environment names. The environment is read at each call of `fetch`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HubDatasets;

impl FetchData for HubDatasets {
    fn fetch(&self, repository: &Repository, choose: &Choose<'_>) -> Result<Vec<PathBuf>, String> {
        let options = HubOptions::from_env().map_err(|error| error.to_string())?;
        data_files(repository, choose, &options).map_err(|error| error.to_string())
    }
}

/// The local paths of the files of a dataset that `choose` selects, fetched where the cache lacks them.
///
/// # Errors
/// A failure of the hub, the network or the cache; or the reason why no file was chosen.
pub fn data_files(
    repository: &Repository,
    choose: &Choose<'_>,
    options: &HubOptions,
) -> Result<Vec<PathBuf>, HubError> {
    let id = HubId::dataset(&repository.name, repository.revision.as_deref())
        .map_err(|reason| HubError::Choice { id: repository.name.clone(), reason })?;
    let cache = ModelCache::new(&options.cache, &id);
    let wanted = Wanted { id: &id, cache: &cache, choose, options };
    if options.offline {
        return wanted.cached();
    }
    if id.commit().is_some()
        && let Ok(files) = wanted.cached()
    {
        return Ok(files);
    }
    let client = Client::new(&id, options)?;
    let mut progress = Progress::new(options.progress);
    let (commit, tree) = match fetch::listing(&id, &cache, &client) {
        Ok(listing) => listing,
        Err(error) if error.is_unreachable() => {
            let Ok(files) = wanted.cached() else {
                return Err(error);
            };
            let reason = error.to_string();
            progress.warn(&format!("{}; using the cached copy", reason.lines().next().unwrap_or_default()));
            return Ok(files);
        }
        Err(error) => return Err(error),
    };
    let chosen = wanted.chosen(&tree.plain_paths())?;
    let mut fetch =
        Fetch { id: &id, commit: &commit, tree: &tree, cache: &cache, client: &client, progress: &mut progress };
    fetch.files(&chosen, "is part of the dataset")?;
    if let Err(error) = cache.remember_commit(id.revision(), &commit) {
        progress.warn(&format!("{error}; offline, this revision will not be found"));
    }
    progress.finish();
    Ok(wanted.places(&commit, &chosen))
}

/// A dataset, the choice of its files, and where they are cached.
struct Wanted<'a> {
    id: &'a HubId,
    cache: &'a ModelCache,
    choose: &'a Choose<'a>,
    options: &'a HubOptions,
}

impl Wanted<'_> {
    fn chosen(&self, names: &[&str]) -> Result<Vec<String>, HubError> {
        (self.choose)(names).map_err(|reason| HubError::Choice { id: self.id.to_string(), reason })
    }

    fn places(&self, commit: &str, chosen: &[String]) -> Vec<PathBuf> {
        chosen.iter().map(|name| self.cache.snapshot(commit).join(name)).collect()
    }

    /// The paths of the files in the cache, found without any request.
    fn cached(&self) -> Result<Vec<PathBuf>, HubError> {
        let not_cached = || HubError::NotCached { id: self.id.to_string(), cache: self.options.cache.clone() };
        let commit = self.cache.commit(self.id.revision()).ok_or_else(not_cached)?;
        let snapshot = self.cache.snapshot(&commit);
        let tree = self.cache.tree(&commit);
        // Without a listing (an older Python library filled this cache) the files that are there must do.
        let mut present = Vec::new();
        if tree.is_none() {
            walk(&snapshot, "", 0, &mut present);
        }
        let names: Vec<&str> = match &tree {
            Some(tree) => tree.plain_paths(),
            None => present.iter().map(String::as_str).collect(),
        };
        let chosen = self.chosen(&names)?;
        for name in &chosen {
            let file = tree.as_ref().and_then(|tree| tree.get(name));
            let reason = match self.cache.snapshot_state(&commit, name, file)? {
                State::Good => continue,
                State::Absent => format!("{name} is missing"),
                State::Damaged(reason) => format!("{name} is damaged, {reason}"),
            };
            return Err(HubError::NotWhole { id: self.id.to_string(), snapshot, reason });
        }
        Ok(self.places(&commit, &chosen))
    }
}

/// Paths of the files in a folder of the cache and in its sub-folders.
fn walk(root: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
    const DEEPEST: usize = 16;
    let entries = std::fs::read_dir(root.join(below)).into_iter().flatten().flatten();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !files::is_safe_name(&name) {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if root.join(&path).is_file() {
            found.push(path);
        } else if depth < DEEPEST {
            walk(root, &path, depth + 1, found);
        }
    }
}
