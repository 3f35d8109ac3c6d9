//! The processor of a model folder: [`Processor::of_folder`] reads `preprocessor_config.json` (transformers), or
//! `preprocess_cfg` of `open_clip_config.json` (open_clip).

use std::path::Path;

use serde_json::{Map, Value};

use super::processor::{Crop, Odd, Processor, Resize, Target};
use super::resize::Filter;
use crate::error::DataError;
use crate::source::shown;
use crate::tokenizer::object;

const FILE: &str = "preprocessor_config.json";
const OPEN_CLIP: &str = "open_clip_config.json";

/// The mean and deviation of CLIP's pictures.
const CLIP: ([f32; 3], [f32; 3]) =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
/// The largest side that a processor may ask for, in pixels.
const LARGEST: u64 = 1 << 14;

/// Keys of `preprocessor_config.json` that say nothing about the numbers.
const SILENT: [&str; 13] = [
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "auto_map",
    "do_convert_rgb",
    "_valid_processor_keys",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "default_to_square",
    "image_seq_length",
];
/// Keys that are read below.
const READ: [&str; 10] = [
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
];

/// What a class of processors does where its file says nothing.
struct Defaults {
    /// Whether a size of one number means a square.
    square: bool,
    filter: u64,
    crops: bool,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Processor {
    /// The processor that the files of a model folder describe; absent where there is no such file.
    ///
    /// # Errors
    /// A file of another processor, or with a key or value that is not known here.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, DataError> {
        let wrong = |name: &str, why: String| DataError::Processor { path: folder.join(name), why };
        if folder.join(FILE).exists() {
            return of_transformers(&object(folder, FILE)?).map(Some).map_err(|why| wrong(FILE, why));
        }
        if folder.join(OPEN_CLIP).exists() {
            return of_open_clip(&object(folder, OPEN_CLIP)?).map(Some).map_err(|why| wrong(OPEN_CLIP, why));
        }
        Ok(None)
    }
}

fn of_transformers(file: &Map<String, Value>) -> Result<Processor, String> {
    let class = ["image_processor_type", "feature_extractor_type"].into_iter().find_map(|key| file.get(key));
    let class = class.and_then(Value::as_str).unwrap_or("CLIPImageProcessor");
    let clip = Defaults { square: false, filter: 3, crops: true, mean: CLIP.0, std: CLIP.1 };
    let defaults = match class.trim_end_matches("Fast").trim_end_matches("Pil") {
        "CLIPImageProcessor" | "CLIPFeatureExtractor" | "BitImageProcessor" => clip,
        "ViTImageProcessor" | "ViTFeatureExtractor" => {
            Defaults { square: true, filter: 2, crops: false, mean: [0.5; 3], std: [0.5; 3] }
        }
        other => {
            return Err(format!(
                "`image_processor_type` is {other}; read here are CLIPImageProcessor, BitImageProcessor and ViTImageProcessor"
            ));
        }
    };
    let is_off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    let unknown = |(key, value): &(&String, &Value)| {
        !SILENT.contains(&key.as_str()) && !READ.contains(&key.as_str()) && !is_off(value)
    };
    if let Some((key, value)) = file.iter().find(unknown) {
        return Err(format!("`{key}` is {}; that key is not read here and may change what a model sees", shown(value)));
    }
    let flag = |key: &str, absent: bool| match file.get(key) {
        None | Some(Value::Null) => Ok(absent),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("`{key}` must be true or false, found {}", shown(other))),
    };
    let resize = match flag("do_resize", true)? {
        false => None,
        true => {
            let number = whole(file.get("resample"), "resample")?.unwrap_or(defaults.filter);
            let filter =
                Filter::by_number(number).ok_or_else(|| format!("`resample` must be from 0 to 5, found {number}"))?;
            let to = match sides(file.get("size"), "size")? {
                None if defaults.square => Target::Exactly(224, 224),
                None => Target::Shorter(224),
                Some(Sides::One(side)) if defaults.square => Target::Exactly(side, side),
                Some(Sides::One(side) | Sides::Shorter(side)) => Target::Shorter(side),
                Some(Sides::Both(height, width)) => Target::Exactly(height, width),
            };
            Some(Resize { to, filter })
        }
    };
    let crop = match flag("do_center_crop", defaults.crops)? {
        false => None,
        true => {
            let (height, width) = match sides(file.get("crop_size"), "crop_size")? {
                None => (224, 224),
                Some(Sides::One(side)) => (side, side),
                Some(Sides::Both(height, width)) => (height, width),
                Some(Sides::Shorter(_)) => return Err("`crop_size` has a `shortest_edge`, and a crop has both".into()),
            };
            Some(Crop { height, width, odd: Odd::Down })
        }
    };
    let scale = match flag("do_rescale", true)? {
        false => 1.0,
        true => match file.get("rescale_factor") {
            None | Some(Value::Null) => 1.0 / 255.0,
            Some(value) => match value.as_f64() {
                Some(scale) if scale > 0.0 && scale.is_finite() => scale as f32,
                _ => return Err(format!("`rescale_factor` must be a positive number, found {}", shown(value))),
            },
        },
    };
    let (mean, std) = match flag("do_normalize", true)? {
        false => ([0.0; 3], [1.0; 3]),
        true => (
            channels(file.get("image_mean"), "image_mean")?.unwrap_or(defaults.mean),
            deviations(file.get("image_std"), "image_std")?.unwrap_or(defaults.std),
        ),
    };
    Ok(Processor { resize, crop, scale, mean, std })
}

