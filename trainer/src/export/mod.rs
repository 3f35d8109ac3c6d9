//! What is written for others: adapter folders and model folders.
//!
//! ```text
//! finished.rs     what a finished run leaves
//! merge.rs        an adapter folded into its base, read back and compared
//! companions.rs   the files beside the weights
//! folder.rs       whole, or as it was
//! ```

pub mod companions;
mod finished;
mod folder;
mod merge;

pub use finished::{Exported, export, write_as};
pub use folder::write_folder;
pub use merge::{Probe, Receipt, merge_into};
