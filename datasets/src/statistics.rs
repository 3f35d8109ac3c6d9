//! Statistics of every example as a table file: [`StatisticsFile`] writes it. The table shows examples that are too
//! long, cut or unlabelled, or on which a model has a high loss. Rows are written as they come, so memory does not grow
//! with the table.

mod cell;
mod parquet;

use std::io::{self, Write};
use std::path::Path;

use crate::config::Format;
use crate::example::{Example, ExampleContent};
use crate::location::Location;
use crate::tokens::Tokens;
use cell::Cell;
use parquet::ParquetFile;

/// The statistics of one example.
#[derive(Debug, Clone, PartialEq)]
pub struct RowStatistics {
    /// Its number in the dataset, from 0; it tells windows of a split text apart, which have the same line.
    pub example: usize,
    /// Its file and line.
    pub source: Location,
    /// Which of the recipe's sources it came from, from 0.
    pub source_index: usize,
    /// The format of that source.
    pub format: Format,
    /// The name of its part of the row: see [`crate::Part`].
    pub part: &'static str,
    /// Number of tokens; a row of tensors counts as one.
    pub tokens: usize,
    /// Number of tokens that are learned to be predicted.
    pub labelled_tokens: usize,
    /// Number of tokens before it was cut; absent where it was not cut.
    pub truncated_from: Option<usize>,
    /// The mean weight of its labelled tokens; 0 without one.
    pub weight: f64,
    /// The scores of a model; absent without a model or without a labelled token.
    pub score: Option<RowScore>,
}

/// The scores of a model on an example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowScore {
    /// Mean loss over the labelled tokens, in nats, without their weights.
    pub loss: f64,
    /// Share of the labelled tokens that the model found most likely.
    pub token_accuracy: f64,
}

/// The kinds of table files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A header line, then one line per row; an absent value is an empty cell.
    Csv,
    /// Row groups of 65,536 rows, compressed by zstd; an absent value is null.
    Parquet,
}

/// The columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Columns that need no model.
    Plain,
    /// The same and the scores of a model.
    Scored,
}

/// A file of statistics that is being written.
pub struct StatisticsFile<W: Write> {
    columns: Columns,
    out: Out<W>,
}

enum Out<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Parquet(Box<ParquetFile<W>>),
}

impl RowStatistics {
    /// The statistics of `example`, number `number` of its dataset, without a model.
    pub fn new(number: usize, example: &Example, format: Format) -> Self {
        let labelled_tokens = example.labelled_tokens();
        let weight: f64 = match &example.content {
            ExampleContent::Tokens(Tokens { labels, weights, .. }) => {
                let weights = labels.iter().zip(weights).skip(1).filter(|(label, _)| **label >= 0);
                weights.map(|(_, weight)| f64::from(*weight)).sum()
            }
            ExampleContent::Tensors(_) | ExampleContent::Pictured(_) => 1.0,
        };
        Self {
            example: number,
            source: example.source.clone(),
            source_index: example.source_index,
            format,
            part: example.part.name(),
            tokens: example.length(),
            labelled_tokens,
            truncated_from: example.notes.cut_from,
            weight: weight / labelled_tokens.max(1) as f64,
            score: None,
        }
    }

    /// All values with the names of their columns. Only this function knows both.
    fn cells(&self, columns: Columns) -> Vec<(&'static str, Cell)> {
        let whole = |number: usize| Cell::Whole(i64::try_from(number).ok());
        let mut cells = vec![
            ("file", Cell::Text(self.source.path.to_string_lossy().into_owned())),
            ("line", whole(self.source.line)),
            ("example", whole(self.example)),
            ("source", whole(self.source_index)),
            ("format", Cell::Text(self.format.name().into())),
            ("part", Cell::Text(self.part.into())),
            ("tokens", whole(self.tokens)),
            ("labelled_tokens", whole(self.labelled_tokens)),
            ("truncated_from", Cell::Whole(self.truncated_from.and_then(|tokens| i64::try_from(tokens).ok()))),
            ("weight", Cell::Real(Some(self.weight))),
        ];
        if columns == Columns::Scored {
            let loss = self.score.map(|score| score.loss);
            cells.push(("loss", Cell::Real(loss)));
            cells.push(("perplexity", Cell::Real(loss.map(f64::exp))));
            cells.push(("token_accuracy", Cell::Real(self.score.map(|score| score.token_accuracy))));
        }
        cells
    }

    /// A row that is only used for its columns.
    fn blank() -> Self {
        Self {
            example: 0,
            source: Location::new("", 0),
            source_index: 0,
            format: Format::Auto,
            part: "",
            tokens: 0,
            labelled_tokens: 0,
            truncated_from: None,
            weight: 0.0,
            score: None,
        }
    }
}

impl TableKind {
    /// The kind that a file's ending states; absent for any other ending.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl<W: Write> StatisticsFile<W> {
    /// Writes the beginning of a file to `out`.
    ///
    /// # Errors
    /// Errors of writing.
    pub fn new(kind: TableKind, columns: Columns, out: W) -> io::Result<Self> {
        let header = RowStatistics::blank().cells(columns);
        let out = match kind {
            TableKind::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(header.iter().map(|(name, _)| name))?;
                Out::Csv(Box::new(writer))
            }
            TableKind::Parquet => Out::Parquet(Box::new(ParquetFile::new(&header, out)?)),
        };
        Ok(Self { columns, out })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Errors of writing.
    pub fn push(&mut self, row: &RowStatistics) -> io::Result<()> {
        let cells = row.cells(self.columns).into_iter().map(|(_, cell)| cell);
        match &mut self.out {
            Out::Csv(writer) => Ok(writer.write_record(cells.map(|cell| cell.to_string()))?),
            Out::Parquet(file) => file.push(cells),
        }
    }

    /// Writes the rest of the file.
    ///
    /// # Errors
    /// Errors of writing.
    pub fn finish(self) -> io::Result<()> {
        match self.out {
            Out::Csv(mut writer) => writer.flush(),
            Out::Parquet(file) => file.finish(),
        }
    }
}

#[cfg(test)]
mod tests;
