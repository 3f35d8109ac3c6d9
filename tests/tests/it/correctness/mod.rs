//! Runs that look healthy and are wrong, as they are known from other systems: a test each, named after what it forbids.
//!
//! Rows 9 and 17 (resume, half-written checkpoints) are in `resume.rs`, row 16 (rotary positions) in `goldens/`; row 11
//! comes with quantized bases.

mod data;
mod files;
mod isolation;
mod keys;
mod steps;
mod weights;
