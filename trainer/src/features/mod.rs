//! What a frozen model computed once, kept in files: the distributions of a teacher, the log-probabilities of a reference.
//!
//! ```text
//! key.rs       what a cache was made from
//! likeliest.rs a distribution as its likeliest tokens and all others together
//! shard.rs     a file of the cache: some examples
//! teacher.rs   TeacherCache: the cache as the loss reads it
//! write.rs     runs the teacher over all examples
//! lost.rs      how much of a distribution some tokens hold
//! pairs.rs     ReferencePairs: what a reference gives the answers of pairs
//! ```

mod key;
mod likeliest;
mod lost;
mod pairs;
mod shard;
mod teacher;
mod write;

pub use key::{TeacherKey, hash_examples, hash_model};
pub use lost::{Kept, kept_by};
pub use pairs::{PairDigest, ReferenceKey, ReferencePairs};
pub use teacher::{CachedTokens, Missing, TeacherCache};
pub use write::{Written, bytes_of, write_teacher};
