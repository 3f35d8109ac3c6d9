//! Reports on tensors and files, whatever their purpose.

use std::collections::BTreeMap;
use std::path::Path;

use firebrand_models::weights::{Checkpoint, TensorView, quantized_part_of, quantized_weights};

use super::report::{DtypeReport, FileReport, InspectReport, Kind, TensorReport};
use crate::error::Error;
use crate::run::sha256_file;

/// Reports on a file of weights or an index of shards.
pub(super) fn inspect(path: &Path) -> Result<InspectReport, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let mut files = Vec::new();
    for file in checkpoint.files() {
        files.push(file_report(file.path())?);
    }
    if !files.iter().any(|file| path.file_name().is_some_and(|name| name == file.name.as_str())) {
        files.insert(0, file_report(path)?);
    }
    let mut report = report(path, Kind::Weights, checkpoint.tensors(), files)?;
    report.parameters = parameters(&checkpoint)?;
    Ok(report)
}

/// Number of values of all tensors, as if all were weights. Quantized weights count by their values, not their bytes.
fn parameters(checkpoint: &Checkpoint) -> Result<u64, Error> {
    let quantized = quantized_weights(checkpoint)?;
    let is_part =
        |view: &TensorView<'_>| quantized_part_of(view.name).is_some_and(|weight| quantized.contains_key(weight));
    let count = |view: TensorView<'_>| match quantized.get(view.name) {
        // A quantization state has no other source to compare it with.
        Some(header) => header.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size as u64)),
        None => view.elements() as u64,
    };
    let weights = checkpoint.tensors().filter(|view| !is_part(view));
    Ok(weights.fold(0, |sum, view| sum.saturating_add(count(view))))
}

/// A report on these tensors; each is read and checked to be finite. They are counted as if all were dense weights.
pub(super) fn report<'a>(
    path: &Path,
    kind: Kind,
    views: impl Iterator<Item = TensorView<'a>>,
    files: Vec<FileReport>,
) -> Result<InspectReport, Error> {
    let mut dtypes: BTreeMap<&'static str, DtypeReport> = BTreeMap::new();
    let mut tensors = Vec::new();
    for view in views {
        view.check_finite()?;
        let dtype = dtypes.entry(view.dtype.name()).or_default();
        dtype.tensors += 1;
        dtype.elements += view.elements() as u64;
        dtype.bytes += view.byte_count() as u64;
        tensors.push(TensorReport {
            name: view.name.to_string(),
            shape: view.shape.to_vec(),
            dtype: view.dtype.name(),
            file: file_name(view.file),
        });
    }
    let parameters = dtypes.values().map(|dtype| dtype.elements).sum();
    let path = path.to_path_buf();
    Ok(InspectReport {
        path,
        kind,
        family: None,
        adapter: None,
        checkpoint: None,
        parameters,
        dtypes,
        tensors,
        files,
        notes: vec![],
    })
}

/// The files of a folder, without those in sub-folders.
pub(super) fn folder_files(folder: &Path) -> Result<Vec<FileReport>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        // Follows links: a snapshot in the hub's cache is a folder of links.
        if path.is_file() {
            files.push(file_report(&path)?);
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn file_report(path: &Path) -> Result<FileReport, Error> {
    let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
    Ok(FileReport { name: file_name(path), bytes, sha256: sha256_file(path)? })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
