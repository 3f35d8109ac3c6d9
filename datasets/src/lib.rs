//! From data files to batches: records -> rendered chat -> tokens and labels -> packs -> batches.
//!
//! The way of a row: [`source`] reads it from a file, [`mod@format`] parses its keys into a [`record`], [`template`]
//! renders a dialogue, [`tokenizer`] makes tokens of the text, `labels` says which of them are trained, and [`Encoder`]
//! makes an [`example`]. `store` keeps examples in a file, which [`cache`] finds again; [`gate`] checks all of them.
//! [`order`] and [`pack`] lay out an epoch, [`batch`] lays out a step. [`prepare`] does all this for one split of a
//! recipe. Nothing here knows tensor libraries, devices or Burn.

mod array;
pub mod batch;
pub mod cache;
mod classes;
pub mod config;
mod dataset;
mod documents;
mod encoder;
mod error;
pub mod example;
mod file_bytes;
pub mod format;
mod found_classes;
pub mod gate;
mod hex;
mod kind;
mod label;
mod labels;
mod lengths;
mod location;
mod medium;
pub mod order;
pub mod pack;
pub mod picture;
mod pictured;
mod prepare;
mod query;
pub mod record;
mod reference;
mod sandbox;
pub mod source;
mod split;
mod statistics;
mod store;
pub mod template;
mod tensor_file;
pub mod tokenizer;
mod tokens;

#[cfg(test)]
mod testing;

pub use array::{Array, ArrayOutline, ArrayValues, NamedArrays, NamedOutlines, OutlineValues};
pub use batch::{Batch, BatchContent, Span, TokenBatch};
pub use cache::Cache;
pub use classes::{Classes, Misfit, Problem, Target, unnamed};
pub use config::{
    BrokenRows, CacheChoice, DataConfig, EmptyRows, Format, GateConfig, SourceConfig, Split, TemplateChoice, TextRows,
    TrainOn, Truncation,
};
pub use dataset::{Broken, Dataset, Epoch, Kept};
pub use documents::DocumentAttention;
pub use encoder::Encoder;
pub use error::DataError;
pub use example::{Encoded, Example, ExampleContent, Part};
pub use format::{Decision, decide};
pub use gate::{Check, Finding, Report};
pub use kind::RowKind;
pub use label::{Class, Label, RowLabel};
pub use lengths::Lengths;
pub use location::Location;
pub use medium::Medium;
pub use pack::Pack;
pub use pictured::{Caption, CaptionReader, Pictured, Pictures};
pub use prepare::{FileInfo, Prepare, Progress, prepare};
pub use query::{Chosen, ChosenRows};
pub use record::{Answered, Content, Judgement, Message, Record, Role};
pub use statistics::{Columns, RowScore, RowStatistics, StatisticsFile, TableKind};
pub use store::Entry;
pub use template::{Builtin, ChatTemplate};
pub use tensor_file::TensorFile;
pub use tokenizer::Tokenizer;
pub use tokens::{NOT_TRAINED, Tokens};
