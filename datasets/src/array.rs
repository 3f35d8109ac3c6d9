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

/// Outlines of arrays by name, sorted by name.
pub type NamedOutlines = BTreeMap<String, ArrayOutline>;

/// An array without its real numbers: what a model is checked against before training.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayOutline {
    /// The length of each dimension; empty for a single number.
    pub shape: Vec<usize>,
    /// The element type, and the values of whole numbers.
    pub values: OutlineValues,
}

/// The values of an [`ArrayOutline`].
#[derive(Debug, Clone, PartialEq)]
pub enum OutlineValues {
    /// Real numbers, which are not read.
    F32,
    /// Whole numbers.
    I64(Vec<i64>),
}

impl Array {
    /// The array without its real numbers.
    pub fn outline(&self) -> ArrayOutline {
        let values = match &self.values {
            ArrayValues::F32(_) => OutlineValues::F32,
            ArrayValues::I64(values) => OutlineValues::I64(values.clone()),
        };
        ArrayOutline { shape: self.shape.clone(), values }
    }
}

impl OutlineValues {
    /// The name of the element type: safetensors' name in lower case (`f32`, `i64`).
    pub fn dtype(&self) -> &'static str {
        match self {
            OutlineValues::F32 => "f32",
            OutlineValues::I64(_) => "i64",
        }
    }
}
