//! [`TensorView`]: one tensor of an open file of either format, borrowed. Its bytes are read on request.
//!
//! safetensors files store every tensor row-major. PyTorch stores memory: a tensor may be a transposed or sliced view
//! of it, and is then copied into row-major order when its bytes are asked for.

use std::{borrow::Cow, path::Path};

use super::dtype::Dtype;
use crate::error::ModelError;

/// One tensor of an open file, borrowed without a copy.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The file it is in.
    pub file: &'a Path,
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub(super) data: Data<'a>,
}

/// The elements of a tensor in the file. They were checked against the tensor's shape when the file was opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data<'a> {
    /// Contiguous, the last dimension fastest; exactly `shape` x `dtype` bytes.
    RowMajor(&'a [u8]),
    /// At `strides` (in elements) from the first byte.
    Strided { bytes: &'a [u8], strides: &'a [usize] },
}

impl<'a> Data<'a> {
    /// The part of the file that contains the elements.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Data::RowMajor(bytes) | Data::Strided { bytes, .. } => bytes,
        }
    }
}

impl<'a> TensorView<'a> {
    /// The bytes of the elements: little-endian, row-major, at any alignment; exactly `shape` x `dtype`. Borrowed where
    /// the file stores them like this, else copied.
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        match self.data {
            Data::RowMajor(bytes) => Cow::Borrowed(bytes),
            Data::Strided { bytes, strides } => Cow::Owned(gather(bytes, self.dtype.size(), self.shape, strides)),
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        match self.data {
            Data::RowMajor(bytes) => bytes.len() / self.dtype.size(),
            Data::Strided { .. } => self.shape.iter().product(),
        }
    }

    /// The length of [`TensorView::bytes`].
    pub fn byte_count(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// The values as f32: exact for f32, bf16 and f16, rounded for f64. Error: the dtype is not a float.
    pub fn to_f32(&self) -> Result<Vec<f32>, ModelError> {
        let decoded = self.dtype.decode(&self.bytes());
        decoded.ok_or_else(|| ModelError::tensor(self.file, self.name, "floating-point weights", self.dtype.name()))
    }

    /// The values in another float, rounded to nearest, as little-endian bytes.
    ///
    /// # Errors
    /// The tensor is not of floats; a value that is not finite there, by its index.
    pub fn encoded(&self, dtype: Dtype) -> Result<Vec<u8>, ModelError> {
        let values = self.to_f32()?;
        match dtype.first_beyond(&values) {
            None => Ok(dtype.encode(&values).unwrap_or_default()),
            Some((index, value)) => Err(self.beyond(index, f64::from(value), dtype)),
        }
    }

    /// Error, naming tensor and index: a float that `dtype` cannot hold. Tensors of integers have none.
    pub fn check_fits(&self, dtype: Dtype) -> Result<(), ModelError> {
        let narrower = dtype.largest() < self.dtype.largest();
        match self.dtype.decode(&self.bytes()).filter(|_| narrower).and_then(|values| dtype.first_beyond(&values)) {
            None => Ok(()),
            Some((index, value)) => Err(self.beyond(index, f64::from(value), dtype)),
        }
    }

    fn beyond(&self, index: usize, value: f64, dtype: Dtype) -> ModelError {
        let (path, tensor) = (self.file.to_owned(), self.name.to_owned());
        match value.is_finite() {
            true => ModelError::BeyondDtype { path: Some(path), tensor, index, value, dtype },
            false => ModelError::NonFinite { path, tensor, index, value },
        }
    }

    /// Error, naming tensor and index: an element that is NaN, infinite or too large for f32.
    pub fn check_finite(&self) -> Result<(), ModelError> {
        match self.dtype.first_non_finite(&self.bytes()) {
            None => Ok(()),
            Some((index, value)) if value.is_finite() => Err(self.beyond(index, value, Dtype::F32)),
            Some((index, value)) => {
                Err(ModelError::NonFinite { path: self.file.to_owned(), tensor: self.name.to_owned(), index, value })
            }
        }
    }
}

/// Copies the elements of `size` bytes at `strides` into row-major order. No dimension may be zero.
fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let mut gathered = Vec::with_capacity(shape.iter().product::<usize>() * size);
    let (Some((&row, outer)), Some((&step, outer_strides))) = (shape.split_last(), strides.split_last()) else {
        return bytes.to_vec();
    };
    let mut index = vec![0; outer.len()];
    let mut start = 0;
    loop {
        for column in 0..row {
            let at = (start + column * step) * size;
            gathered.extend_from_slice(&bytes[at..at + size]);
        }
        // Advance to the next row, as an odometer counts.
        let mut dimension = outer.len();
        loop {
            let Some(slower) = dimension.checked_sub(1) else { return gathered };
            dimension = slower;
            index[dimension] += 1;
            start += outer_strides[dimension];
            if index[dimension] < outer[dimension] {
                break;
            }
            start -= outer[dimension] * outer_strides[dimension];
            index[dimension] = 0;
        }
    }
}

/// The positions `0..count` sorted by name. Error: a name that occurs twice.
pub(super) fn sort_by_name<'n>(
    path: &Path,
    count: usize,
    name: impl Fn(u32) -> &'n str,
) -> Result<Vec<u32>, ModelError> {
    // A reader takes over a hundred bytes per tensor, and in all no more than the file's size, so there are fewer than
    // 2^32 tensors.
    let mut by_name: Vec<u32> = (0..count as u32).collect();
    by_name.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
    match by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        Some(pair) => Err(ModelError::tensor(path, name(pair[0]), "each name once", "it twice")),
        None => Ok(by_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_elements_are_gathered_in_row_major_order() {
        let bytes: Vec<u8> = (0..24).collect();
        // [2, 3] of two-byte elements, transposed to [3, 2].
        let transposed = gather(&bytes[..12], 2, &[3, 2], &[1, 3]);
        assert_eq!(transposed, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        // [2, 3, 4] permuted to [4, 2, 3].
        let permuted = gather(&bytes, 1, &[4, 2, 3], &[1, 12, 4]);
        let expected: Vec<u8> =
            (0..4).flat_map(|k| (0..2).flat_map(move |i| (0..3).map(move |j| i * 12 + j * 4 + k))).collect();
        assert_eq!(permuted, expected);
        // Every second element; one element repeated.
        assert_eq!(gather(&bytes[..5], 1, &[3], &[2]), [0, 2, 4]);
        assert_eq!(gather(&bytes[..2], 1, &[2, 2], &[1, 0]), [0, 0, 1, 1]);
    }
}
