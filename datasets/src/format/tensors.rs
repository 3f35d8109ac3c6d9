//! Format `tensors`: `{"tensors": "row.safetensors"}`. The file holds arrays for the model under the names of its
//! inputs, without a batch dimension. No tokenizer, template or random draw is involved.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::keys::required_text;
use crate::error::DataError;
use crate::record::Content;
use crate::reference::{Reach, resolve};
use crate::source::Row;
use crate::tensor_file::TensorFile;

/// Whether `tensors` is the only key, or has the `source` beside it that `firebrand data --tensors` writes: beside other keys
/// it may mean anything.
pub(super) fn fits(row: &Map<String, Value>) -> bool {
    let known =
        |(key, value): (&String, &Value)| key == "tensors" && value.is_string() || key == "source" && value.is_object();
    row.contains_key("tensors") && row.iter().all(known)
}

pub(super) fn parse(row: &Row, reach: Reach) -> Result<Content, DataError> {
    if row.object.contains_key("weight") {
        return Err(DataError::row(&row.location, "a row of tensors without `weight`", "one"));
    }
    let path: PathBuf = resolve(required_text(row, "tensors")?, &row.location, reach)?;
    Ok(Content::Tensors(TensorFile::open(path, &row.location)?))
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use serde_json::json;

    use super::*;
    use crate::location::Location;

    fn row(folder: &std::path::Path, value: Value) -> Row {
        let Value::Object(object) = value else { panic!("a row is an object") };
        Row::new(Location::new(folder.join("rows.jsonl"), 4), object, 0)
    }

    #[test]
    fn a_row_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let bytes = safetensors::serialize([("x", view)], None).unwrap();
        std::fs::write(dir.path().join("a.safetensors"), &bytes).unwrap();
        let named = |value: Value| parse(&row(dir.path(), value), Reach::Below).map_err(|error| error.to_string());
        let Content::Tensors(file) = named(json!({"tensors": "a.safetensors", "id": 3})).unwrap() else {
            panic!("tensors")
        };
        assert_eq!((file.path, file.size), (dir.path().join("a.safetensors"), bytes.len() as u64));
        for (bad, said) in [
            (json!({"tensors": "b.safetensors"}), "looked for"),
            (json!({"tensors": "../a.safetensors"}), "allow_outside"),
            (json!({"tensors": 3}), "`tensors` to be a string"),
            (json!({"text": "a"}), "`tensors` (a string)"),
            (json!({"tensors": "a.safetensors", "weight": 0.5}), "without `weight`"),
        ] {
            let error = named(bad).unwrap_err();
            assert!(error.contains("rows.jsonl:4") && error.contains(said), "{error}");
        }
    }
}
