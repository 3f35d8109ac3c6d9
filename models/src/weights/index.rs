//! The index of a sharded checkpoint, `model.safetensors.index.json` or `pytorch_model.bin.index.json`: [`each_entry`]
//! reads which shard holds which tensor.
//!
//! The index is read as a stream, entry by entry, and not kept, because the headers of the shards hold the same. A
//! shard must be a plain file name beside the index; a path, a drive or `..` is refused, so that an index cannot reach
//! outside its folder. `total_size` and other metadata are not checked: published indexes often have them wrong.

use std::{
    fmt,
    fs::{self, File},
    io::Read,
    path::Path,
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::error::ModelError;
use crate::wording::clip;

/// The largest index in bytes; the largest published ones (100,000 tensors and more) have a quarter of that.
const LARGEST: u64 = 64 << 20;
/// The ending of the name of an index of PyTorch files.
const OF_PYTORCH: &str = ".bin.index.json";

pub(super) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let kind = fs::metadata(path).map_err(ModelError::io("open", path))?;
    if !kind.is_file() || kind.len() > LARGEST {
        let expected = format!("an index file of at most {LARGEST} bytes");
        return Err(ModelError::malformed(path, expected, format!("{} bytes", kind.len())));
    }
    let mut text = Vec::with_capacity(kind.len() as usize);
    let file = File::open(path).map_err(ModelError::io("open", path))?;
    file.take(LARGEST).read_to_end(&mut text).map_err(ModelError::io("read", path))?;
    Ok(text)
}

/// Calls `visit(tensor, shard)` for each entry of `weight_map`, until it fails.
pub(super) fn each_entry(
    path: &Path,
    text: &[u8],
    mut visit: impl FnMut(&str, &str) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let mut failure = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = deserializer
        .deserialize_map(Index { visit: &mut visit, failure: &mut failure })
        .and_then(|()| deserializer.end());
    match (failure, read) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(ModelError::malformed(path, "a valid index of shards", clip(&error.to_string()))),
    }
}

/// Error: the shard is not a plain file name of the format that the index's own name states.
pub(super) fn check_shard_name(path: &Path, shard: &str) -> Result<(), ModelError> {
    let (extension, example) = match path.file_name().unwrap_or_default().to_string_lossy().ends_with(OF_PYTORCH) {
        true => (".bin", "pytorch_model-00001-of-00002.bin"),
        false => (".safetensors", "model-00001-of-00002.safetensors"),
    };
    let plain = shard.ends_with(extension)
        && !shard.starts_with('.')
        && !shard.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control());
    if plain {
        return Ok(());
    }
    let found = format!("`{}`", clip(shard).escape_debug());
    Err(ModelError::malformed(path, format!("shards named by a plain file name, `{example}`"), found))
}

struct Index<'v, F> {
    visit: &'v mut F,
    /// Kept separately because an error inside the JSON reader can only be a string.
    failure: &'v mut Option<ModelError>,
}

impl<'de, F: FnMut(&str, &str) -> Result<(), ModelError>> Visitor<'de> for Index<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if seen {
                return Err(A::Error::custom("the key `weight_map` twice"));
            }
            seen = true;
            map.next_value_seed(WeightMap { visit: &mut *self.visit, failure: &mut *self.failure })?;
        }
        if seen { Ok(()) } else { Err(A::Error::missing_field("weight_map")) }
    }
}

struct WeightMap<'v, F> {
    visit: &'v mut F,
    failure: &'v mut Option<ModelError>,
}

impl<'de, F: FnMut(&str, &str) -> Result<(), ModelError>> DeserializeSeed<'de> for WeightMap<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &str) -> Result<(), ModelError>> Visitor<'de> for WeightMap<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensor names and shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
            if let Err(failure) = (self.visit)(&tensor, &shard) {
                *self.failure = Some(failure);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut entries = Vec::new();
        let visit = |tensor: &str, shard: &str| {
            entries.push((tensor.to_owned(), shard.to_owned()));
            Ok(())
        };
        each_entry(Path::new("index.json"), text.as_bytes(), visit).map_err(|error| error.to_string())?;
        Ok(entries)
    }

    #[test]
    fn entries_come_in_order_and_metadata_is_passed_over() {
        let text = r#"{"metadata":{"total_size":7,"x":[[{}]]},"weight_map":{"b":"2.safetensors","a":"1.safetensors"}}"#;
        let expected = [("b", "2.safetensors"), ("a", "1.safetensors")].map(|(t, s)| (t.to_owned(), s.to_owned()));
        assert_eq!(entries(text).unwrap(), expected);
    }

    #[test]
    fn other_json_is_an_error() {
        for (text, says) in [
            ("", "EOF"),
            ("[]", "weight_map"),
            ("{}", "missing field `weight_map`"),
            (r#"{"weight_map":[]}"#, "tensor names and shard names"),
            (r#"{"weight_map":{"a":1}}"#, "invalid type"),
            (r#"{"weight_map":{},"weight_map":{}}"#, "twice"),
            (r#"{"weight_map":{}} {"#, "trailing"),
        ] {
            let message = entries(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
        assert!(entries(&format!(r#"{{"metadata":{}"#, "[".repeat(1_000_000))).is_err());
    }

    #[test]
    fn shard_names_cannot_leave_the_folder() {
        let path = Path::new("index.json");
        for name in ["model-00001-of-00002.safetensors", "a b.safetensors", "x..y.safetensors"] {
            assert!(check_shard_name(path, name).is_ok(), "{name}");
        }
        for name in [
            "../model.safetensors",
            "..",
            "",
            "/etc/model.safetensors",
            "sub/model.safetensors",
            r"sub\model.safetensors",
            "C:model.safetensors",
            "..safetensors",
            "model.safetensors\0",
            "model.bin",
        ] {
            let message = check_shard_name(path, name).unwrap_err().to_string();
            assert!(message.contains("plain file name"), "{name}");
        }
        let path = Path::new("pytorch_model.bin.index.json");
        assert!(check_shard_name(path, "pytorch_model-00001-of-00002.bin").is_ok());
        for name in ["model.safetensors", "../x.bin", ".bin"] {
            assert!(check_shard_name(path, name).unwrap_err().to_string().contains(".bin`, found"), "{name}");
        }
    }
}
