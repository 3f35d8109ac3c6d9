//! A file of a teacher's cache: the distributions at the labelled positions of some consecutive examples.
//!
//! ```text
//! ids                i32 [positions, cells]   the likeliest tokens of each position
//! log_probabilities  f16 [positions, cells]
//! others             f16 [positions]          of all other tokens together; absent where the cells are the vocabulary
//! offsets            i64 [examples + 1]       where each example's positions begin
//! ```

use std::ops::Range;
use std::path::Path;

use firebrand_models::weights::{Dtype, SafetensorsFile, TensorView};
use half::f16;
use safetensors::tensor::TensorView as Tensor;

use super::likeliest::Likeliest;
use crate::error::Error;
use crate::run::{sha256_bytes, write_atomically};

/// A file that is being filled.
#[derive(Debug, Default)]
pub struct Filling {
    ids: Vec<u8>,
    log_probabilities: Vec<u8>,
    others: Vec<u8>,
    offsets: Vec<i64>,
}

impl Filling {
    /// Adds the positions of the next example.
    pub fn add(&mut self, positions: &[Likeliest]) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let before = self.offsets.last().copied().unwrap_or(0);
        self.offsets.push(before + positions.len() as i64);
        for position in positions {
            self.ids.extend(position.ids.iter().flat_map(|id| (*id as i32).to_le_bytes()));
            self.log_probabilities.extend(position.log_probabilities.iter().flat_map(|value| narrow(*value)));
            self.others.extend(position.others.into_iter().flat_map(narrow));
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.ids.len() + self.log_probabilities.len() + self.others.len()
    }

    /// Number of examples so far.
    pub fn examples(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Writes the file and returns its hash.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(self, path: &Path, cells: usize) -> Result<String, Error> {
        let positions = self.offsets.last().copied().unwrap_or(0) as usize;
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let mut tensors = vec![
            ("ids", safetensors::Dtype::I32, vec![positions, cells], &self.ids),
            ("log_probabilities", safetensors::Dtype::F16, vec![positions, cells], &self.log_probabilities),
            ("offsets", safetensors::Dtype::I64, vec![self.offsets.len()], &offsets),
        ];
        if !self.others.is_empty() {
            tensors.push(("others", safetensors::Dtype::F16, vec![positions], &self.others));
        }
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((*name, Tensor::new(*dtype, shape.clone(), bytes)?)))
            .collect();
        let written = views.and_then(|views| safetensors::serialize(views, None));
        let bytes = written.map_err(|error: safetensors::SafeTensorError| Error::Request {
            problem: format!("{}: {error}", path.display()),
            help: "the cache is not complete; run the command again".into(),
        })?;
        write_atomically(path, &bytes)?;
        Ok(sha256_bytes(&bytes))
    }
}

/// Half precision. A probability that it cannot hold becomes the smallest that it can.
fn narrow(value: f32) -> [u8; 2] {
    f16::from_f32(value.max(f16::MIN.to_f32())).to_le_bytes()
}

/// A file that was written. It comes from elsewhere, so everything it says is checked.
#[derive(Debug)]
pub struct Shard {
    file: SafetensorsFile,
    /// Number of its first example.
    first: usize,
    offsets: Vec<usize>,
    cells: usize,
    vocabulary: usize,
    has_others: bool,
}

impl Shard {
    /// Opens a file with the positions of `examples` examples from `first` on.
    ///
    /// # Errors
    /// A file that is not there or not whole.
    pub fn open(path: &Path, first: usize, examples: usize, cells: usize, vocabulary: usize) -> Result<Self, Error> {
        let file = SafetensorsFile::open(path)?;
        let broken = |problem: &str| broken(path, problem);
        let offsets = file.get("offsets")?;
        if offsets.dtype != Dtype::I64 || offsets.shape != [examples + 1] {
            return Err(broken("`offsets` is not the beginning of every example"));
        }
        let offsets: Vec<usize> = offsets
            .bytes()
            .chunks_exact(8)
            .map(|bytes| {
                <[u8; 8]>::try_from(bytes).ok().and_then(|bytes| usize::try_from(i64::from_le_bytes(bytes)).ok())
            })
            .collect::<Option<_>>()
            .ok_or_else(|| broken("`offsets` has a number below zero"))?;
        let positions = offsets.last().copied().unwrap_or(0);
        if offsets.first() != Some(&0) || !offsets.is_sorted() {
            return Err(broken("`offsets` does not rise from 0"));
        }
        let is = |view: &TensorView<'_>, dtype, shape: &[usize]| view.dtype == dtype && view.shape == shape;
        if !is(&file.get("ids")?, Dtype::I32, &[positions, cells])
            || !is(&file.get("log_probabilities")?, Dtype::F16, &[positions, cells])
        {
            return Err(broken(&format!(
                "its tensors are not those of {positions} positions with {cells} tokens each"
            )));
        }
        // Where every token is kept there are no others.
        let has_others = cells < vocabulary;
        if has_others && positions > 0 && !is(&file.get("others")?, Dtype::F16, &[positions]) {
            return Err(broken("`others` is not a number for every position"));
        }
        Ok(Self { file, first, offsets, cells, vocabulary, has_others })
    }

    /// The numbers of its examples.
    pub fn examples(&self) -> Range<usize> {
        self.first..self.first + self.offsets.len() - 1
    }

    /// Appends the positions of an example that it holds, and returns how many.
    ///
    /// # Errors
    /// An id outside of the vocabulary.
    pub fn read(&self, example: usize, into: &mut Cells) -> Result<usize, Error> {
        let at = example - self.first;
        let range = self.offsets[at]..self.offsets[at + 1];
        let cells = range.start * self.cells..range.end * self.cells;
        let ids = self.file.get("ids")?;
        for bytes in ids.bytes()[cells.start * 4..cells.end * 4].chunks_exact(4) {
            let id = <[u8; 4]>::try_from(bytes).map_or(-1, i32::from_le_bytes);
            if usize::try_from(id).map_or(true, |id| id >= self.vocabulary) {
                let problem = format!("id {id} in a vocabulary of {}", self.vocabulary);
                return Err(broken(self.file.path(), &problem));
            }
            into.ids.push(id);
        }
        let wide = |name: &str, range: Range<usize>| -> Result<Vec<f32>, Error> {
            let view = self.file.get(name)?;
            let halves = view.bytes()[range.start * 2..range.end * 2].to_vec();
            Ok(halves.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()).collect())
        };
        into.log_probabilities.extend(wide("log_probabilities", cells)?);
        if self.has_others {
            into.others.extend(wide("others", range.clone())?);
        }
        Ok(range.len())
    }
}

/// Positions that were read.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Cells {
    /// `[positions, cells]`.
    pub ids: Vec<i32>,
    /// `[positions, cells]`.
    pub log_probabilities: Vec<f32>,
    /// `[positions]`, or empty where the cells are the whole vocabulary.
    pub others: Vec<f32>,
}

fn broken(path: &Path, problem: &str) -> Error {
    Error::Request {
        problem: format!("{}: {problem}", path.display()),
        help: "the cache is damaged: remove its folder and run `firebrand distill cache RECIPE` again".into(),
    }
}
