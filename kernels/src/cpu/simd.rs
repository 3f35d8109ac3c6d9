//! Loops compiled once for every instruction set and chosen at run time.

use super::current;
use pulp::WithSimd;

/// Runs `work` with the widest vector instructions of this CPU allowed.
///
/// The compiler vectorises plain loops inside `work`. The closure and what it calls must be `#[inline(always)]`: a call that is not
/// inlined is compiled for the oldest CPU of the target.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    dispatch(work)
}

/// Runs an operation written for any vector width with the chosen instructions.
pub(crate) fn dispatch<T: WithSimd>(operation: T) -> T::Output {
    let (_, arch) = current();
    arch.dispatch(operation)
}
