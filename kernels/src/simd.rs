//! Loops compiled once for every instruction set and chosen at run time.

use pulp::{Arch, WithSimd};

/// Runs `work` with the widest vector instructions of this CPU allowed.
///
/// The compiler vectorises plain loops inside `work`. The closure and what it calls must be `#[inline(always)]`: a call that is not
/// inlined is compiled for the oldest CPU of the target.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    dispatch(work)
}

/// Runs an operation written for any vector width with the widest of this CPU.
pub(crate) fn dispatch<T: WithSimd>(operation: T) -> T::Output {
    #[cfg(test)]
    if let Some(forced) = testing::FORCED.get() {
        return forced.dispatch(operation);
    }
    Arch::new().dispatch(operation)
}

/// Lets tests run what other CPUs would run.
#[cfg(test)]
pub(crate) mod testing {
    use pulp::Arch;
    use std::cell::Cell;

    thread_local! {
        /// The instruction set of this thread, instead of the best one.
        pub static FORCED: Cell<Option<Arch>> = const { Cell::new(None) };
    }

    /// Runs `work` once for each instruction set this CPU has, on one thread.
    pub fn with_each_instruction_set(work: impl Fn() + Sync) {
        let mut sets = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        sets.extend(pulp::x86::V3::try_new().map(Arch::V3));
        for set in sets {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| {
                FORCED.set(Some(set));
                work();
            });
        }
    }
}
