//! The plan of a checkpoint to write: [`CheckpointPlan`] holds headers and index before the bytes of any tensor exist.
//!
//! [`CheckpointPlan::new`] uses the layout of the reference libraries: shards filled in the given order
//! (huggingface_hub's `split_state_dict_into_shards_factory`), within a file by dtype, then by name (safetensors'
//! `serialize`), the header padded to eight bytes, the index with sorted keys. [`CheckpointPlan::like`] repeats the
//! layout of files that were read, whoever wrote them, so that saving what was loaded gives the same bytes; files of
//! PyTorch become safetensors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use serde_json::{Value, json};

use super::{
    checkpoint::{Checkpoint, Storage},
    dtype::Dtype,
    file::WeightsFile,
    safetensors::SafetensorsFile,
    view::TensorView,
};
use crate::error::ModelError;

/// A tensor to be written, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the file.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// How to lay out new files.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `model` gives `model.safetensors`, or `model-00001-of-00002.safetensors` and so on with
    /// `model.safetensors.index.json`.
    pub base_name: String,
    /// Number of tensor bytes per file; a single larger tensor has a file of its own.
    pub max_shard_bytes: u64,
    /// Content of `__metadata__`; transformers requires `format`.
    pub metadata: BTreeMap<String, String>,
}

impl Default for PlanOptions {
    /// The options of transformers: shards of at most 5 GB, `{"format": "pt"}`.
    fn default() -> Self {
        PlanOptions {
            base_name: "model".to_owned(),
            max_shard_bytes: 5_000_000_000,
            metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
        }
    }
}

/// The files to write, without the tensors' bytes; [`CheckpointPlan::write`] adds these.
#[derive(Debug)]
pub struct CheckpointPlan {
    pub(super) base_name: String,
    pub(super) files: Vec<FilePlan>,
    pub(super) index: Option<IndexPlan>,
}

#[derive(Debug)]
pub(super) struct FilePlan {
    pub name: String,
    /// Length prefix and header.
    pub head: Vec<u8>,
    /// Tensors in the order of their bytes.
    pub tensors: Vec<TensorSpec>,
}

#[derive(Debug)]
pub(super) struct IndexPlan {
    pub name: String,
    pub text: Vec<u8>,
}

impl CheckpointPlan {
    /// A new layout. The order of `tensors` decides how they are distributed over shards: give the model's own order.
    ///
    /// # Errors
    /// A name that occurs twice, a size that overflows.
    pub fn new(tensors: Vec<TensorSpec>, options: &PlanOptions) -> Result<Self, ModelError> {
        let base_name = options.base_name.clone();
        let single = format!("{base_name}.safetensors");
        let mut total = Total::default();
        let mut seen = BTreeSet::new();
        for spec in &tensors {
            if !seen.insert(&spec.name) {
                return Err(ModelError::tensor(Path::new(&single), &spec.name, "each name once", "it twice"));
            }
            total.add(&single, spec)?;
        }
        let mut shards = split(tensors, options.max_shard_bytes);
        if shards.len() <= 1 {
            let tensors = shards.pop().unwrap_or_default();
            let file = FilePlan::new(single, tensors, &options.metadata);
            return Ok(CheckpointPlan { base_name, files: vec![file], index: None });
        }
        let count = shards.len();
        let files: Vec<FilePlan> = (1..)
            .zip(shards)
            .map(|(i, tensors)| {
                FilePlan::new(format!("{base_name}-{i:05}-of-{count:05}.safetensors"), tensors, &options.metadata)
            })
            .collect();
        let index = IndexPlan { name: format!("{single}.index.json"), text: index_text(&files, &total) };
        Ok(CheckpointPlan { base_name, files, index: Some(index) })
    }

