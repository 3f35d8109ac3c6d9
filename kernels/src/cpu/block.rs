//! A rectangle of an output matrix that one task writes: [`BlockMut`], and an output that is written before it is read: [`Fresh`].

use rayon::prelude::*;
use std::{
    marker::PhantomData,
    mem::{MaybeUninit, take},
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Some rows and columns of a mutably borrowed matrix. Blocks are split like slices, so no two hold the same number.
pub(crate) struct BlockMut<'a> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    /// Counts the numbers that were written, as long as those of this block were not.
    unwritten: Option<&'a AtomicUsize>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is alone with its numbers, so it may go to another thread as a mutable slice may.
unsafe impl Send for BlockMut<'_> {}

impl<'a> BlockMut<'a> {
    /// `rows` of `columns` numbers that start `stride` apart.
    pub fn new(values: &'a mut [f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(columns <= stride || rows <= 1, "rows of a matrix overlap");
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len(), "matrix larger than its storage");
        Self { start: values.as_mut_ptr(), stride, rows, columns, unwritten: None, borrowed: PhantomData }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Lends the block to `work`, which may cut it. It is written when all of it was.
    pub fn lend<R>(&mut self, work: impl FnOnce(BlockMut<'_>) -> R) -> R {
        let count = AtomicUsize::new(0);
        let unwritten = self.unwritten.map(|_| &count);
        let result = work(BlockMut { unwritten, borrowed: PhantomData, ..*self });
        if count.load(Ordering::Relaxed) == self.rows * self.columns {
            // SAFETY: blocks that do not overlap and have as many numbers were written.
            unsafe { self.assume_written() };
        }
        result
    }

    /// Whether its numbers may be read.
    pub fn is_written(&self) -> bool {
        self.unwritten.is_none()
    }

    /// A row of a block that was written.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows && self.is_written());
        // SAFETY: the row lies in the borrowed numbers, which are written, and no other block has any of it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }

    /// Some columns of a row, to be written. What is there may be read where the block was written.
    #[inline(always)]
    pub(super) fn cells(&mut self, row: usize, columns: &Range<usize>) -> &mut [MaybeUninit<f32>] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: inside the block, by the check above; no other block has any of it.
        unsafe {
            let start = self.start.add(row * self.stride + columns.start);
            std::slice::from_raw_parts_mut(start.cast(), columns.len())
        }
    }

    /// Where a rectangle of the block starts, and how far apart its rows are, if it is so many rows high and columns wide.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn whole(
        &mut self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        [height, width]: [usize; 2],
    ) -> Option<(*mut f32, usize)> {
        assert!(rows.end <= self.rows && columns.end <= self.columns);
        // SAFETY: inside the block, by the checks.
        (rows.len() == height && columns.len() == width)
            .then(|| (unsafe { self.start.add(rows.start * self.stride + columns.start) }, self.stride))
    }

    /// Says that every number of this block is written.
    ///
    /// # Safety
    /// It must be so.
    pub(super) unsafe fn assume_written(&mut self) {
        if let Some(count) = self.unwritten.take() {
            count.fetch_add(self.rows * self.columns, Ordering::Relaxed);
        }
    }

    /// Sets all numbers to zero.
    pub fn clear(&mut self) {
        for row in 0..self.rows {
            self.cells(row, &(0..self.columns)).fill(MaybeUninit::new(0.0));
        }
        // SAFETY: all rows were just written.
        unsafe { self.assume_written() };
    }

    /// The first `at` rows, and the others.
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows);
        // No place is computed behind the storage where nothing is left.
        let skip = if at < self.rows { at * self.stride } else { 0 };
        // SAFETY: inside the borrowed numbers.
        let start = unsafe { self.start.add(skip) };
        (Self { rows: at, ..self }, Self { start, rows: self.rows - at, ..self })
    }

    /// The first `at` columns, and the others.
    pub fn split_columns(self, at: usize) -> (Self, Self) {
        assert!(at <= self.columns);
        let skip = if self.rows > 0 { at } else { 0 };
        // SAFETY: inside the borrowed numbers, or one behind them.
        let start = unsafe { self.start.add(skip) };
        (Self { columns: at, ..self }, Self { start, columns: self.columns - at, ..self })
    }

    /// Blocks of `size` rows; the last may have fewer.
    pub fn in_rows(self, size: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let block = rest.take().filter(|block| block.rows > 0)?;
            let at = size.clamp(1, block.rows);
            let (first, others) = block.split_rows(at);
            rest = Some(others);
            Some(first)
        })
    }

    /// Blocks of `size` columns; the last may have fewer.
    pub fn in_columns(self, size: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let block = rest.take().filter(|block| block.columns > 0)?;
            let at = size.clamp(1, block.columns);
            let (first, others) = block.split_columns(at);
            rest = Some(others);
            Some(first)
        })
    }
}

