//! The committed answers of the reference implementations; `goldens/README.md` tells what stands in them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use burn::tensor::Tensor;
use firebrand::objective::inputs;
use firebrand_adapters::Mode;
use firebrand_datasets::{NOT_TRAINED, TokenBatch};
use firebrand_models::decoder::Decoder;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::pipeline::trained_folder;
use firebrand_models::weights::SafetensorsFile;
use firebrand_models::{Hold, Model, Network};
use serde_json::Value;

/// The folder or file of that name.
pub fn path(name: &str) -> PathBuf {
    crate::repository().join("tests/goldens").join(name)
}

/// A JSON file.
pub fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// Where goldens lie: those of language models at the top, those of another kind of network in a room of their own.
const ROOMS: [&str; 4] = ["", "towers/", "images/", "diffusion/"];

/// Folders of language models whose name starts so, sorted.
pub fn folders(prefix: &str) -> Vec<String> {
    folders_in("", prefix)
}

/// Folders of every room whose name starts so, with the room before it.
pub fn folders_everywhere(prefix: &str) -> Vec<String> {
    let of = |room: &str| folders_in(room, prefix).into_iter().map(|name| format!("{room}{name}")).collect::<Vec<_>>();
    ROOMS.into_iter().flat_map(of).collect()
}

/// Folders of a room whose name starts so, sorted, without the room.
pub fn folders_in(room: &str, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(room)).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// Model cases of a family, with the room before the name.
pub fn models_of(family: Family) -> Vec<String> {
    let is_of = |name: &String| {
        let config = trained_folder(&path(name)).join("config.json");
        config.exists() && HfConfig::open(&config).is_ok_and(|config| Family::of(&config).ok() == Some(family))
    };
    folders_everywhere("").into_iter().filter(is_of).collect()
}

/// All language models.
pub fn models() -> Vec<String> {
    let is_model =
        |name: &String| path(name).join("forward.safetensors").exists() && path(name).join("config.json").exists();
    folders("").into_iter().filter(is_model).collect()
}

/// Holds `claim` against every model case, and names all that fail.
pub fn each_model(claim: impl Fn(&str)) {
    each(&models(), claim);
}

/// Holds `claim` against every one of `cases`, and names all that fail.
pub fn each(cases: &[String], claim: impl Fn(&str)) {
    let fails = |case: &&String| catch_unwind(AssertUnwindSafe(|| claim(case))).is_err();
    let failed: Vec<&String> = cases.iter().filter(fails).collect();
    assert!(!cases.is_empty() && failed.is_empty(), "{} of {} cases fail: {failed:?}", failed.len(), cases.len());
}

/// The model in a golden's folder on the device of tests, all parameters frozen.
pub fn load(name: &str) -> Model {
    Model::load(&path(name), Hold::F32, &crate::device::open()).unwrap()
}

/// The decoder of a language model.
pub fn decoder(model: &Model) -> &Decoder {
    match model.network() {
        Network::Decoder(decoder) => decoder,
        other => panic!("a {}", other.kind()),
    }
}

/// `forward.safetensors` of a case.
pub struct Forward {
    file: SafetensorsFile,
}

impl Forward {
    /// Opens it.
    pub fn open(case: &str) -> Self {
        Self { file: SafetensorsFile::open(path(case).join("forward.safetensors")).unwrap() }
    }

    /// The prefixes of the batches in it: `""`, `"packed."` and so on.
    pub fn batches(&self) -> Vec<String> {
        self.file.names().filter_map(|name| name.strip_suffix("logits")).map(String::from).collect()
    }

    /// Parameters with a gradient, by their name in the weights.
    pub fn gradients(&self) -> Vec<(String, Vec<f32>)> {
        let named = |name: &str| Some((name.strip_prefix("grad.")?.to_string(), self.floats(name)));
        self.file.names().filter_map(named).collect()
    }

    /// A float tensor.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.file.get(name).unwrap().to_f32().unwrap()
    }

    /// The loss of a batch.
    pub fn loss(&self, prefix: &str) -> f64 {
        f64::from(self.floats(&format!("{prefix}loss"))[0])
    }

    /// Number of decoder layers with hidden states.
    pub fn layers(&self) -> usize {
        self.file.names().filter(|name| name.starts_with("hidden.")).count()
    }

    /// A batch as the trainer lays it out.
    pub fn batch(&self, prefix: &str) -> TokenBatch {
        let read = |name: &str| self.integers(&format!("{prefix}{name}"));
        let shape = self.file.get(&format!("{prefix}input_ids")).unwrap().shape;
        let (rows, length) = (shape[0], shape[1]);
        let segments = match prefix {
            // The padding's segment is 0, so those of rows begin at 1.
            "packed." => read("segment_ids").into_iter().map(|segment| segment + 1).collect(),
            _ => read("attention_mask"),
        };
        let mut batch = TokenBatch {
            rows,
            length,
            input_ids: read("input_ids"),
            positions: read("position_ids"),
            targets: vec![NOT_TRAINED as i32; rows * length],
            weights: vec![0.0; rows * length],
            segments,
            examples: vec![],
            spans: vec![],
        };
        let labels = read("labels");
        for index in (0..rows * length).filter(|index| (index + 1) % length != 0) {
            let next = index + 1;
            let same_row = batch.segments[index] != 0 && batch.segments[next] == batch.segments[index];
            if same_row && i64::from(labels[next]) != NOT_TRAINED {
                (batch.targets[index], batch.weights[index]) = (labels[next], 1.0);
            }
        }
        batch
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        let bytes = self.file.get(name).unwrap().bytes();
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "{name} is i64");
        words.iter().map(|word| i32::try_from(i64::from_le_bytes(*word)).unwrap()).collect()
    }
}

/// All logits of a batch, `[rows * length, vocab]`.
pub fn logits(model: &Model, batch: &TokenBatch) -> Vec<f32> {
    let hidden = decoder(model).forward(&inputs(batch), Mode::Inference);
    host(decoder(model).head().logits(hidden))
}

/// The rows of `[rows * length, width]` values at places that are no padding.
pub fn at_tokens(batch: &TokenBatch, values: &[f32]) -> Vec<f32> {
    let width = values.len() / batch.segments.len();
    let places = batch.segments.iter().zip(values.chunks(width));
    places.filter(|(segment, _)| **segment != 0).flat_map(|(_, row)| row.to_vec()).collect()
}

/// One segment of a batch as a batch of its own, without padding.
pub fn alone(batch: &TokenBatch, row: usize, segment: i32) -> TokenBatch {
    let range = row * batch.length..(row + 1) * batch.length;
    let places: Vec<usize> = range.filter(|&index| batch.segments[index] == segment).collect();
    let pick = |values: &[i32]| places.iter().map(|&index| values[index]).collect::<Vec<_>>();
    TokenBatch {
        rows: 1,
        length: places.len(),
        input_ids: pick(&batch.input_ids),
        positions: pick(&batch.positions),
        segments: pick(&batch.segments),
        targets: pick(&batch.targets),
        weights: places.iter().map(|&index| batch.weights[index]).collect(),
        examples: vec![],
        spans: vec![],
    }
}

/// Every (row, segment) of a batch that is no padding.
pub fn segments(batch: &TokenBatch) -> Vec<(usize, i32)> {
    let places = batch.segments.iter().enumerate().filter(|(_, segment)| **segment != 0);
    let mut found: Vec<(usize, i32)> = places.map(|(index, segment)| (index / batch.length, *segment)).collect();
    found.dedup();
    found
}

/// The values of a tensor.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
