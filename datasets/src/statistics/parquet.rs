//! Statistics as Parquet: [`ParquetFile`] gathers rows by column and writes a row group, through polars' writer, once
//! there are enough rows.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field};
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, StatisticsOptions, Version, WriteOptions, row_group_iter,
};

use super::cell::Cell;

/// Number of rows of a row group, which are a few MiB of values.
const GROUP: usize = 1 << 16;

/// A file that is being written.
pub(super) struct ParquetFile<W: Write> {
    writer: FileWriter<W>,
    schema: Arc<ArrowSchema>,
    columns: Vec<Column>,
    rows: usize,
}

/// The values of a row group in one column.
enum Column {
    Text(Vec<String>),
    Whole(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
}

impl<W: Write> ParquetFile<W> {
    /// Writes the beginning of a file whose columns have the names and kinds of `header`.
    pub fn new(header: &[(&'static str, Cell)], out: W) -> io::Result<Self> {
        let fields = header.iter().map(|(name, cell)| {
            let kind = match cell {
                Cell::Text(_) => ArrowDataType::Utf8View,
                Cell::Whole(_) => ArrowDataType::Int64,
                Cell::Real(_) => ArrowDataType::Float64,
            };
            Field::new((*name).into(), kind, true)
        });
        let schema: ArrowSchema = fields.map(|field| (field.name.clone(), field)).collect();
        let columns = header.iter().map(|(_, cell)| Column::like(cell)).collect();
        let writer = FileWriter::try_new(out, schema.clone(), options()).map_err(refused)?;
        Ok(Self { writer, schema: Arc::new(schema), columns, rows: 0 })
    }

    /// Adds a row, whose cells have the kinds of the header's.
    pub fn push(&mut self, cells: impl Iterator<Item = Cell>) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Column::Text(values), Cell::Text(value)) => values.push(value),
                (Column::Whole(values), Cell::Whole(value)) => values.push(value),
                (Column::Real(values), Cell::Real(value)) => values.push(value),
                (Column::Text(_) | Column::Whole(_) | Column::Real(_), _) => {
                    return Err(refused("a cell is not of the kind of its column"));
                }
            }
        }
        self.rows += 1;
        if self.rows == GROUP { self.write() } else { Ok(()) }
    }

    /// Writes the rows that are left, and the end of the file.
    pub fn finish(mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write()?;
        }
        // The Arrow schema that polars would add makes some readers return text as views; without it they return text.
        self.writer.end(Some(Vec::new())).map_err(refused)?;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let arrays: Vec<Box<dyn Array>> = self.columns.iter_mut().map(Column::take).collect();
        let batch = RecordBatchT::try_new(self.rows, Arc::clone(&self.schema), arrays).map_err(refused)?;
        let encodings = vec![vec![Encoding::Plain]; self.columns.len()];
        let fields = self.writer.parquet_schema().fields().to_vec();
        let group = row_group_iter(batch, encodings.into(), fields, options());
        self.writer.write(self.rows as u64, group).map_err(refused)?;
        self.rows = 0;
        Ok(())
    }
}

impl Column {
    /// An empty column for cells of this kind.
    fn like(cell: &Cell) -> Self {
        match cell {
            Cell::Text(_) => Self::Text(Vec::new()),
            Cell::Whole(_) => Self::Whole(Vec::new()),
            Cell::Real(_) => Self::Real(Vec::new()),
        }
    }

    /// Returns its values as an array and empties it.
    fn take(&mut self) -> Box<dyn Array> {
        match self {
            Self::Text(values) => Box::new(Utf8ViewArray::from_slice_values(std::mem::take(values))),
            Self::Whole(values) => Box::new(PrimitiveArray::<i64>::from(std::mem::take(values))),
            Self::Real(values) => Box::new(PrimitiveArray::<f64>::from(std::mem::take(values))),
        }
    }
}

fn options() -> WriteOptions {
    WriteOptions {
        statistics: StatisticsOptions::default(),
        version: Version::V1,
        compression: CompressionOptions::Zstd(None),
        data_page_size: None,
    }
}

fn refused(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}