/// `preprocess_cfg` beside `model_cfg.vision_cfg.image_size`, as open_clip's `image_transform` reads them.
fn of_open_clip(file: &Map<String, Value>) -> Result<Processor, String> {
    let nothing = Map::new();
    let config = file.get("preprocess_cfg").and_then(Value::as_object).unwrap_or(&nothing);
    let known = ["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"];
    if let Some(key) = config.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("`preprocess_cfg.{key}` is not read here and may change what a model sees"));
    }
    let of_model =
        file.get("model_cfg").and_then(|model| model.get("vision_cfg")).and_then(|vision| vision.get("image_size"));
    let (height, width) = match sides(config.get("size").or(of_model), "image_size")? {
        Some(Sides::One(side)) => (side, side),
        Some(Sides::Both(height, width)) => (height, width),
        Some(Sides::Shorter(_)) | None => return Err("`model_cfg.vision_cfg.image_size` must be a number".into()),
    };
    let text = |key: &str, absent: &'static str| match config.get(key) {
        None | Some(Value::Null) => Ok(absent.to_string()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("`preprocess_cfg.{key}` must be text, found {}", shown(other))),
    };
    if text("mode", "RGB")? != "RGB" {
        return Err(format!("`preprocess_cfg.mode` must be \"RGB\", found {}", text("mode", "RGB")?));
    }
    let filter = match text("interpolation", "bicubic")?.as_str() {
        // open_clip takes bicubic for `random` where nothing is drawn.
        "bicubic" | "random" => Filter::Bicubic,
        "bilinear" => Filter::Bilinear,
        other => {
            return Err(format!("`preprocess_cfg.interpolation` must be bicubic, bilinear or random, found {other}"));
        }
    };
    let (to, crop) = match text("resize_mode", "shortest")?.as_str() {
        "shortest" if height == width => (Target::Shorter(height), Some(Crop { height, width, odd: Odd::Even })),
        "squash" => (Target::Exactly(height, width), None),
        other => {
            return Err(format!(
                "`preprocess_cfg.resize_mode` is {other} for {height} x {width} pixels; read here are squash, and shortest for squares"
            ));
        }
    };
    Ok(Processor {
        resize: Some(Resize { to, filter }),
        crop,
        scale: 1.0 / 255.0,
        mean: channels(config.get("mean"), "preprocess_cfg.mean")?.unwrap_or(CLIP.0),
        std: deviations(config.get("std"), "preprocess_cfg.std")?.unwrap_or(CLIP.1),
    })
}

/// A size, as files spell it.
enum Sides {
    One(u32),
    Shorter(u32),
    /// Height and width.
    Both(u32, u32),
}

fn sides(value: Option<&Value>, key: &str) -> Result<Option<Sides>, String> {
    let side = |value: &Value| {
        let number = value.as_u64().filter(|side| (1..=LARGEST).contains(side)).map(|side| side as u32);
        number.ok_or_else(|| format!("`{key}` must be from 1 to {LARGEST} pixels, found {}", shown(value)))
    };
    let unlike = |value: &Value| {
        format!("`{key}` must be a number, `shortest_edge`, or `height` and `width`, found {}", shown(value))
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value @ Value::Number(_)) => side(value).map(|side| Some(Sides::One(side))),
        Some(value @ Value::Array(both)) => match both.as_slice() {
            [height, width] => Ok(Some(Sides::Both(side(height)?, side(width)?))),
            _ => Err(unlike(value)),
        },
        Some(value @ Value::Object(object)) => {
            let present: Vec<&str> =
                object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect();
            match present.as_slice() {
                ["shortest_edge"] => Ok(Some(Sides::Shorter(side(&object["shortest_edge"])?))),
                ["height", "width"] | ["width", "height"] => {
                    Ok(Some(Sides::Both(side(&object["height"])?, side(&object["width"])?)))
                }
                _ => Err(unlike(value)),
            }
        }
        Some(value) => Err(unlike(value)),
    }
}

