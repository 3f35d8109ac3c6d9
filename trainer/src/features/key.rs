//! What a teacher's cache was made from, [`TeacherKey`]: a cache of anything else is refused.

use std::path::Path;

use firebrand_datasets::Dataset;
use firebrand_models::Hold;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::recipe::ComputeDtype;
use crate::run::sha256_file;

/// What decides the numbers of a cache. Hashes are sha256 in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherKey {
    /// Hash of the teacher: its weights, its configuration, and how its weights are held.
    pub teacher: String,
    /// Hash of the student's tokenizer; absent where rows are ids.
    pub tokenizer: Option<String>,
    /// Hash of the rows as tokens and labels, in their order. Template and label rule act through it.
    pub data: String,
    /// Number of tokens of the student's vocabulary.
    pub vocabulary: usize,
    /// The logits were divided by it.
    pub temperature: f64,
    /// Tokens that are kept for each labelled position.
    pub top_k: usize,
    /// What products of the teacher read their operands in. Caches that do not say it were computed in f32.
    #[serde(default)]
    pub dtype: ComputeDtype,
}

impl TeacherKey {
    /// The names of what differs from `wanted`, with both values. Where `wanted.teacher` is empty, any teacher will do.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let mut found = vec![];
        if !wanted.teacher.is_empty() && self.teacher != wanted.teacher {
            found.push(format!("`teacher` is {}, the recipe's is {}", short(&self.teacher), short(&wanted.teacher)));
        }
        if self.temperature != wanted.temperature {
            found.push(format!("`temperature` is {}, the recipe's is {}", self.temperature, wanted.temperature));
        }
        if self.top_k != wanted.top_k {
            found.push(format!("`top_k` is {}, the recipe's is {}", self.top_k, wanted.top_k));
        }
        if self.dtype != wanted.dtype {
            found.push(format!("`dtype` is {}, the recipe's is {}", self.dtype.name(), wanted.dtype.name()));
        }
        if self.vocabulary != wanted.vocabulary {
            found.push(format!("`vocabulary` is {}, the model's is {}", self.vocabulary, wanted.vocabulary));
        }
        if self.tokenizer != wanted.tokenizer {
            found.push("`tokenizer` is another one".into());
        }
        if !wanted.data.is_empty() && self.data != wanted.data {
            found.push(format!("`data` is {}, the recipe's rows are {}", short(&self.data), short(&wanted.data)));
        }
        found
    }
}

/// The hash of a model folder's weights and configuration, held so.
///
/// # Errors
/// A file that cannot be read.
pub fn hash_model(folder: &Path, hold: Hold) -> Result<String, Error> {
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned();
        let is_weights = name.ends_with(".safetensors") || name.ends_with(".bin");
        if is_weights || name == "config.json" {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        hash.update(format!("{name} {}\n", sha256_file(&folder.join(&name))?));
    }
    // Dense weights give the same numbers in whatever precision holds all of their bits.
    if let Hold::Quantized(scheme) = hold {
        hash.update(scheme.to_string());
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The hash of the tokens and labels of all examples, in order.
pub fn hash_examples(dataset: &Dataset) -> String {
    let mut hash = Sha256::new();
    dataset.entries(|_, entry| hash.update(entry.digest));
    hexadecimal(&hash.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
