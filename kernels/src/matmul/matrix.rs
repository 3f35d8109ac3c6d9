//! A matrix as it lies in memory: [`Matrix`].

use crate::quantized::QuantizedWeight;
use burn::tensor::{bf16, f16};
use std::ops::Range;

/// Borrowed numbers of a matrix, in the precision they are stored in.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    /// The numbers of a quantized weight from this one on.
    Quantized(&'a QuantizedWeight, usize),
}

/// A strided view: element `(row, column)` lies at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub elements: Elements<'a>,
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows behind each other without gaps.
    pub fn dense(elements: Elements<'a>, rows: usize, columns: usize) -> Self {
        Self { elements, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows of `columns` f32 that start `row_stride` apart.
    pub fn strided(elements: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { elements: Elements::F32(elements), rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Only these rows.
    pub fn with_rows(self, rows: Range<usize>) -> Self {
        let start = (rows.start * self.row_stride).min(self.len());
        let elements = match self.elements {
            Elements::F32(all) => Elements::F32(&all[start..]),
            Elements::F16(all) => Elements::F16(&all[start..]),
            Elements::Bf16(all) => Elements::Bf16(&all[start..]),
            Elements::Quantized(weight, first) => Elements::Quantized(weight, first + start),
        };
        Self { elements, rows: rows.len(), ..self }
    }

    /// Only these columns.
    pub fn with_columns(self, columns: Range<usize>) -> Self {
        self.transposed().with_rows(columns).transposed()
    }

    fn len(&self) -> usize {
        match self.elements {
            Elements::F32(all) => all.len(),
            Elements::F16(all) => all.len(),
            Elements::Bf16(all) => all.len(),
            Elements::Quantized(weight, first) => weight.len() - first,
        }
    }

    pub(super) fn assert_covered(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.len(), "matrix view larger than its storage");
        }
    }
}

/// Whether a product replaces what the output holds or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Replace,
    Add,
}
