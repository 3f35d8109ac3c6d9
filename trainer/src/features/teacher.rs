//! The cache of a teacher's distributions as the loss reads it: [`TeacherCache`].
//!
//! `cache.json` says what the cache was made from and lists its files with their hashes. It is written again after each
//! file, so a run of the teacher that was ended goes on behind the last whole one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::key::TeacherKey;
use super::shard::{Cells, Shard};
use crate::error::Error;
use crate::run::{read_bounded, sha256_file, write_atomically};

/// The name of the list of files.
const MANIFEST: &str = "cache.json";
/// More is no list of files that this program wrote.
const LONGEST_MANIFEST: u64 = 16 << 20;

/// The content of `cache.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// What the cache is made from.
    pub key: TeacherKey,
    /// The teacher, as the recipe names it.
    pub teacher: String,
    /// Number of all examples.
    pub examples: usize,
    /// The files so far.
    pub shards: Vec<ShardEntry>,
}

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardEntry {
    pub file: String,
    pub examples: usize,
    pub sha256: String,
}

impl Manifest {
    /// Reads the list of a folder; `None` where there is none.
    ///
    /// # Errors
    /// A list that is none of ours, or names a file elsewhere.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MANIFEST);
        let text = match read_bounded(&path, LONGEST_MANIFEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let wrong = |problem: String| Error::Request {
            problem: format!("{}: {problem}", path.display()),
            help: "it is no cache that this program wrote: name another folder in objective.cache".into(),
        };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let is_plain = |name: &str| Path::new(name).file_name().is_some_and(|only| only == name);
        if let Some(entry) = manifest.shards.iter().find(|entry| !is_plain(&entry.file)) {
            return Err(wrong(format!("`{}` is no file of the folder", entry.file)));
        }
        Ok(Some(manifest))
    }

    /// Writes the list.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        Ok(write_atomically(&folder.join(MANIFEST), format!("{text}\n").as_bytes())?)
    }

    /// Number of examples in the files so far.
    pub fn done(&self) -> usize {
        self.shards.iter().fold(0usize, |sum, entry| sum.saturating_add(entry.examples))
    }
}

/// Why there is no cache to train from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// There is none.
    Absent,
    /// The teacher's run was ended: so many of so many examples.
    Unfinished(usize, usize),
}

/// A whole cache.
#[derive(Debug)]
pub struct TeacherCache {
    folder: PathBuf,
    key: TeacherKey,
    examples: usize,
    shards: Vec<Shard>,
}

/// The teacher's distributions at some positions.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedTokens {
    /// Number of positions.
    pub positions: usize,
    /// Tokens of each position.
    pub cells: usize,
    /// Ids of the tokens, `[positions, cells]`.
    pub ids: Vec<i32>,
    /// Their log-probabilities, `[positions, cells]`.
    pub log_probabilities: Vec<f32>,
    /// The logarithm of the probability of all others, `[positions]`; absent where there are none.
    pub others: Option<Vec<f32>>,
}

impl TeacherCache {
    /// Opens the cache in `folder`. The hash of every file is checked.
    ///
    /// # Errors
    /// A damaged cache.
    pub fn open(folder: &Path) -> Result<Result<Self, Missing>, Error> {
        let Some(manifest) = Manifest::read(folder)? else { return Ok(Err(Missing::Absent)) };
        if manifest.done() < manifest.examples {
            return Ok(Err(Missing::Unfinished(manifest.done(), manifest.examples)));
        }
        let Manifest { key, examples, shards: entries, .. } = manifest;
        let mut shards: Vec<Shard> = vec![];
        for entry in entries {
            let path = folder.join(&entry.file);
            if sha256_file(&path)? != entry.sha256 {
                return Err(Error::Request {
                    problem: format!("{}: its content is not what was written", path.display()),
                    help: "remove the folder and run `firebrand distill cache RECIPE` again".into(),
                });
            }
            let first = shards.last().map_or(0, |shard| shard.examples().end);
            let cells = key.top_k.min(key.vocabulary);
            shards.push(Shard::open(&path, first, entry.examples, cells, key.vocabulary)?);
        }
        Ok(Ok(Self { folder: folder.to_path_buf(), key, examples, shards }))
    }

    /// What it was made from.
    pub fn key(&self) -> &TeacherKey {
        &self.key
    }

    /// Checks that it was made from what a run needs.
    ///
    /// # Errors
    /// A cache of something else: all that differs, by name.
    pub fn check(&self, wanted: &TeacherKey) -> Result<(), Error> {
        let differences = self.key.differences(wanted);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Request {
            problem: format!(
                "the teacher's cache in {} was made from something else: {}",
                self.folder.display(),
                differences.join("; ")
            ),
            help: "run `firebrand distill cache RECIPE` for this recipe with another folder in objective.cache".into(),
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.examples == 0
    }

    /// The distributions at the labelled positions of examples, one after the other.
    ///
    /// # Errors
    /// An example that it does not have; a damaged file.
    pub fn read(&self, examples: impl Iterator<Item = usize>) -> Result<CachedTokens, Error> {
        let mut cells = Cells::default();
        let mut positions = 0;
        for example in examples {
            let at = self.shards.partition_point(|shard| shard.examples().end <= example);
            let shard = self.shards.get(at).ok_or_else(|| Error::Request {
                problem: format!("the teacher's cache in {} has no example {example}", self.folder.display()),
                help: "run `firebrand distill cache RECIPE` again".into(),
            })?;
            positions += shard.read(example, &mut cells)?;
        }
        let count = self.key.top_k.min(self.key.vocabulary);
        let Cells { ids, log_probabilities, others } = cells;
        let others = (count < self.key.vocabulary).then_some(others);
        Ok(CachedTokens { positions, cells: count, ids, log_probabilities, others })
    }
}