/// An output whose numbers nobody has written yet: no time is spent on zeros that are overwritten.
pub(crate) struct Fresh {
    values: Vec<f32>,
    len: usize,
    written: AtomicUsize,
}

impl Fresh {
    /// Room for so many numbers.
    pub fn new(len: usize) -> Self {
        Self { values: Vec::with_capacity(len), len, written: AtomicUsize::new(0) }
    }

    /// All of it, as a matrix.
    pub fn block(&mut self, rows: usize, columns: usize) -> BlockMut<'_> {
        assert_eq!(rows * columns, self.len, "sizes of an output");
        *self.written.get_mut() = 0;
        let start = self.values.as_mut_ptr();
        BlockMut { start, stride: columns, rows, columns, unwritten: Some(&self.written), borrowed: PhantomData }
    }

    /// Parts of `size` numbers, the last with fewer. The task that takes one zeroes it, so that it is in a cache when it is written.
    pub fn par_chunks(&mut self, size: usize) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        *self.written.get_mut() = 0;
        let written = &self.written;
        self.values.spare_capacity_mut()[..self.len].par_chunks_mut(size).map(|chunk| {
            chunk.fill(MaybeUninit::new(0.0));
            written.fetch_add(chunk.len(), Ordering::Relaxed);
            // SAFETY: every number was just written.
            unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [f32]) }
        })
    }

    /// The numbers.
    ///
    /// # Panics
    /// When blocks were left unwritten.
    pub fn finish(mut self) -> Vec<f32> {
        assert_eq!(*self.written.get_mut(), self.len, "an output is written as a whole");
        let mut values = take(&mut self.values);
        // SAFETY: there is room for `len` numbers, and blocks that do not overlap and have as many were written.
        unsafe { values.set_len(self.len) };
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_what_they_were_cut_from() {
        let mut values: Vec<f32> = (0..35).map(|i| i as f32).collect();
        // Rows of 5 numbers that start 6 apart.
        let block = BlockMut::new(&mut values, 6, 6, 5);
        let mut seen = Vec::new();
        for rows in block.in_rows(4) {
            for mut part in rows.in_columns(2) {
                for row in 0..part.rows() {
                    seen.extend_from_slice(part.row(row));
                    part.row(row).fill(-1.0);
                }
            }
        }
        let mut expected: Vec<f32> =
            (0..6).flat_map(|row| (0..5).map(move |column| (6 * row + column) as f32)).collect();
        seen.sort_by(f32::total_cmp);
        expected.sort_by(f32::total_cmp);
        assert_eq!(seen, expected);
        assert_eq!(values.iter().filter(|x| **x >= 0.0).collect::<Vec<_>>(), [&5.0, &11.0, &17.0, &23.0, &29.0]);
    }

    #[test]
    fn an_output_that_was_written_as_a_whole_is_given_out() {
        let mut fresh = Fresh::new(12);
        fresh.block(4, 3).in_rows(2).for_each(|mut block| {
            block.clear();
            block.row(0)[1] = 2.0;
        });
        assert_eq!(fresh.finish(), [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(Fresh::new(0).finish().is_empty());
    }

    #[test]
    fn parts_are_zeros_before_they_are_written() {
        let mut fresh = Fresh::new(7);
        fresh.par_chunks(3).enumerate().for_each(|(index, chunk)| chunk[0] = index as f32 + 1.0);
        assert_eq!(fresh.finish(), [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "written as a whole")]
    fn an_output_with_holes_is_not() {
        let mut fresh = Fresh::new(6);
        let (mut first, _) = fresh.block(2, 3).split_columns(2);
        first.clear();
        fresh.finish();
    }

    #[test]
    #[should_panic(expected = "is_written")]
    fn what_is_not_written_is_not_read() {
        Fresh::new(6).block(2, 3).row(0);
    }
}
