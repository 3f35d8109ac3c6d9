//! Where the time of training goes: [`record`] listens to the spans of phases and operations while something runs.
//!
//! A phase is a part of an optimiser step, an operation a call of `firebrand_kernels`. Both are spans of `tracing`, which cost next to
//! nothing while nobody listens. What a phase spends outside of operations is Burn's: element-wise arithmetic and autodiff.

mod recorder;
mod trace;

pub use recorder::{Profile, Span, record};
pub use trace::chrome_trace;

/// The target of the spans of phases.
pub const PHASE: &str = "phase";

/// Opens the span of a phase, which ends with the block.
macro_rules! phase {
    ($name:literal) => {
        let _phase = tracing::trace_span!(target: $crate::profile::PHASE, $name).entered();
    };
}
pub(crate) use phase;
