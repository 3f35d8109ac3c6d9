//! The JSON header of a safetensors file: [`parse`] reads it strictly.
//!
//! A header names each tensor once, with exactly `dtype`, `shape` and `data_offsets`. The bytes of the tensors follow
//! each other without overlap or gap from the start of the data to its end. Anything else is an error that names the
//! tensor. The format's own rules: <https://github.com/huggingface/safetensors#format>. The header is read as a stream,
//! so that the memory taken is bounded by the length of the text.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::dtype::Dtype;
use crate::error::ModelError;
use crate::wording::clip;

const METADATA: &str = "__metadata__";
/// The most dimensions of a tensor that are accepted: torch allows 64, and weights of real models have at most 6.
pub(super) const MOST_DIMENSIONS: usize = 32;
pub(super) const LONGEST_NAME: usize = 1024;

pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    /// Tensors in the order of their bytes.
    pub tensors: Vec<Entry>,
}

pub(super) struct Entry {
    pub name: Box<str>,
    pub dtype: Dtype,
    pub shape: Box<[usize]>,
    /// The range of its bytes, counted from the end of the header.
    pub range: Range<usize>,
}

/// Parses the header `text` of a file whose data part has `data_len` bytes.
pub(super) fn parse(path: &Path, text: &[u8], data_len: usize) -> Result<Header, ModelError> {
    // JSON allows whitespace before the brace, the format does not.
    if text.first() != Some(&b'{') {
        return Err(ModelError::malformed(path, "a safetensors header that begins with `{`", "something else"));
    }
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = HeaderSeed { refusal: &mut refusal }
        .deserialize(&mut deserializer)
        .and_then(|header| deserializer.end().map(|()| header));
    let mut header = parsed.map_err(|error| match refusal {
        Some(UnknownDtype { tensor, dtype }) => {
            ModelError::tensor(path, &tensor, "a dtype that is read (F32, BF16, F16, F64, an integer, BOOL)", dtype)
        }
        None => ModelError::malformed(path, "a valid safetensors header", clip(&error.to_string())),
    })?;
    header.tensors.sort_by_key(|entry| (entry.range.start, entry.range.end));
    check_ranges(path, &header.tensors, data_len)?;
    Ok(header)
}

fn check_ranges(path: &Path, tensors: &[Entry], data_len: usize) -> Result<(), ModelError> {
    let mut covered = 0;
    for entry in tensors {
        let wrong = |expected: String, found: String| Err(ModelError::tensor(path, &entry.name, expected, found));
        let Range { start, end } = entry.range;
        let Some(bytes) = entry.dtype.bytes(&entry.shape) else {
            return wrong("a shape whose size can be counted".to_owned(), format!("{:?}", entry.shape));
        };
        if end > data_len {
            return wrong(format!("offsets within {data_len} bytes of data"), format!("[{start}, {end}]"));
        }
        // The deserializer has checked that start <= end.
        if end - start != bytes {
            let (dtype, shape) = (entry.dtype, &entry.shape);
            return wrong(format!("{bytes} bytes for {dtype} {shape:?}"), format!("{} bytes", end - start));
        }
        if start < covered {
            return wrong(format!("bytes of its own from {covered} on"), format!("an overlap from {start} on"));
        }
        if start > covered {
            return wrong(format!("data from byte {covered} on"), format!("a hole up to {start}"));
        }
        covered = end;
    }
    if covered != data_len {
        let expected = format!("{covered} bytes of data, as the header describes");
        return Err(ModelError::malformed(path, expected, format!("{data_len} bytes")));
    }
    Ok(())
}

/// Kept separately because an error inside the JSON reader can only be a string.
struct UnknownDtype {
    tensor: String,
    dtype: String,
}

struct HeaderSeed<'r> {
    refusal: &'r mut Option<UnknownDtype>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut metadata = None;
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                set_once(&mut metadata, METADATA, map.next_value_seed(Metadata)?)?;
                continue;
            }
            if name.len() > LONGEST_NAME {
                return Err(A::Error::custom(format!("a tensor name of {} bytes: `{}`", name.len(), clip(&name))));
            }
            let raw = map
                .next_value_seed(RawEntrySeed)
                .map_err(|error| A::Error::custom(format!("tensor `{}`: {}", clip(&name), clip(&error.to_string()))))?;
            let Some(dtype) = Dtype::from_name(&raw.dtype) else {
                *self.refusal = Some(UnknownDtype { tensor: clip(&name), dtype: clip(&raw.dtype) });
                return Err(A::Error::custom("unknown dtype"));
            };
            let [start, end] = raw.data_offsets;
            if start > end {
                return Err(A::Error::custom(format!("tensor `{}`: data_offsets [{start}, {end}]", clip(&name))));
            }
            tensors.push(Entry { name: name.into_boxed_str(), dtype, shape: raw.shape, range: start..end });
        }
        Ok(Header { metadata: metadata.unwrap_or_default(), tensors })
    }
}

struct RawEntry {
    dtype: String,
    shape: Box<[usize]>,
    data_offsets: [usize; 2],
}

/// Implemented by hand because a derived reader would also accept an array of the three values.
struct RawEntrySeed;