fn whole(value: Option<&Value>, key: &str) -> Result<Option<u64>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_u64().map(Some).ok_or_else(|| format!("`{key}` must be a whole number, found {}", shown(value)))
        }
    }
}

/// Three numbers, or one for all channels.
fn channels(value: Option<&Value>, key: &str) -> Result<Option<[f32; 3]>, String> {
    let wrong = |value: &Value| format!("`{key}` must be three numbers, found {}", shown(value));
    let number = |value: &Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value @ Value::Array(numbers)) => {
            let numbers: Option<Vec<f32>> = numbers.iter().map(number).collect();
            numbers.and_then(|numbers| numbers.try_into().ok()).map(Some).ok_or_else(|| wrong(value))
        }
        Some(value) => number(value).map(|number| Some([number; 3])).ok_or_else(|| wrong(value)),
    }
}

fn deviations(value: Option<&Value>, key: &str) -> Result<Option<[f32; 3]>, String> {
    match channels(value, key)? {
        Some(std) if std.iter().any(|std| *std <= 0.0) => Err(format!("`{key}` must be positive, found {std:?}")),
        std => Ok(std),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Processor, String> {
        let Value::Object(file) = value else { panic!("an object") };
        of_transformers(&file)
    }

    #[test]
    fn the_oldest_file_of_clip_is_read() {
        let oldest = read(json!({
            "crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224
        }));
        let newest = read(json!({
            "image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224}, "do_pad": null, "size_divisor": null, "rescale_factor": 0.00392156862745098
        }));
        assert_eq!(oldest, newest);
        let expected = Processor {
            resize: Some(Resize { to: Target::Shorter(224), filter: Filter::Bicubic }),
            crop: Some(Crop { height: 224, width: 224, odd: Odd::Down }),
            scale: 1.0 / 255.0,
            mean: CLIP.0,
            std: CLIP.1,
        };
        assert_eq!(oldest.unwrap(), expected);
    }

    #[test]
    fn a_class_has_defaults_of_its_own() {
        let vit = read(json!({"image_processor_type": "ViTImageProcessor", "size": 96})).unwrap();
        assert_eq!(vit.resize, Some(Resize { to: Target::Exactly(96, 96), filter: Filter::Bilinear }));
        assert_eq!((vit.crop, vit.mean), (None, [0.5; 3]));
        let off = json!({"do_resize": false, "do_center_crop": false, "do_rescale": false, "do_normalize": false});
        let off = read(off).unwrap();
        assert_eq!((off.resize, off.crop, off.scale, off.mean, off.std), (None, None, 1.0, [0.0; 3], [1.0; 3]));
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_key() {
        for (file, said) in [
            (json!({"image_processor_type": "SamImageProcessor"}), "SamImageProcessor"),
            (json!({"do_pad": true}), "`do_pad`"),
            (json!({"size": {"longest_edge": 3}}), "`size`"),
            (json!({"size": 0}), "`size` must be from 1"),
            (json!({"size": 1_000_000}), "`size` must be from 1"),
            (json!({"crop_size": {"shortest_edge": 3}}), "`crop_size`"),
            (json!({"resample": 9}), "`resample`"),
            (json!({"image_std": [1, 0, 1]}), "`image_std`"),
            (json!({"image_mean": [1, 0]}), "`image_mean`"),
            (json!({"rescale_factor": 0}), "`rescale_factor`"),
            (json!({"do_resize": 1}), "`do_resize`"),
        ] {
            let error = read(file).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn open_clip_says_it_beside_the_model() {
        let read = |value: Value| {
            let Value::Object(file) = value else { panic!("an object") };
            of_open_clip(&file)
        };
        let usual = json!({"model_cfg": {"vision_cfg": {"image_size": 32}}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": 0.5}});
        let usual = read(usual).unwrap();
        assert_eq!(usual.crop, Some(Crop { height: 32, width: 32, odd: Odd::Even }));
        assert_eq!((usual.mean, usual.std), ([0.5; 3], [0.5; 3]));
        let squash = json!({"preprocess_cfg": {"size": [3, 32, 48], "resize_mode": "squash"}});
        assert!(read(squash).unwrap_err().contains("image_size"));
        let squash =
            read(json!({"preprocess_cfg": {"size": [32, 48], "resize_mode": "squash", "interpolation": "bilinear"}}));
        let squash = squash.unwrap();
        assert_eq!(squash.resize, Some(Resize { to: Target::Exactly(32, 48), filter: Filter::Bilinear }));
        assert_eq!(squash.crop, None);
        for (config, said) in
            [(json!({"size": 9, "resize_mode": "longest"}), "longest"), (json!({"size": 9, "mode": "L"}), "mode")]
        {
            let error = read(json!({"preprocess_cfg": config})).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
