//! What is written for others: adapter folders and model folders.
//!
//! ```text
//! finished.rs     what a finished run leaves
//! merge.rs        an adapter folded into its base, read back and compared
//! receipt.rs      the comparison; probe.rs the rows it is made on, divergence.rs a measure
//! companions.rs   the files beside the weights
//! folder.rs       whole, or as it was
//! ```

pub mod companions;
mod divergence;
mod finished;
mod folder;
mod merge;
mod probe;
mod receipt;

pub use finished::{Exported, export};
pub use folder::write_folder;
pub use merge::merge_into;
pub use probe::Probe;
pub use receipt::{Comparison, Distances, Distributions, Receipt};