impl<'de> DeserializeSeed<'de> for RawEntrySeed {
    type Value = RawEntry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawEntry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawEntrySeed {
    type Value = RawEntry;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEntry, A::Error> {
        let (mut dtype, mut shape, mut data_offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "dtype" => set_once(&mut dtype, "dtype", map.next_value()?)?,
                "shape" => set_once(&mut shape, "shape", map.next_value_seed(Shape)?)?,
                "data_offsets" => set_once(&mut data_offsets, "data_offsets", map.next_value()?)?,
                other => return Err(A::Error::custom(format!("unknown key `{}`", clip(other)))),
            }
        }
        Ok(RawEntry {
            dtype: dtype.ok_or_else(|| A::Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| A::Error::missing_field("shape"))?,
            data_offsets: data_offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?,
        })
    }
}

struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Box<[usize]>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Box<[usize]>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut dims = [0; MOST_DIMENSIONS];
        let mut rank = 0;
        while let Some(dim) = seq.next_element()? {
            let slot = dims
                .get_mut(rank)
                .ok_or_else(|| A::Error::custom(format!("a shape of more than {MOST_DIMENSIONS} dimensions")))?;
            *slot = dim;
            rank += 1;
        }
        Ok(dims[..rank].into())
    }
}

struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.contains_key(&key) {
                return Err(duplicate(&key));
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }
}

fn set_once<T, E: Error>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(duplicate(key)),
    }
}

fn duplicate<E: Error>(key: &str) -> E {
    E::custom(format!("the key `{}` twice", clip(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, data_len: usize) -> String {
        match parse(Path::new("x.safetensors"), text.as_bytes(), data_len) {
            Ok(_) => panic!("accepted {text}"),
            Err(error) => error.to_string(),
        }
    }

    fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    }

    #[test]
    fn order_in_the_text_does_not_matter() {
        let text = format!("{{{},{}}}  ", tensor("b", "F32", "[2]", "[4,12]"), tensor("a", "BF16", "[2,1]", "[0,4]"));
        let header = parse(Path::new("x"), text.as_bytes(), 12).unwrap();
        let names: Vec<&str> = header.tensors.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(*header.tensors[0].shape, [2, 1]);
    }

    #[test]
    fn wrong_ranges_are_named() {
        let one = |shape: &str, offsets: &str| format!("{{{}}}", tensor("w", "F32", shape, offsets));
        assert!(error(&one("[2]", "[0,16]"), 8).contains("`w`: expected offsets within 8 bytes"));
        assert!(error(&one("[2]", "[0,4]"), 8).contains("expected 8 bytes for F32 [2], found 4 bytes"));
        assert!(error(&one("[2]", "[8,0]"), 8).contains("data_offsets [8, 0]"));
        assert!(error(&one("[2]", "[4,12]"), 12).contains("a hole up to 4"));
        assert!(error(&one("[2]", "[0,8]"), 9).contains("expected 8 bytes of data"));
        assert!(error(&one("[4294967296,4294967296]", "[0,8]"), 8).contains("a shape whose size can be counted"));
        assert!(error(&one("[18446744073709551616]", "[0,8]"), 8).contains("tensor `w`"));
        let two = format!("{{{},{}}}", tensor("a", "F32", "[2]", "[0,8]"), tensor("b", "F32", "[2]", "[4,12]"));
        assert!(error(&two, 12).contains("`b`: expected bytes of its own from 8 on, found an overlap from 4 on"));
    }

    #[test]
    fn dtypes_that_are_not_read_are_refused_by_name() {
        let text = format!("{{{}}}", tensor("w", "F8_E4M3", "[8]", "[0,8]"));
        let message = error(&text, 8);
        assert!(message.contains("tensor `w`") && message.contains("found F8_E4M3"), "{message}");
    }

    #[test]
    fn the_structure_is_exact() {
        let w = tensor("w", "U8", "[1]", "[0,1]");
        for (text, says) in [
            (" {}", "begins with `{`"),
            ("{} x", "trailing characters"),
            ("[]", "begins with `{`"),
            (r#"{"w":["U8",[1],[0,1]]}"#, "tensor `w`: invalid type: sequence"),
            (r#"{"w":{"dtype":"U8","shape":[1]}}"#, "missing field `data_offsets`"),
            (r#"{"w":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, "the key `dtype` twice"),
            (r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1}}"#, "unknown key `extra`"),
            (r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#, "tensor `w`"),
            (r#"{"w":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#, "tensor `w`"),
            (r#"{"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, "tensor `w`"),
            (r#"{"__metadata__":{"format":1}}"#, "invalid type"),
            (r#"{"__metadata__":{"a":"1","a":"1"}}"#, "the key `a` twice"),
            (r#"{"__metadata__":{},"__metadata__":{}}"#, "the key `__metadata__` twice"),
        ] {
            let message = error(text, 0);
            assert!(message.contains(says), "{text}: {message}");
        }
        assert!(
            error(&format!("{{{}}}", tensor("w", "U8", &format!("[{}1]", "1,".repeat(32)), "[0,1]")), 1).contains("32")
        );
        assert!(error(&format!("{{{}}}", tensor(&"n".repeat(2000), "U8", "[1]", "[0,1]")), 1).contains("2000 bytes"));
        assert!(parse(Path::new("x"), format!("{{{w}}}").as_bytes(), 1).is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        let deep = format!(r#"{{"w":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(error(&deep, 0).contains("tensor `w`"));
        let deep = format!(r#"{{"__metadata__":{{"a":{}"#, r#"{"a":"#.repeat(100_000));
        assert!(error(&deep, 0).contains("invalid type"));
    }
}
