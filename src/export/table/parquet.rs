//! Columns as an Apache Parquet file: every column may have missing values, text is UTF-8, times are in UTC.

use std::ops::Range;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type};

use super::columns::{Column, Values};
use crate::error::{Error, Result};

/// Rows that are read and compressed together: few enough to be held in memory, enough for dictionaries to pay.
const ROWS_PER_GROUP: usize = 1 << 17;
/// The column whose values are all different, for which a dictionary is a waste.
const DISTINCT: &str = "key";

/// The whole file; equal columns give equal bytes.
pub(super) fn write(columns: &[Column<'_>]) -> Result<Vec<u8>> {
    write_file(columns).map_err(|error| Error::internal(format!("the table could not be written as Parquet: {error}")))
}

fn write_file(columns: &[Column<'_>]) -> Result<Vec<u8>, ParquetError> {
    let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("table").with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_column_dictionary_enabled(ColumnPath::from(DISTINCT), false)
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let count = columns.first().map_or(0, |column| column.values.len());
    for start in (0..count).step_by(ROWS_PER_GROUP) {
        let rows = start..count.min(start + ROWS_PER_GROUP);
        let mut group = file.next_row_group()?;
        for column in columns {
            let mut chunk = group.next_column()?.expect("the schema has every column");
            write_column(&mut chunk, &column.values, rows.clone())?;
            chunk.close()?;
        }
        group.close()?;
    }
    file.into_inner()
}

fn field(column: &Column<'_>) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match column.values {
        Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Values::Number(_) => (Physical::DOUBLE, None),
        Values::Count(_) => (Physical::INT64, None),
        Values::Truth(_) => (Physical::BOOLEAN, None),
        Values::Time(_) => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
    };
    Type::primitive_type_builder(&column.name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL)
        .build()
        .map(Arc::new)
}

fn write_column(
    chunk: &mut SerializedColumnWriter<'_>,
    values: &Values<'_>,
    rows: Range<usize>,
) -> Result<(), ParquetError> {
    match values {
        Values::Text(values) => write_chunk::<ByteArrayType, _>(chunk, &values[rows], |text| ByteArray::from(&**text)),
        Values::Number(values) => write_chunk::<DoubleType, _>(chunk, &values[rows], |number| *number),
        Values::Count(values) | Values::Time(values) => {
            write_chunk::<Int64Type, _>(chunk, &values[rows], |number| *number)
        }
        Values::Truth(values) => write_chunk::<BoolType, _>(chunk, &values[rows], |truth| *truth),
    }
}

/// Parquet keeps the values that there are, and for every row whether it has one.
fn write_chunk<D: DataType, V>(
    chunk: &mut SerializedColumnWriter<'_>,
    values: &[Option<V>],
    convert: impl Fn(&V) -> D::T,
) -> Result<(), ParquetError> {
    let defined: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<D::T> = values.iter().flatten().map(convert).collect();
    chunk.typed::<D>().write_batch(&present, Some(&defined), None).map(|_| ())
}
