//! Cells of Arrow arrays as JSON: [`json`] turns lists and structs into lists and objects, maps with text keys into
//! objects, dates and times into text, and dictionaries into the values they stand for.
//!
//! A null field of a struct is dropped, because writers of tables give every struct the keys of all others
//! (`tool_calls` in each message of a dialogue). NaN becomes null, as in the libraries that write tables. A value that
//! JSON cannot hold (images, intervals) is an error where a row uses it, and null elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{NaiveTime, TimeDelta};
use polars_arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, DictionaryKey, FixedSizeBinaryArray,
    FixedSizeListArray, ListArray, MapArray, PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray, get_display,
};
use polars_arrow::datatypes::{ArrowDataType, Field, IntegerType, TimeUnit};
use polars_arrow::offset::Offset;
use polars_arrow::temporal_conversions as time;
use polars_arrow::types::{NativeType, i256};
use serde_json::{Map, Number, Value};

use super::columns::Use;

/// Digits after the decimal point of the longest decimal type, which has 256 bits.
const LARGEST_SCALE: usize = 76;

/// A value (absent: null), or the reason why JSON cannot hold it.
type Cell = Result<Option<Value>, String>;

/// The JSON value of cell `index`.
///
/// # Errors
/// The cell is used and JSON cannot hold it; the error says what it holds.
pub(super) fn json(array: &dyn Array, index: usize, used: &Use<'_>) -> Result<Value, String> {
    if *used == Use::Media
        && index < array.len()
        && !array.is_null(index)
        && let Some(bytes) = raw(array, index)
        && !is_words(bytes)
    {
        return Ok(STANDARD.encode(bytes).into());
    }
    match cell(array, index, used) {
        Err(_) if *used == Use::Nothing => Ok(Value::Null),
        cell => cell.map(|value| value.unwrap_or(Value::Null)),
    }
}

