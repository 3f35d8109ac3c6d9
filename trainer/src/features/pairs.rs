//! What a reference gives the answers of pairs, kept in a file: [`ReferencePairs`].
//!
//! A file belongs to one reference and grows with the pairs that runs ask for. It holds
//!
//! ```text
//! digests            u8  [pairs, 32]  sha256 of the tokens and labels of a pair, rising
//! log_probabilities  f64 [pairs, 2]   of its chosen and its rejected answer, sums over their tokens
//! ```
//! and the sha256 of both, one after the other, in its metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use firebrand_models::weights::{Dtype, SafetensorsFile};
use safetensors::tensor::TensorView;
use serde::Serialize;

use crate::error::Error;
use crate::recipe::ComputeDtype;
use crate::run::{sha256_bytes, write_atomically};

/// The sha256 of the tokens and labels of a pair.
pub type PairDigest = [u8; 32];

/// The key of the metadata under which the hash of the content is.
const HASH: &str = "sha256";
/// Characters of a key's hash in the name of its file.
const SHORT: usize = 16;

/// What decides the numbers of a reference. Hashes are sha256 in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferenceKey {
    /// Hash of its weights, its configuration, and how its weights are held.
    pub model: String,
    /// For each row of the trained model's vocabulary its own; absent: the rows are the same.
    pub rows: Option<Vec<u32>>,
    /// Hash of the tokenizer of the rows; absent where they are ids.
    pub tokenizer: Option<String>,
    /// What was made of the weights: new tokens, an adapter that is not new, random weights; empty for weights as they are.
    pub made: String,
    /// The device that it runs on.
    pub device: String,
    /// What its products read their operands in.
    pub dtype: ComputeDtype,
}

/// The log-probabilities that a reference gives the answers of pairs.
#[derive(Debug, Clone)]
pub struct ReferencePairs {
    path: PathBuf,
    known: HashMap<PairDigest, [f64; 2]>,
}

impl ReferencePairs {
    /// Opens the file of a reference in `folder`; without one, nothing is known.
    ///
    /// # Errors
    /// A file that is damaged or that this program did not write.
    pub fn open(folder: &Path, key: &ReferenceKey) -> Result<Self, Error> {
        let hash = sha256_bytes(&serde_json::to_vec(key).unwrap_or_default());
        let path = folder.join(format!("reference-{}.safetensors", &hash[..SHORT]));
        let known = if path.exists() { read(&path)? } else { HashMap::new() };
        Ok(Self { path, known })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Of the chosen and the rejected answer of a pair.
    pub fn get(&self, pair: &PairDigest) -> Option<[f64; 2]> {
        self.known.get(pair).copied()
    }

    /// Adds a pair.
    pub fn insert(&mut self, pair: PairDigest, log_probabilities: [f64; 2]) {
        self.known.insert(pair, log_probabilities);
    }

    /// Writes the file, and the folder where it is not there.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self) -> Result<(), Error> {
        let sorted: BTreeMap<_, _> = self.known.iter().collect();
        let digests: Vec<u8> = sorted.keys().flat_map(|digest| digest.iter().copied()).collect();
        let values: Vec<u8> = sorted.values().flat_map(|pair| pair.iter().flat_map(|one| one.to_le_bytes())).collect();
        let metadata = HashMap::from([(HASH.to_owned(), sha256_bytes(&[&digests[..], &values].concat()))]);
        let pairs = sorted.len();
        let bytes = TensorView::new(safetensors::Dtype::U8, vec![pairs, size_of::<PairDigest>()], &digests)
            .and_then(|digests| {
                let values = TensorView::new(safetensors::Dtype::F64, vec![pairs, 2], &values)?;
                safetensors::serialize([("digests", digests), ("log_probabilities", values)], Some(metadata))
            })
            .map_err(|error| broken(&self.path, &error.to_string()))?;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        Ok(write_atomically(&self.path, &bytes)?)
    }
}

/// The content of a file. It comes from elsewhere, so everything it says is checked.
fn read(path: &Path) -> Result<HashMap<PairDigest, [f64; 2]>, Error> {
    let file = SafetensorsFile::open(path)?;
    let (digests, values) = (file.get("digests")?, file.get("log_probabilities")?);
    let pairs = digests.shape.first().copied().unwrap_or_default();
    let shapes = digests.dtype == Dtype::U8 && digests.shape == [pairs, size_of::<PairDigest>()];
    if !shapes || values.dtype != Dtype::F64 || values.shape != [pairs, 2] {
        return Err(broken(path, "its tensors are not those of kept log-probabilities"));
    }
    let content = [digests.bytes(), values.bytes()].concat();
    if file.metadata().get(HASH) != Some(&sha256_bytes(&content)) {
        return Err(broken(path, "its content is not what was written"));
    }
    let (digests, values) = content.split_at(pairs * size_of::<PairDigest>());
    let ((digests, _), (values, _)) = (digests.as_chunks(), values.as_chunks());
    let (values, _) = values.as_chunks();
    let each = |pair: &[[u8; 8]; 2]| pair.map(f64::from_le_bytes);
    Ok(digests.iter().zip(values).map(|(digest, pair)| (*digest, each(pair))).collect())
}

fn broken(path: &Path, problem: &str) -> Error {
    Error::Request {
        problem: format!("{}: {problem}", path.display()),
        help: "remove the file: the reference's log-probabilities are computed again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str) -> ReferenceKey {
        let (made, device, dtype) = (String::new(), "cpu".into(), ComputeDtype::F32);
        ReferenceKey { model: model.into(), rows: None, tokenizer: None, made, device, dtype }
    }

    #[test]
    fn pairs_are_read_as_written_and_by_their_reference_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = ReferencePairs::open(folder.path(), &key("a")).unwrap();
        assert!(kept.is_empty());
        kept.insert([7; 32], [-1.5, -2.25]);
        kept.insert([3; 32], [-0.1, f64::MIN_POSITIVE]);
        kept.write().unwrap();
        let again = ReferencePairs::open(folder.path(), &key("a")).unwrap();
        assert_eq!((again.len(), again.get(&[7; 32])), (2, Some([-1.5, -2.25])));
        assert_eq!((again.get(&[3; 32]), again.get(&[0; 32])), (Some([-0.1, f64::MIN_POSITIVE]), None));
        assert!(ReferencePairs::open(folder.path(), &key("b")).unwrap().is_empty());
    }

    #[test]
    fn a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = ReferencePairs::open(folder.path(), &key("a")).unwrap();
        kept.insert([7; 32], [-1.5, -2.25]);
        kept.write().unwrap();
        let mut bytes = std::fs::read(kept.path()).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(kept.path(), &bytes).unwrap();
        let refused = ReferencePairs::open(folder.path(), &key("a")).unwrap_err();
        assert!(refused.to_string().contains("not what was written"), "{refused}");
        std::fs::write(kept.path(), &bytes[..last]).unwrap();
        assert!(ReferencePairs::open(folder.path(), &key("a")).is_err());
    }
}
