//! Fetches the files of a hub id that the cache lacks and returns the snapshot folder: [`fetch`].
//!
//! The order makes a partial copy harmless: small files first, then weights, and only when all are there is
//! the branch recorded as this commit. Until then an offline run gets the older, complete copy.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{ModelCache, State};
use crate::client::Client;
use crate::download::Job;
use crate::error::HubError;
use crate::files::{self, NAMED_TEMPLATES, Selection, Weights};
use crate::id::HubId;
use crate::options::HubOptions;
use crate::progress::Progress;
use crate::tree::Tree;

/// The longest index of shards that is read, in bytes (enough for a million tensors).
const LONGEST_INDEX: u64 = 256 << 20;

/// The snapshot folder of `id`; files that the cache lacks are fetched.
pub(crate) fn fetch(id: &HubId, options: &HubOptions) -> Result<PathBuf, HubError> {
    let cache = ModelCache::new(&options.cache, id);
    if options.offline {
        return cached(id, &cache, options);
    }
    if id.commit().is_some() {
        // A commit never changes: if all of it is cached, no request is needed.
        if let Ok(snapshot) = cached(id, &cache, options) {
            return Ok(snapshot);
        }
    }
    let client = Client::new(id, options)?;
    let mut progress = Progress::new(options.progress);
    let (commit, tree) = match listing(id, &cache, &client) {
        Ok(listing) => listing,
        Err(error) if error.is_unreachable() => {
            let Ok(snapshot) = cached(id, &cache, options) else {
                return Err(error);
            };
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            progress.warn(&format!("{reason}; using the cached copy {}", snapshot.display()));
            return Ok(snapshot);
        }
        Err(error) => return Err(error),
    };
    let mut fetch = Fetch { id, commit: &commit, tree: &tree, cache: &cache, client: &client, progress: &mut progress };
    let selection = Selection::of(&id.to_string(), &tree.plain_paths())?;
    fetch.files(&selection.supporting, "is part of the model")?;
    match &selection.weights {
        Weights::Files(weights) => fetch.files(weights, "is part of the model")?,
        Weights::Indexed(index) => {
            fetch.files(&[index.to_string()], "is part of the model")?;
            let shards = fetch.shards(index)?;
            fetch.files(&shards, &format!("{index} names"))?;
        }
    }
    if let Err(error) = cache.remember_commit(id.revision(), &commit) {
        progress.warn(&format!("{error}; offline, this revision will not be found"));
    }
    progress.finish();
    Ok(cache.snapshot(&commit))
}

/// The commit that the revision currently names, and its files.
pub(crate) fn listing(id: &HubId, cache: &ModelCache, client: &Client) -> Result<(String, Tree), HubError> {
    let commit = match id.commit() {
        Some(commit) => commit.to_string(),
        None => client.commit()?,
    };
    if let Some(tree) = cache.tree(&commit) {
        return Ok((commit, tree));
    }
    let tree = client.tree(&commit)?;
    // Saves the next request. The error is ignored because a complete read-only cache can still be used.
    let _ = cache.remember_tree(&commit, &tree);
    Ok((commit, tree))
}

/// The names in a folder that are plain file names.
fn names_in(folder: &Path) -> Option<Vec<String>> {
    let names = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Some(names.filter(|name| files::is_plain_name(name)).collect())
}