fn cell(array: &dyn Array, index: usize, used: &Use<'_>) -> Cell {
    use ArrowDataType as Type;
    if index >= array.len() || array.is_null(index) {
        return Ok(None);
    }
    let dtype = array.dtype().to_storage();
    let value = match dtype {
        Type::Null => return Ok(None),
        Type::Boolean => array.as_any().downcast_ref::<BooleanArray>().map(|array| array.value(index).into()),
        Type::Int8 => number::<i8>(array, index).map(Value::from),
        Type::Int16 => number::<i16>(array, index).map(Value::from),
        Type::Int32 => number::<i32>(array, index).map(Value::from),
        Type::Int64 => number::<i64>(array, index).map(Value::from),
        Type::UInt8 => number::<u8>(array, index).map(Value::from),
        Type::UInt16 => number::<u16>(array, index).map(Value::from),
        Type::UInt32 => number::<u32>(array, index).map(Value::from),
        Type::UInt64 => number::<u64>(array, index).map(Value::from),
        Type::Float16 => return half(array, index).map_or(Ok(None), float),
        // An f32 is written with its own shortest digits: 0.1 and not 0.10000000149011612.
        Type::Float32 => {
            let value = number::<f32>(array, index).and_then(|value| value.to_string().parse().ok());
            return value.map_or(Ok(None), float);
        }
        Type::Float64 => return number::<f64>(array, index).map_or(Ok(None), float),
        Type::Int128 => integer::<i128>(array, index, 0),
        Type::UInt128 => integer::<u128>(array, index, 0),
        Type::Decimal(_, scale) => integer::<i128>(array, index, *scale),
        Type::Decimal32(_, scale) => integer::<i32>(array, index, *scale),
        Type::Decimal64(_, scale) => integer::<i64>(array, index, *scale),
        Type::Decimal256(_, scale) => integer::<i256>(array, index, *scale),
        Type::Date32 => number::<i32>(array, index).and_then(time::date32_to_date_opt).map(shown),
        Type::Date64 => {
            number::<i64>(array, index).and_then(time::timestamp_ms_to_datetime_opt).map(|date| shown(date.date()))
        }
        Type::Timestamp(unit, zone) => {
            // Arrow stores timestamps with a zone in UTC, whatever the zone.
            let zone = if zone.is_some() { "Z" } else { "" };
            let moment = number::<i64>(array, index).and_then(|value| match unit {
                TimeUnit::Second => time::timestamp_s_to_datetime_opt(value),
                TimeUnit::Millisecond => time::timestamp_ms_to_datetime_opt(value),
                TimeUnit::Microsecond => time::timestamp_us_to_datetime_opt(value),
                TimeUnit::Nanosecond => time::timestamp_ns_to_datetime_opt(value),
            });
            moment.map(|moment| format!("{}{zone}", moment.format("%Y-%m-%dT%H:%M:%S%.f")).into())
        }
        Type::Time32(unit) => number::<i32>(array, index).and_then(|value| time_of_day(value.into(), *unit)),
        Type::Time64(unit) => number::<i64>(array, index).and_then(|value| time_of_day(value, *unit)),
        Type::Duration(unit) => number::<i64>(array, index).and_then(|value| duration(value, *unit)).map(shown),
        Type::Utf8 => text::<i32>(array, index),
        Type::LargeUtf8 => text::<i64>(array, index),
        Type::Utf8View => array.as_any().downcast_ref::<Utf8ViewArray>().map(|array| array.value(index).into()),
        // Many writers store text without marking it as text.
        Type::Binary => bytes::<i32>(array, index).and_then(utf8),
        Type::LargeBinary => bytes::<i64>(array, index).and_then(utf8),
        Type::BinaryView => array.as_any().downcast_ref::<BinaryViewArray>().and_then(|array| utf8(array.value(index))),
        Type::FixedSizeBinary(_) => {
            array.as_any().downcast_ref::<FixedSizeBinaryArray>().and_then(|array| utf8(array.value(index)))
        }
        Type::List(_) => {
            let items = array.as_any().downcast_ref::<ListArray<i32>>().map(|array| array.value(index));
            return items.map_or(Ok(None), |items| list(items.as_ref(), used));
        }
        Type::LargeList(field) => {
            let items = array.as_any().downcast_ref::<ListArray<i64>>().map(|array| array.value(index));
            return items.map_or(Ok(None), |items| match is_entries(field) {
                true => map(items.as_ref(), used),
                false => list(items.as_ref(), used),
            });
        }
        Type::FixedSizeList(..) => {
            let items = array.as_any().downcast_ref::<FixedSizeListArray>().map(|array| array.value(index));
            return items.map_or(Ok(None), |items| list(items.as_ref(), used));
        }
        Type::Map(..) => {
            let entries = array.as_any().downcast_ref::<MapArray>().map(|array| array.value(index));
            return entries.map_or(Ok(None), |entries| map(entries.as_ref(), used));
        }
        Type::Struct(_) => {
            let structs = array.as_any().downcast_ref::<StructArray>();
            return structs.map_or(Ok(None), |array| object(array, index, used));
        }
        Type::Dictionary(keys, ..) => {
            return match keys {
                IntegerType::Int8 => entry::<i8>(array, index, used),
                IntegerType::Int16 => entry::<i16>(array, index, used),
                IntegerType::Int32 => entry::<i32>(array, index, used),
                IntegerType::Int64 => entry::<i64>(array, index, used),
                IntegerType::UInt8 => entry::<u8>(array, index, used),
                IntegerType::UInt16 => entry::<u16>(array, index, used),
                IntegerType::UInt32 => entry::<u32>(array, index, used),
                IntegerType::UInt64 => entry::<u64>(array, index, used),
                IntegerType::Int128 | IntegerType::UInt128 => Err(format!("a value of the type {dtype:?}")),
            };
        }
        _ => None,
    };
    value.map(Some).ok_or_else(|| match dtype {
        Type::Binary | Type::LargeBinary | Type::BinaryView | Type::FixedSizeBinary(_) => {
            "bytes that are no UTF-8".to_string()
        }
        Type::Date32 | Type::Date64 | Type::Timestamp(..) => "a date that no calendar has".to_string(),
        other => format!("a value of the type {other:?}"),
    })
}

fn number<T: NativeType>(array: &dyn Array, index: usize) -> Option<T> {
    array.as_any().downcast_ref::<PrimitiveArray<T>>().map(|array| array.value(index))
}

/// An f16 value. Its type belongs to another crate, so its printed form is read, which loses nothing.
fn half(array: &dyn Array, index: usize) -> Option<f64> {
    let mut text = String::new();
    get_display::<String>(array, "")(&mut text, index).ok()?;
    text.parse::<f32>().ok().map(f64::from)
}

fn float(value: f64) -> Cell {
    match Number::from_f64(value) {
        Some(number) => Ok(Some(Value::Number(number))),
        None if value.is_nan() => Ok(None),
        None => Err(format!("the number {value}")),
    }
}

