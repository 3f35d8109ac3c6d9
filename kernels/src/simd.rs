//! Loops compiled once for every instruction set and chosen at run time.

/// Runs `work` with the widest vector instructions of this CPU allowed.
///
/// The compiler vectorises plain loops inside `work`. The closure and what it calls must be `#[inline(always)]`: a call that is not
/// inlined is compiled for the oldest CPU of the target.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
