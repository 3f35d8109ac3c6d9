//! A cell of an Arrow array as JSON: lists and structs become lists and objects, dates text, and dictionaries what they
//! stand for.
//!
//! A field of a struct that is null is dropped, because writers of tables give every struct the keys of all others
//! (`tool_calls` in each message of a dialogue). What JSON has no word for (images, intervals) is null.

use polars_arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, DictionaryKey, FixedSizeListArray, ListArray,
    MapArray, PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, IntegerType, TimeUnit};
use polars_arrow::offset::Offset;
use polars_arrow::temporal_conversions as time;
use polars_arrow::types::NativeType;
use serde_json::{Map, Number, Value};

/// The cell `index`.
pub(super) fn json(array: &dyn Array, index: usize) -> Value {
    cell(array, index).unwrap_or(Value::Null)
}

fn cell(array: &dyn Array, index: usize) -> Option<Value> {
    use ArrowDataType as Type;
    if index >= array.len() || array.is_null(index) {
        return None;
    }
    match array.dtype().to_storage() {
        Type::Boolean => array.as_any().downcast_ref::<BooleanArray>().map(|array| array.value(index).into()),
        Type::Int8 => number::<i8>(array, index).map(Value::from),
        Type::Int16 => number::<i16>(array, index).map(Value::from),
        Type::Int32 => number::<i32>(array, index).map(Value::from),
        Type::Int64 => number::<i64>(array, index).map(Value::from),
        Type::UInt8 => number::<u8>(array, index).map(Value::from),
        Type::UInt16 => number::<u16>(array, index).map(Value::from),
        Type::UInt32 => number::<u32>(array, index).map(Value::from),
        Type::UInt64 => number::<u64>(array, index).map(Value::from),
        Type::Float32 => number::<f32>(array, index).and_then(shortest).map(Value::Number),
        Type::Float64 => number::<f64>(array, index).and_then(Number::from_f64).map(Value::Number),
        Type::Int128 => number::<i128>(array, index).map(|value| value.to_string().into()),
        Type::Decimal(_, scale) => number::<i128>(array, index).map(|value| decimal(value, *scale).into()),
        Type::Date32 => {
            let date = number::<i32>(array, index).and_then(time::date32_to_date_opt)?;
            Some(date.to_string().into())
        }
        Type::Date64 => {
            let date = number::<i64>(array, index).and_then(time::timestamp_ms_to_datetime_opt)?;
            Some(date.date().to_string().into())
        }
        Type::Timestamp(unit, zone) => {
            let value = number::<i64>(array, index)?;
            let moment = match unit {
                TimeUnit::Second => time::timestamp_s_to_datetime_opt(value),
                TimeUnit::Millisecond => time::timestamp_ms_to_datetime_opt(value),
                TimeUnit::Microsecond => time::timestamp_us_to_datetime_opt(value),
                TimeUnit::Nanosecond => time::timestamp_ns_to_datetime_opt(value),
            }?;
            // Arrow's moments with a zone are in UTC, whatever the zone.
            let zone = if zone.is_some() { "Z" } else { "" };
            Some(format!("{}{zone}", moment.format("%Y-%m-%dT%H:%M:%S%.f")).into())
        }
        Type::Utf8 => text::<i32>(array, index),
        Type::LargeUtf8 => text::<i64>(array, index),
        Type::Utf8View => array.as_any().downcast_ref::<Utf8ViewArray>().map(|array| array.value(index).into()),
        // Writers that do not mark text as text are common; bytes that are none have no place in a row.
        Type::Binary => bytes::<i32>(array, index),
        Type::LargeBinary => bytes::<i64>(array, index),
        Type::BinaryView => array.as_any().downcast_ref::<BinaryViewArray>().and_then(|array| utf8(array.value(index))),
        Type::List(_) => array.as_any().downcast_ref::<ListArray<i32>>().map(|array| list(array.value(index).as_ref())),
        Type::LargeList(_) => {
            array.as_any().downcast_ref::<ListArray<i64>>().map(|array| list(array.value(index).as_ref()))
        }
        Type::FixedSizeList(..) => {
            array.as_any().downcast_ref::<FixedSizeListArray>().map(|array| list(array.value(index).as_ref()))
        }
        Type::Map(..) => array.as_any().downcast_ref::<MapArray>().and_then(|array| map(array.value(index).as_ref())),
        Type::Struct(_) => array.as_any().downcast_ref::<StructArray>().map(|array| object(array, index)),
        Type::Dictionary(keys, ..) => match keys {
            IntegerType::Int8 => entry::<i8>(array, index),
            IntegerType::Int16 => entry::<i16>(array, index),
            IntegerType::Int32 => entry::<i32>(array, index),
            IntegerType::Int64 => entry::<i64>(array, index),
            IntegerType::UInt8 => entry::<u8>(array, index),
            IntegerType::UInt16 => entry::<u16>(array, index),
            IntegerType::UInt32 => entry::<u32>(array, index),
            IntegerType::UInt64 => entry::<u64>(array, index),
            IntegerType::Int128 | IntegerType::UInt128 => None,
        },
        _ => None,
    }
}

fn number<T: NativeType>(array: &dyn Array, index: usize) -> Option<T> {
    array.as_any().downcast_ref::<PrimitiveArray<T>>().map(|array| array.value(index))
}

/// An f32 by its own shortest digits: 0.1 and not 0.10000000149011612.
fn shortest(value: f32) -> Option<Number> {
    value.to_string().parse::<f64>().ok().and_then(Number::from_f64)
}

fn text<O: Offset>(array: &dyn Array, index: usize) -> Option<Value> {
    array.as_any().downcast_ref::<Utf8Array<O>>().map(|array| array.value(index).into())
}

fn bytes<O: Offset>(array: &dyn Array, index: usize) -> Option<Value> {
    array.as_any().downcast_ref::<BinaryArray<O>>().and_then(|array| utf8(array.value(index)))
}

fn utf8(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(Value::from)
}

fn entry<K: DictionaryKey>(array: &dyn Array, index: usize) -> Option<Value> {
    let array = array.as_any().downcast_ref::<DictionaryArray<K>>()?;
    cell(array.values().as_ref(), array.key_value(index))
}

fn list(items: &dyn Array) -> Value {
    (0..items.len()).map(|index| json(items, index)).collect()
}

fn object(array: &StructArray, index: usize) -> Value {
    let fields = array.fields().iter().zip(array.values());
    fields
        .filter_map(|(field, values)| Some((field.name.to_string(), cell(values.as_ref(), index)?)))
        .collect::<Map<_, _>>()
        .into()
}

/// The entries of a map, a struct of key and value each; absent where keys are no text.
fn map(entries: &dyn Array) -> Option<Value> {
    let [keys, values] = entries.as_any().downcast_ref::<StructArray>()?.values() else {
        return None;
    };
    (0..entries.len())
        .map(|index| match json(keys.as_ref(), index) {
            Value::String(key) => Some((key, json(values.as_ref(), index))),
            _ => None,
        })
        .collect::<Option<Map<_, _>>>()
        .map(Value::Object)
}

/// A decimal number as its digits, which no float may hold.
fn decimal(value: i128, scale: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    match part {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_floats_keep_their_digits() {
        assert_eq!(decimal(-12345, 2), "-123.45");
        assert_eq!((decimal(5, 3).as_str(), decimal(7, 0).as_str()), ("0.005", "7"));
        assert_eq!(shortest(0.1).unwrap().to_string(), "0.1");
    }
}