    /// The layout of `source`, byte for byte, if `source` is safetensors and `tensors` has the same names, dtypes and
    /// shapes in any order; else a new layout.
    pub fn like(source: &Checkpoint, tensors: Vec<TensorSpec>, options: &PlanOptions) -> Result<Self, ModelError> {
        let same = |spec: &TensorSpec| {
            source.find(&spec.name).is_some_and(|view| view.dtype == spec.dtype && view.shape == spec.shape)
        };
        let names: BTreeSet<&str> = tensors.iter().map(|spec| spec.name.as_str()).collect();
        if names.len() != tensors.len() || names.len() != source.len() || !tensors.iter().all(same) {
            return CheckpointPlan::new(tensors, options);
        }
        let base_name = options.base_name.clone();
        let single = format!("{base_name}.safetensors");
        let mut files = Vec::with_capacity(source.files().len());
        for file in source.files() {
            match file {
                WeightsFile::Safetensors(file) => files.push(file),
                WeightsFile::Pickle(_) => return CheckpointPlan::new(tensors, options),
            }
        }
        let name = |file: &SafetensorsFile| file.path().file_name().unwrap_or_default().to_string_lossy().into();
        Ok(match source.storage() {
            Storage::Single(_) => {
                let files = files.into_iter().map(|file| FilePlan::like(single.clone(), file)).collect();
                CheckpointPlan { base_name, files, index: None }
            }
            Storage::Sharded { index, .. } => {
                let files = files.into_iter().map(|file| FilePlan::like(name(file), file)).collect();
                let index = IndexPlan { name: format!("{single}.index.json"), text: index.clone() };
                CheckpointPlan { base_name, files, index: Some(index) }
            }
        })
    }

    /// The tensors in the order in which the writer asks for their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        self.files.iter().flat_map(|file| &file.tensors)
    }

    /// The names of the files, including the index.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        let index = self.index.iter().map(|index| index.name.as_str());
        self.files.iter().map(|file| file.name.as_str()).chain(index)
    }
}

impl FilePlan {
    fn new(name: String, mut tensors: Vec<TensorSpec>, metadata: &BTreeMap<String, String>) -> Self {
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let head = head(&tensors, metadata);
        FilePlan { name, head, tensors }
    }

    fn like(name: String, file: &SafetensorsFile) -> Self {
        let spec =
            |view: TensorView| TensorSpec { name: view.name.to_owned(), dtype: view.dtype, shape: view.shape.to_vec() };
        FilePlan { name, head: file.head().to_vec(), tensors: file.tensors().map(spec).collect() }
    }
}

#[derive(Default)]
struct Total {
    elements: u64,
    bytes: u64,
}

impl Total {
    fn add(&mut self, file: &str, spec: &TensorSpec) -> Result<(), ModelError> {
        let bytes = spec.dtype.bytes(&spec.shape).map(|bytes| bytes as u64);
        let total = bytes.and_then(|bytes| self.bytes.checked_add(bytes));
        let (Some(bytes), Some(total)) = (bytes, total) else {
            let found = format!("{:?}", spec.shape);
            return Err(ModelError::tensor(Path::new(file), &spec.name, "a size that can be counted", found));
        };
        self.bytes = total;
        self.elements += bytes / spec.dtype.size() as u64;
        Ok(())
    }
}

/// Fills shards in order. A tensor larger than the limit gets a shard of its own, placed before the one being filled.
fn split(tensors: Vec<TensorSpec>, limit: u64) -> Vec<Vec<TensorSpec>> {
    let mut shards = Vec::new();
    let (mut current, mut filled) = (Vec::new(), 0);
    for spec in tensors {
        let bytes = size(&spec);
        if bytes > limit {
            shards.push(vec![spec]);
            continue;
        }
        if filled + bytes > limit {
            shards.push(std::mem::take(&mut current));
            filled = 0;
        }
        current.push(spec);
        filled += bytes;
    }
    if !current.is_empty() {
        shards.push(current);
    }
    shards
}

fn head(tensors: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut text = String::from("{");
    if !metadata.is_empty() {
        text.push_str(&format!("\"__metadata__\":{},", json!(metadata)));
    }
    let mut start = 0;
    for spec in tensors {
        let end = start + size(spec);
        let (name, dtype, shape) = (json!(spec.name), spec.dtype, json!(spec.shape));
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}},");
        start = end;
    }
    if text.ends_with(',') {
        text.pop();
    }
    text.push('}');
    let mut head = text.into_bytes();
    head.resize(head.len().next_multiple_of(8), b' ');
    head.splice(0..0, (head.len() as u64).to_le_bytes());
    head
}