/// The snapshot folder of `id` if the cache holds all of it. No request is made.
fn cached(id: &HubId, cache: &ModelCache, options: &HubOptions) -> Result<PathBuf, HubError> {
    let not_cached = || HubError::NotCached { id: id.to_string(), cache: options.cache.clone() };
    let commit = cache.commit(id.revision()).ok_or_else(not_cached)?;
    let snapshot = cache.snapshot(&commit);
    let not_whole = |reason: String| HubError::NotWhole { id: id.to_string(), snapshot: snapshot.clone(), reason };
    let tree = cache.tree(&commit);
    // Without a listing (an older Python library filled this cache) the files that are there must at least be a model.
    let mut present = names_in(&snapshot).ok_or_else(not_cached)?;
    let templates = names_in(&snapshot.join(NAMED_TEMPLATES)).unwrap_or_default();
    present.extend(templates.iter().map(|name| format!("{NAMED_TEMPLATES}/{name}")));
    let names = match &tree {
        Some(tree) => tree.plain_paths(),
        None => present.iter().map(String::as_str).collect(),
    };
    let check = |name: &str| {
        let file = tree.as_ref().and_then(|tree| tree.get(name));
        match cache.snapshot_state(&commit, name, file)? {
            State::Good => Ok(()),
            State::Absent => Err(not_whole(format!("{name} is missing"))),
            State::Damaged(reason) => Err(not_whole(format!("{name} is damaged, {reason}"))),
        }
    };
    let selection = Selection::of(&id.to_string(), &names).map_err(|error| match (&tree, error) {
        (None, HubError::NotAModel { missing, .. }) => not_whole(format!("{missing} is missing")),
        (_, error) => error,
    })?;
    selection.supporting.iter().try_for_each(|name| check(name))?;
    match &selection.weights {
        Weights::Files(weights) => weights.iter().try_for_each(|name| check(name))?,
        Weights::Indexed(index) => {
            check(index)?;
            let text = fs::read_to_string(snapshot.join(index)).map_err(HubError::io("read", snapshot.join(index)))?;
            let shards = files::shards(index, &text).map_err(|reason| not_whole(format!("{index}: {reason}")))?;
            shards.iter().try_for_each(|name| check(name))?;
        }
    }
    Ok(snapshot)
}

/// Fetches files of one commit.
pub(crate) struct Fetch<'a> {
    pub id: &'a HubId,
    pub commit: &'a str,
    pub tree: &'a Tree,
    pub cache: &'a ModelCache,
    pub client: &'a Client<'a>,
    pub progress: &'a mut Progress,
}

impl Fetch<'_> {
    /// Fetches these files into the snapshot. `needed_by` completes "the file, which ..." in the error for a
    /// file that the repository does not have.
    pub fn files(&mut self, names: &[String], needed_by: &str) -> Result<(), HubError> {
        let mut jobs = Vec::new();
        for name in names {
            let file = self.tree.get(name).ok_or_else(|| HubError::MissingFile {
                id: self.id.to_string(),
                file: name.clone(),
                needed_by: needed_by.to_string(),
            })?;
            let digest = file.digest().ok_or_else(|| self.malformed(name, "the hub states no hash for it"))?;
            if self.cache.snapshot_state(self.commit, name, Some(file))? == State::Good {
                continue;
            }
            match self.cache.blob_state(file, &digest)? {
                State::Good => self.cache.link(self.commit, name, &digest)?,
                State::Absent => jobs.push(Job { name, size: file.size(), digest }),
                State::Damaged(reason) => {
                    self.progress.warn(&format!("the cached {name} is damaged ({reason}); fetching it again"));
                    jobs.push(Job { name, size: file.size(), digest });
                }
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        if self.progress.is_new() {
            self.progress.note(&format!("fetching {} (commit {})", self.id, &self.commit[..12]));
        }
        self.progress.expect(jobs.iter().map(|job| job.size).sum());
        jobs.iter().try_for_each(|job| self.run(job))
    }

    fn run(&mut self, job: &Job) -> Result<(), HubError> {
        let blob = self.cache.blob(&job.digest);
        let _lock = self.cache.lock(&job.digest, job.name)?;
        // Another program may have fetched it while this one waited for the lock.
        let file = self.tree.get(job.name);
        let there =
            file.is_some_and(|file| self.cache.blob_state(file, &job.digest).is_ok_and(|state| state == State::Good));
        if !there {
            job.run(self.client, self.commit, &blob, self.progress)?;
            self.cache.remember_good(&blob, &job.digest);
        }
        self.cache.link(self.commit, job.name, &job.digest)
    }

    /// The shards that a fetched index names.
    fn shards(&self, index: &str) -> Result<Vec<String>, HubError> {
        let path = self.cache.snapshot(self.commit).join(index);
        if self.tree.get(index).is_some_and(|file| file.size() > LONGEST_INDEX) {
            return Err(self.malformed(index, "it is too long for an index"));
        }
        let text = fs::read_to_string(&path).map_err(HubError::io("read", &path))?;
        files::shards(index, &text).map_err(|reason| self.malformed(index, &reason))
    }

    fn malformed(&self, file: &str, reason: &str) -> HubError {
        HubError::MalformedFile { id: self.id.to_string(), file: file.to_string(), reason: reason.to_string() }
    }
}
