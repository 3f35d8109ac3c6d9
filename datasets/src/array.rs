//! Arrays of numbers: [`NamedArrays`] is what a row of tensors gives a model, in plain memory and without a tensor
//! library.

use std::collections::BTreeMap;

/// Arrays by name, sorted by name.
pub type NamedArrays = BTreeMap<String, Array>;

/// An array of any rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The length of each dimension; empty for a single number.
    pub shape: Vec<usize>,
    /// The values in row-major order: as many as the product of `shape`.
    pub values: ArrayValues,
}

/// The values of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayValues {
    /// Real numbers.
    F32(Vec<f32>),
    /// Whole numbers: token ids, labels, masks, time steps.
    I64(Vec<i64>),
}

impl ArrayValues {
    /// The name of the element type: safetensors' name in lower case (`f32`, `i64`).
    pub fn dtype(&self) -> &'static str {
        match self {
            ArrayValues::F32(_) => "f32",
            ArrayValues::I64(_) => "i64",
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            ArrayValues::F32(values) => values.len(),
            ArrayValues::I64(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