fn integer<T: NativeType>(array: &dyn Array, index: usize, scale: usize) -> Option<Value> {
    number::<T>(array, index).filter(|_| scale <= LARGEST_SCALE).map(|value| decimal(&value.to_string(), scale).into())
}

fn shown(value: impl std::fmt::Display) -> Value {
    value.to_string().into()
}

fn time_of_day(value: i64, unit: TimeUnit) -> Option<Value> {
    let nanoseconds = duration(value, unit)?.num_nanoseconds().filter(|value| *value >= 0)?;
    let second = 1_000_000_000;
    let (seconds, rest) = (u32::try_from(nanoseconds / second).ok()?, u32::try_from(nanoseconds % second).ok()?);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest)?;
    Some(shown(time.format("%H:%M:%S%.f")))
}

/// A duration, which becomes ISO 8601 text (`PT5S`).
fn duration(value: i64, unit: TimeUnit) -> Option<TimeDelta> {
    match unit {
        TimeUnit::Second => TimeDelta::try_seconds(value),
        TimeUnit::Millisecond => TimeDelta::try_milliseconds(value),
        TimeUnit::Microsecond => Some(TimeDelta::microseconds(value)),
        TimeUnit::Nanosecond => Some(TimeDelta::nanoseconds(value)),
    }
}

fn text<O: Offset>(array: &dyn Array, index: usize) -> Option<Value> {
    array.as_any().downcast_ref::<Utf8Array<O>>().map(|array| array.value(index).into())
}

fn bytes<O: Offset>(array: &dyn Array, index: usize) -> Option<&[u8]> {
    array.as_any().downcast_ref::<BinaryArray<O>>().map(|array| array.value(index))
}

/// The bytes of a cell, whatever they are.
fn raw(array: &dyn Array, index: usize) -> Option<&[u8]> {
    let views = || array.as_any().downcast_ref::<BinaryViewArray>().map(|array| array.value(index));
    let fixed = || array.as_any().downcast_ref::<FixedSizeBinaryArray>().map(|array| array.value(index));
    bytes::<i32>(array, index).or_else(|| bytes::<i64>(array, index)).or_else(views).or_else(fixed)
}