fn index_text(files: &[FilePlan], total: &Total) -> Vec<u8> {
    let weight_map: BTreeMap<&str, &str> = files
        .iter()
        .flat_map(|file| file.tensors.iter().map(|spec| (spec.name.as_str(), file.name.as_str())))
        .collect();
    let index: Value = json!({
        "metadata": { "total_parameters": total.elements, "total_size": total.bytes },
        "weight_map": weight_map,
    });
    format!("{index:#}\n").into_bytes()
}

/// Size of a tensor in bytes. [`CheckpointPlan::new`] has checked that it does not overflow.
fn size(spec: &TensorSpec) -> u64 {
    spec.dtype.bytes(&spec.shape).map_or(0, |bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
    }

    /// The example in huggingface_hub's documentation: 6, 6, 2, 6, 2, 2 with a limit of 10 gives [6], [6, 2], [6, 2,
    /// 2].
    #[test]
    fn shards_fill_in_order() {
        let tensors = [6, 6, 2, 6, 2, 2].map(|bytes| spec("t", Dtype::U8, &[bytes]));
        let sizes: Vec<Vec<u64>> =
            split(tensors.to_vec(), 10).iter().map(|shard| shard.iter().map(size).collect()).collect();
        assert_eq!(sizes, [vec![6], vec![6, 2], vec![6, 2, 2]]);
        assert_eq!(split([4, 20, 4].map(|n| spec("t", Dtype::U8, &[n])).to_vec(), 10).len(), 2);
    }

    #[test]
    fn heads_equal_those_of_the_reference_writer() {
        let specs = [
            spec("layers.10.bias", Dtype::BF16, &[3]),
            spec("layers.2.bias", Dtype::BF16, &[3]),
            spec("ids", Dtype::I64, &[2, 1]),
            spec("quote\"and\\é", Dtype::U8, &[]),
            spec("none", Dtype::F32, &[0, 7]),
        ];
        let data = [0; 16];
        let views = specs.iter().map(|spec| {
            let dtype: ::safetensors::Dtype = serde_json::from_value(json!(spec.dtype.name())).unwrap();
            let bytes = &data[..size(spec) as usize];
            (spec.name.clone(), ::safetensors::tensor::TensorView::new(dtype, spec.shape.clone(), bytes).unwrap())
        });
        let metadata = PlanOptions::default().metadata;
        let reference = ::safetensors::serialize(views, Some(metadata.into_iter().collect())).unwrap();
        let plan = CheckpointPlan::new(specs.to_vec(), &PlanOptions::default()).unwrap();
        let head = &plan.files[0].head;
        assert_eq!(String::from_utf8_lossy(head), String::from_utf8_lossy(&reference[..head.len()]));
        assert_eq!(plan.tensors().map(size).sum::<u64>() as usize + head.len(), reference.len());
    }

    #[test]
    fn impossible_plans_are_errors() {
        let twice = vec![spec("w", Dtype::F32, &[1]), spec("w", Dtype::F32, &[1])];
        assert!(CheckpointPlan::new(twice, &PlanOptions::default()).unwrap_err().to_string().contains("`w`"));
        let huge = vec![spec("w", Dtype::F32, &[usize::MAX])];
        assert!(CheckpointPlan::new(huge, &PlanOptions::default()).unwrap_err().to_string().contains("counted"));
    }

    #[test]
    fn nothing_to_write_is_one_empty_file() {
        let plan = CheckpointPlan::new(Vec::new(), &PlanOptions::default()).unwrap();
        assert_eq!(plan.file_names().collect::<Vec<_>>(), ["model.safetensors"]);
        assert_eq!(&plan.files[0].head[8..], br#"{"__metadata__":{"format":"pt"}}"#);
    }
}
