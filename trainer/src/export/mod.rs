//! Writes results for use elsewhere: adapter folders and model folders.
//!
//! ```text
//! finished.rs     the results of a finished run
//! merge.rs        an adapter merged into its base, read back and compared
//! receipt.rs      the comparison; probe.rs is the rows it uses, divergence.rs a measure
//! companions.rs   the files beside the weights
//! pipeline_files.rs  the files of a diffusion pipeline that a run does not change
//! base_identity.rs  which base an adapter was trained on
//! folder.rs       a folder that is complete or unchanged
//! ```

mod base_identity;
pub mod companions;
mod divergence;
mod finished;
mod folder;
mod merge;
mod pipeline_files;
mod probe;
mod receipt;

pub use base_identity::{OtherBase, check_base, fingerprint};
pub use finished::{Exported, export};
pub use folder::write_folder;
pub use merge::merge_into;
pub use probe::Probe;
pub use receipt::{Comparison, Distances, Distributions, Pictures, Receipt};