/// Whether bytes are text that stands for a picture, such as a path, and no picture.
fn is_words(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

fn utf8(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(Value::from)
}

fn entry<K: DictionaryKey>(array: &dyn Array, index: usize, used: &Use<'_>) -> Cell {
    match array.as_any().downcast_ref::<DictionaryArray<K>>() {
        Some(array) => cell(array.values().as_ref(), array.key_value(index), used),
        None => Ok(None),
    }
}

fn list(items: &dyn Array, used: &Use<'_>) -> Cell {
    (0..items.len()).map(|index| json(items, index, used)).collect::<Result<_, _>>().map(Some)
}

fn object(array: &StructArray, index: usize, used: &Use<'_>) -> Cell {
    let mut object = Map::new();
    for (field, values) in array.fields().iter().zip(array.values()) {
        let name = field.name.as_str();
        // A field that occurs twice is an error only where both values are not null.
        match json(values.as_ref(), index, &used.field(name))? {
            Value::Null => {}
            value => insert(&mut object, name.to_string(), value)?,
        }
    }
    Ok(Some(object.into()))
}

fn insert(object: &mut Map<String, Value>, key: String, value: Value) -> Result<(), String> {
    match object.contains_key(&key) {
        true => Err(format!("an object in which the key `{key}` stands twice")),
        false => {
            object.insert(key, value);
            Ok(())
        }
    }
}

/// Whether a list holds the entries of a map: Parquet's maps are read as lists of what its specification calls
/// `key_value`, Arrow's as `entries`.
fn is_entries(field: &Field) -> bool {
    let named = matches!(field.name.as_str(), "entries" | "key_value");
    match field.dtype.to_storage() {
        ArrowDataType::Struct(fields) if named && !field.is_nullable => {
            matches!(fields.as_slice(), [key, value] if key.name == "key" && value.name == "value" && !key.is_nullable)
        }
        _ => false,
    }
}

/// A map from its entries (structs of key and value): an object where the keys are text, else a list of objects with
/// `key` and `value`.
fn map(entries: &dyn Array, used: &Use<'_>) -> Cell {
    let pair = entries.as_any().downcast_ref::<StructArray>().map(StructArray::values);
    let Some([keys, values]) = pair else { return Err("a map without keys and values".into()) };
    let entries = (0..entries.len()).map(|index| {
        let key = json(keys.as_ref(), index, used)?;
        Ok((key, json(values.as_ref(), index, used)?))
    });
    if !is_text(keys.dtype()) {
        let entry = |(key, value)| Value::Object(Map::from_iter([("key".into(), key), ("value".into(), value)]));
        return entries.map(|pair| pair.map(entry)).collect::<Result<_, String>>().map(Some);
    }
    let mut object = Map::new();
    for pair in entries {
        match pair? {
            (Value::String(key), value) => insert(&mut object, key, value)?,
            (other, _) => return Err(format!("a map with the key {other}")),
        }
    }
    Ok(Some(object.into()))
}

fn is_text(dtype: &ArrowDataType) -> bool {
    match dtype.to_storage() {
        ArrowDataType::Utf8 | ArrowDataType::LargeUtf8 | ArrowDataType::Utf8View => true,
        ArrowDataType::Dictionary(_, values, _) => is_text(values),
        _ => false,
    }
}

/// A decimal number as text, because a float may not hold its digits.
fn decimal(unscaled: &str, scale: usize) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    let digits = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, part) = digits.split_at(digits.len() - scale);
    match part {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use polars_arrow::array::{Float64Array, MutableArray, MutablePrimitiveArray};
    use serde_json::json;

    use super::*;

    fn structs(fields: &[(&str, Box<dyn Array>)]) -> StructArray {
        let named = |(name, array): &(&str, Box<dyn Array>)| Field::new((*name).into(), array.dtype().clone(), true);
        let dtype = ArrowDataType::Struct(fields.iter().map(named).collect());
        StructArray::new(dtype, fields[0].1.len(), fields.iter().map(|(_, array)| array.clone()).collect(), None)
    }

    fn texts(texts: &[&str]) -> Box<dyn Array> {
        Utf8Array::<i32>::from_slice(texts).boxed()
    }

    #[test]
    fn decimals_and_floats_keep_their_digits() {
        assert_eq!(decimal("-12345", 2), "-123.45");
        assert_eq!((decimal("5", 3).as_str(), decimal("7", 0).as_str()), ("0.005", "7"));
        let mut array = MutablePrimitiveArray::<f32>::from_slice([0.1]);
        assert_eq!(json(array.as_box().as_ref(), 0, &Use::Whole).unwrap().to_string(), "0.1");
    }

    #[test]
    fn what_json_has_no_word_for_is_an_error_only_where_it_is_used() {
        let floats = Float64Array::from_slice([1.0, f64::NAN, f64::NEG_INFINITY]);
        let binary = BinaryArray::<i32>::from_slice([&b"a"[..], b"b", b"\xff"]);
        let twice = structs(&[("a", texts(&["1", "2", "3"])), ("a", texts(&["4", "5", "6"]))]);
        let interval = PrimitiveArray::<i32>::from_slice([1, 2, 3])
            .to(ArrowDataType::Interval(polars_arrow::datatypes::IntervalUnit::YearMonth));
        for (array, said) in [
            (&floats as &dyn Array, "the number -inf"),
            (&binary, "bytes that are no UTF-8"),
            (&twice, "the key `a` stands twice"),
            (&interval, "Interval"),
        ] {
            let error = json(array, 2, &Use::Whole).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert_eq!(json(array, 2, &Use::Nothing), Ok(Value::Null));
        }
        let picture = json(&binary, 2, &Use::Media).unwrap();
        assert_eq!(picture.as_str(), Some("/w=="), "in base64");
        assert_eq!(json(&binary, 0, &Use::Media), Ok(json!("a")));
        assert_eq!(json(&floats, 1, &Use::Whole), Ok(Value::Null));
        assert_eq!(json(&binary, 0, &Use::Whole), Ok(json!("a")));
        let answer =
            structs(&[("text", texts(&["one"])), ("image", BinaryArray::<i32>::from_slice([b"\xff"]).boxed())]);
        assert_eq!(json(&answer, 0, &Use::Parts(vec!["text"])), Ok(json!({"text": "one"})));
        assert!(json(&answer, 0, &Use::Parts(vec!["text", "image"])).is_err());
        let outer = structs(&[("answer", answer.boxed())]);
        assert_eq!(json(&outer, 0, &Use::Parts(vec!["answer.text"])), Ok(json!({"answer": {"text": "one"}})));
        assert!(json(&outer, 0, &Use::Parts(vec!["answer"])).is_err());
    }
}
