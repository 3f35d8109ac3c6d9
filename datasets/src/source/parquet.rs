//! Parquet: [`Parquet`] reads one row group after the other through polars' reader, large groups in slices. Memory is
//! bounded by a group's compressed bytes and a slice of its rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::{ControlFlow, Range};
use std::path::Path;

use polars_arrow::array::Array;
use polars_arrow::datatypes::{ArrowDataType, TimeUnit};
use polars_buffer::Buffer;
use polars_parquet::read::{
    BasicDecompressor, ColumnChunkMetadata, Filter, PageReader, RowGroupMetadata, column_iter_to_arrays, infer_schema,
    read_metadata, schema::parquet_to_arrow_schema,
};

use super::reader::{Reader, Reading};
use super::row::Receiver;
use super::table::{Guard, Table};
use crate::error::DataError;

/// Number of rows, and of uncompressed bytes, that are decoded at a time.
const SLICE_ROWS: usize = 1 << 17;
const SLICE_BYTES: usize = 64 << 20;
/// The largest page in bytes; writers aim at 1 MiB, but a single long row may need more.
const PAGE: usize = 1 << 30;

/// The reader of `.parquet` files.
pub(super) struct Parquet;

impl Reader for Parquet {
    fn extensions(&self) -> &'static [&'static str] {
        &["parquet"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let guard = Guard { path };
        let (mut file, bytes) = super::table::open(path)?;
        let metadata = guard.run(|| Ok(read_metadata(&mut file)?))?;
        let fields = metadata.schema().fields();
        let mut names = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
            return Err(guard.refused(format!("two columns have the name `{}`", twice.name())));
        }
        // The Arrow schema that programs add to a file may have types that the reader does not know. The file's own
        // schema says how the columns are stored.
        let mut schema = guard
            .run(|| Ok(infer_schema(&metadata)?))
            .or_else(|_| guard.run(|| Ok(parquet_to_arrow_schema(fields))))?;
        schema.iter_values_mut().for_each(|field| stored(&mut field.dtype));
        let rows: usize = metadata.row_groups.iter().map(RowGroupMetadata::num_rows).fold(0, usize::saturating_add);
        let mut table = Table::new(path, bytes / rows.max(1) as u64, reading.columns);
        for group in &metadata.row_groups {
            let mut chunks = Vec::new();
            for field in schema.iter_values() {
                let Some(columns) = group.columns_under_root_iter(&field.name) else {
                    return Err(guard.refused(format!("a row group has no column `{}`", field.name)));
                };
                let columns = columns.map(|column| Ok((column, chunk(&mut file, bytes, column, guard)?)));
                chunks.push((field, columns.collect::<Result<Vec<_>, DataError>>()?));
            }
            for slice in slices(group) {
                let arrays = guard.run(|| {
                    chunks
                        .iter()
                        .map(|(field, columns)| {
                            let types =
                                columns.iter().map(|(column, _)| &column.descriptor().descriptor.primitive_type);
                            let pages = columns.iter().map(|(column, bytes)| {
                                let bytes = Cursor::new(bytes.clone());
                                BasicDecompressor::new(PageReader::new(bytes, column, Vec::new(), PAGE), Vec::new())
                            });
                            let filter = Filter::new_ranged(slice.start, slice.end);
                            let field = polars_arrow::datatypes::Field::clone(field);
                            Ok(column_iter_to_arrays(pages.collect(), types.collect(), field, Some(filter))?.0)
                        })
                        .collect::<Result<Vec<Vec<Box<dyn Array>>>, Box<dyn std::error::Error>>>()
                })?;
                let columns: Vec<_> = schema.iter_names().map(|name| name.as_str()).zip(&arrays).collect();
                if let ControlFlow::Break(()) = table.rows(&columns, slice.len(), guard, receiver)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Replaces Arrow's times in seconds by milliseconds: Parquet has no seconds, so the file holds milliseconds.
fn stored(dtype: &mut ArrowDataType) {
    match dtype {
        ArrowDataType::Time32(unit) => *unit = TimeUnit::Millisecond,
        ArrowDataType::List(field)
        | ArrowDataType::LargeList(field)
        | ArrowDataType::FixedSizeList(field, _)
        | ArrowDataType::Map(field, _) => stored(&mut field.dtype),
        ArrowDataType::Struct(fields) => fields.iter_mut().for_each(|field| stored(&mut field.dtype)),
        ArrowDataType::Dictionary(_, values, _) => stored(values),
        ArrowDataType::Extension(extension) => stored(&mut extension.inner),
        _ => {}
    }
}

/// The ranges of a row group's rows that are read at once.
fn slices(group: &RowGroupMetadata) -> Vec<Range<usize>> {
    let rows = group.num_rows();
    let pieces = group.total_byte_size().div_ceil(SLICE_BYTES).clamp(1, rows.max(1));
    let length = rows.div_ceil(pieces).clamp(1, SLICE_ROWS);
    (0..rows).step_by(length).map(|start| start..rows.min(start + length)).collect()
}

/// The bytes of one column of a row group.
fn chunk(file: &mut File, size: u64, column: &ColumnChunkMetadata, guard: Guard<'_>) -> Result<Buffer<u8>, DataError> {
    let range = column.byte_range();
    if range.start > range.end || range.end > size {
        return Err(guard.refused("a column lies outside of the file".into()));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.seek(SeekFrom::Start(range.start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|source| DataError::Read { path: guard.path.to_path_buf(), source })?;
    Ok(bytes.into())
}
