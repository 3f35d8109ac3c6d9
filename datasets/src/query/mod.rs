//! Rows chosen in the recipe: `where` and `sql` of a source, answered by polars.
//!
//! SQL is parsed by `sqlparser`, becomes a [`term`] of what one row can answer, is checked against what the columns hold
//! in the whole source ([`kind`]), and is written again for polars' SQL over columns of ours. polars sees frames in memory
//! that are made of what the readers return; it opens no file, and knows none.
//!
//! Not here: what looks at several rows. A row keeps its file and line, and rows are read in chunks, so a sum or a window
//! would be one of a chunk.

mod asked;
mod chosen;
mod engine;
mod expression;
mod frame;
mod kind;
mod known;
mod parse;
mod selection;
mod statement;
mod term;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use asked::Query;
pub use chosen::{Chosen, ChosenRows};
pub(crate) use selection::Selection;
