//! What the operations did: spans by name, for whoever listens with `tracing`, and the multiplications of matrix products.

use std::sync::atomic::{AtomicU64, Ordering};

/// The target of the spans of operations. One is open while an operation runs, on the thread that called it.
pub const OPERATION: &str = "operation";

static MULTIPLICATIONS: AtomicU64 = AtomicU64::new(0);

/// Opens the span of an operation, which ends with the block.
macro_rules! operation {
    ($name:literal) => {
        let _operation = tracing::trace_span!(target: $crate::work::OPERATION, $name).entered();
    };
}
pub(crate) use operation;

/// Counts a matrix product of these sizes.
pub(crate) fn count(rows: usize, depth: usize, columns: usize) {
    MULTIPLICATIONS.fetch_add((rows * depth * columns) as u64, Ordering::Relaxed);
}

/// Multiplications, each with an addition, of all matrix products of the fused operations so far in this process.
pub fn multiplications() -> u64 {
    MULTIPLICATIONS.load(Ordering::Relaxed)
}
