//! `data --tensors`: writes what a model is given for each row, so that it can be compared with another program's.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use firebrand_datasets::{Array, ArrayValues, Dataset, Example, ExampleContent, NamedArrays};
use firebrand_files::{Durability, write_folder};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::error::Error;

/// Writes the first `rows` rows of `dataset` into the folder: a safetensors file each, and `rows.jsonl`, which names them
/// as rows of format `tensors`, with the place of each row.
///
/// # Errors
/// A folder that holds something; a row that cannot be read again as it was prepared; a file that cannot be written.
pub fn write(dataset: &Dataset, rows: usize, folder: &Path) -> Result<usize, Error> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Request {
            problem: format!("{}: the folder holds something already", folder.display()),
            help: "name a new one, or remove what is in it".into(),
        });
    }
    write_folder(
        folder,
        Durability::Cached,
        |source| Error::io(folder)(source),
        |folder| {
            let mut list = String::new();
            let mut written = 0;
            for number in dataset.rows().take(rows).flatten() {
                let example = dataset.example(number)?;
                let name = format!("{written:06}.safetensors");
                let path = folder.join(&name);
                fs::write(&path, serialised(&arrays(dataset, &example)?)?).map_err(Error::io(&path))?;
                list += &format!("{}\n", json!({ "tensors": name, "source": example.source }));
                written += 1;
            }
            let path = folder.join("rows.jsonl");
            let mut file = fs::File::create(&path).map_err(Error::io(&path))?;
            file.write_all(list.as_bytes()).map_err(Error::io(&path))?;
            Ok(written)
        },
    )
}

/// The arguments of the reference's `forward` for an example, without the batch dimension.
fn arrays(dataset: &Dataset, example: &Example) -> Result<NamedArrays, Error> {
    let ExampleContent::Tokens(tokens) = &example.content else { return Ok(dataset.arrays(example)?) };
    let whole = |values: Vec<i64>| Array { shape: vec![values.len()], values: ArrayValues::I64(values) };
    let ids = tokens.input_ids.iter().map(|id| i64::from(*id)).collect();
    Ok(NamedArrays::from([
        ("input_ids".into(), whole(ids)),
        ("attention_mask".into(), whole(vec![1; tokens.input_ids.len()])),
        ("labels".into(), whole(tokens.labels.clone())),
    ]))
}

fn serialised(arrays: &NamedArrays) -> Result<Vec<u8>, Error> {
    let bytes: BTreeMap<&str, (Dtype, &[usize], Vec<u8>)> = arrays
        .iter()
        .map(|(name, Array { shape, values })| {
            let (dtype, bytes) = match values {
                ArrayValues::F32(values) => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
                ArrayValues::I64(values) => (Dtype::I64, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            };
            (name.as_str(), (dtype, shape.as_slice(), bytes))
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, (dtype, shape, bytes))| TensorView::new(*dtype, shape.to_vec(), bytes).map(|view| (*name, view)));
    let wrong = |problem: safetensors::SafeTensorError| Error::Request {
        problem: format!("the arrays of a row cannot be written: {problem}"),
        help: "its shapes and values do not agree".into(),
    };
    let views = views.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    safetensors::serialize(views, None).map_err(wrong)
}
