//! What depends on the CPU: the instruction set, loops compiled for each, and intrinsics. Unsafe code of this crate is here alone.
//!
//! ```text
//! instruction_set.rs  which vector instructions are used
//! peak.rs             how many multiplications a second there can be
//! simd.rs             loops compiled once for each of them
//! allocator.rs        what the allocator keeps
//! block.rs            the rectangle of an output that a task writes
//! four_bit.rs         numbers of 4-bit codes
//! f32_panels.rs       products of packed f32 numbers
//! pairs/              products of packed bf16 numbers, with the instructions for that
//! ```

mod allocator;
mod block;
mod f32_panels;
#[cfg(target_arch = "x86_64")]
mod four_bit;
mod instruction_set;
mod pairs;
mod peak;
mod simd;

pub use allocator::{give_back_free_blocks, keep_large_blocks};
pub(crate) use block::{BlockMut, Fresh};
pub(crate) use f32_panels::{Left, Right, multiply_panels, panel_columns, panel_rows};
#[cfg(target_arch = "x86_64")]
pub(crate) use four_bit::{CODES, LookupInstructions, look_up};
pub(crate) use instruction_set::current;
#[cfg(test)]
pub(crate) use instruction_set::testing;
pub use instruction_set::{InstructionSet, InstructionSetError};
pub(crate) use pairs::{
    MOST_PAIR_COLUMNS, PairInstructions, PairLeft, finish_left, multiply_pairs, pair_neighbours, pair_rows, turn_words,
};
pub use peak::peak_multiplications;
pub(crate) use simd::{dispatch, vectorised};
