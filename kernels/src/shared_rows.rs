//! An output matrix that several tasks write at once, each its own rows and columns.

use std::{marker::PhantomData, ops::Range};

/// A mutably borrowed matrix that hands out segments of rows.
pub(crate) struct SharedRows<'a> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: the callers of `segment` promise that what they hold at the same time is disjoint, and the slice is borrowed mutably for
// as long as this lives.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// `rows` of `columns` numbers that start `stride` apart.
    pub fn new(values: &'a mut [f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(columns <= stride || rows <= 1, "rows of a matrix overlap");
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len(), "matrix larger than its storage");
        Self { start: values.as_mut_ptr(), stride, rows, columns, borrowed: PhantomData }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Some columns of a row.
    ///
    /// # Safety
    /// No other segment that overlaps with it may be alive.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // Exclusive by the caller's promise.
    pub unsafe fn segment(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: inside the slice by the check in `new` and the one above.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + columns.start), columns.len()) }
    }
}
