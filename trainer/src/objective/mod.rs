//! What is minimised, and its gradient over one micro-batch.
//!
//! An objective turns a batch into a loss that is already divided by the whole step's normaliser, so that gradients of
//! micro-batches simply add up and no split of a step changes its result. Adding one: a file, a variant of the
//! recipe's `[objective]`.

mod backward;
mod gradients;
mod router;
mod sft;

pub use backward::Recompute;
pub use gradients::Gradients;
pub use router::RouterBalance;
pub use sft::{LabelledTokens, Sft, StepScale, TokenSums, inputs};
