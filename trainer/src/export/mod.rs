//! What is written for others: adapter folders and model folders.
//!
//! ```text
//! finished.rs     what a finished run leaves
//! merge.rs        an adapter folded into its base, read back and compared
//! companions.rs   the files beside the weights
//! ```

pub mod companions;
mod finished;
mod merge;

pub use finished::{Exported, export, write_as, write_folder};
pub use merge::{Probe, Receipt, merge_into};
