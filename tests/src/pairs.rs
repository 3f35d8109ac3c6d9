//! Pairs of an image and a text, as rows of tensors for the model of a golden, and that model as a folder.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::golden;

/// Whose weights the model has.
pub const GOLDEN: &str = "towers/clip-quick-gelu";
/// Channels, height and width of its images.
const IMAGE: [usize; 3] = [3, 12, 12];
/// Tokens it knows; the last is the end of a text.
const TOKENS: u64 = 61;
/// Tokens of a row's text, padding included.
const LENGTH: usize = 9;

/// Writes the folder of the model.
pub fn write_model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden::path(GOLDEN).join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join("preprocessor_config.json"), "{\"crop_size\": 12}\n").unwrap();
}

/// Writes rows `from..to` as `<folder>/<number>.safetensors`, and `<folder>.jsonl` beside it, which names them.
pub fn write_rows(folder: &Path, from: u64, to: u64) {
    fs::create_dir_all(folder).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let mut lines = String::new();
    for number in from..to {
        fs::write(folder.join(format!("{number}.safetensors")), row(number)).unwrap();
        lines += &format!("{}\n", json!({ "tensors": format!("{name}/{number}.safetensors") }));
    }
    fs::write(folder.with_extension("jsonl"), lines).unwrap();
}

/// An image of one of four colours and the text that names it, each number with noise and a length of its own.
fn row(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let colour = number % 4;
    let count: usize = IMAGE.iter().product();
    let pixels = (0..count).map(|index| {
        let channel = (index / (IMAGE[1] * IMAGE[2])) as u64;
        let bright = if channel == colour || colour == 3 { 1.5 } else { -1.0 };
        bright + next(100) as f32 / 200.0
    });
    let pixels: Vec<u8> = pixels.flat_map(f32::to_le_bytes).collect();
    let said = 4 + next(4) as usize;
    let token = |place: usize| match place {
        0 => 0,
        1 => 10 + colour,
        place if place < said => 20 + (number + place as u64) % 20,
        place if place == said => TOKENS - 1,
        _ => 1,
    };
    let ids: Vec<u64> = (0..LENGTH).map(token).collect();
    let mask: Vec<u64> = (0..LENGTH).map(|place| u64::from(place <= said)).collect();
    let whole = |values: &[u64]| values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect::<Vec<u8>>();
    file(&[
        ("attention_mask", "I64", vec![LENGTH], whole(&mask)),
        ("input_ids", "I64", vec![LENGTH], whole(&ids)),
        ("pixel_values", "F32", IMAGE.to_vec(), pixels),
    ])
}

/// A safetensors file of tensors: name, dtype, shape and bytes.
pub fn file(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut body) = (serde_json::Map::new(), vec![]);
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [body.len(), body.len() + bytes.len()];
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        body.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &body].concat()
}
