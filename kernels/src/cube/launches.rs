//! How many kernels a piece of work launches: [`count`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};

#[derive(Default)]
struct Counter(AtomicU64);

impl LaunchObserver for Counter {
    fn launched(&self, _kernel: &'static str) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The result of `work`, and the kernels that were launched meanwhile, by whichever thread.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let counter = Arc::new(Counter::default());
    let watching = LaunchObservation::new(counter.clone());
    let result = work();
    drop(watching);
    (result, counter.0.load(Ordering::Relaxed))
}
