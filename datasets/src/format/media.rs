//! Images, sound and video in a row, which a model of text does not see: [`Media`] names where they stand.
//!
//! They are columns (`image`, `images`, `audio`, `video` and the like) whose value is not empty, and parts of a message's
//! content (`{"type": "image_url", ..}`).

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::source::is_media;

/// The media of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Where they stand: columns, and `image` parts of `messages`.
    pub places: Vec<String>,
    /// A hash of what stands there; absent where there is nothing. Never 0.
    pub hash: Option<u64>,
}

impl Media {
    /// The media of a row; `is_read` says which columns formats or the recipe read as something else.
    pub fn of(row: &Map<String, Value>, is_read: impl Fn(&str) -> bool) -> Self {
        let mut media = Self::default();
        let mut hash = Sha256::new();
        for (key, value) in row {
            if is_media(key) && !is_read(key) && !is_empty(value) {
                hash.update(key);
                hash.update(value.to_string());
                media.add(key.clone());
            }
            for part in parts(value) {
                hash.update(part.to_string());
                media.add(format!("{} parts of `{key}`", kind_of(part)));
            }
        }
        if !media.places.is_empty() {
            let digest = hash.finalize();
            let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
            media.hash = Some(number.max(1));
        }
        media
    }

    fn add(&mut self, place: String) {
        if !self.places.contains(&place) {
            self.places.push(place);
        }
    }
}

/// Whether a part of a message's content is an image, sound or video.
pub(super) fn is_part(part: &Map<String, Value>) -> bool {
    match part.get("type").and_then(Value::as_str) {
        Some(kind) => is_media(kind.strip_prefix("input_").unwrap_or(kind)),
        None => !part.contains_key("text") && part.keys().any(|key| is_media(key)),
    }
}

fn kind_of(part: &Value) -> &str {
    let named = part.get("type").and_then(Value::as_str);
    let first = || part.as_object().and_then(|part| part.keys().find(|key| is_media(key))).map(String::as_str);
    named.or_else(first).unwrap_or("media")
}

/// The parts with media in a list of messages.
fn parts(messages: &Value) -> impl Iterator<Item = &Value> {
    let one = std::slice::from_ref(messages);
    let messages = messages.as_array().map_or(one, Vec::as_slice);
    let contents = messages.iter().filter_map(|message| message.get("content").or_else(|| message.get("value")));
    let parts = contents.filter_map(Value::as_array).flatten();
    parts.filter(|part| part.as_object().is_some_and(is_part))
}

/// Whether a value holds nothing: null, no text, or a list or object of such values.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(value: Value) -> Vec<String> {
        Media::of(value.as_object().unwrap(), |key| key == "video").places
    }

    #[test]
    fn columns_and_parts_that_hold_something_are_named() {
        for (row, expected) in [
            (json!({"text": "a", "image": "a.png"}), &["image"][..]),
            (json!({"text": "a", "images": ["a.png"], "Audio": {"path": "b.wav"}}), &["images", "Audio"]),
            (
                json!({"text": "a", "image_url": "http://a", "video_path": "b", "photo": 7}),
                &["image_url", "video_path", "photo"],
            ),
            (
                json!({"text": "a", "images": [], "audio": null, "image": {"bytes": null, "path": ""}, "imgs": [""]}),
                &[],
            ),
            (json!({"text": "a", "video": "read as text", "image_id": 4, "imagery": "b", "images_of": 3}), &[]),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "a"}]}]}),
                &["image parts of `messages`"],
            ),
            (
                json!({"prompt": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}, {"image": "a.png"}]}]}),
                &["input_audio parts of `prompt`", "image parts of `prompt`"],
            ),
            (
                json!({"chosen": {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}}),
                &["image_url parts of `chosen`"],
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": null}]}]}),
                &[],
            ),
        ] {
            assert_eq!(places(row.clone()), expected, "{row}");
        }
    }

    #[test]
    fn another_picture_is_another_hash() {
        let hash = |image: Value| Media::of(json!({"text": "a", "image": image}).as_object().unwrap(), |_| false).hash;
        assert_eq!(hash(json!("a.png")), hash(json!("a.png")));
        assert_ne!(hash(json!("a.png")), hash(json!("b.png")));
        assert_ne!(hash(json!("a.png")), hash(json!(["a.png", "b.png"])));
        assert_eq!(hash(json!([])), None);
    }
}
