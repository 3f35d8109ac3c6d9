//! Copies the folder of a diffusion pipeline without what a run trained: [`copy_pipeline`].

use std::fs;
use std::path::Path;

use firebrand_models::pipeline::trained_folder;

use crate::error::Error;

/// Folders within folders that are followed; published pipelines have one.
const DEEPEST: usize = 4;
/// Endings of files of weights.
const WEIGHTS: [&str; 9] = ["safetensors", "bin", "ckpt", "pt", "pth", "msgpack", "onnx", "h5", "pb"];

/// Copies every file of the pipeline in `base`, except the weights of its trained network, and weights that belong to no
/// component: the same model in one file, as other programs read it.
///
/// # Errors
/// Those of reading and writing, with the path.
pub(super) fn copy_pipeline(base: &Path, folder: &Path) -> Result<(), Error> {
    let trained = trained_folder(base);
    copy_into(
        base,
        folder,
        &|path| {
            let of = path.parent().unwrap_or(path);
            !is_weights(path) || of != base && of != trained
        },
        DEEPEST,
    )
}

/// Copies a folder, without files that `keep` refuses.
fn copy_into(from: &Path, to: &Path, keep: &dyn Fn(&Path) -> bool, deeper: usize) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io(to))?;
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let path = entry.map_err(Error::io(from))?.path();
        let name = path.file_name().unwrap_or_default();
        let is_hidden = name.to_string_lossy().starts_with('.');
        let target = to.join(name);
        match path.is_dir() {
            true if is_hidden || deeper == 0 => {}
            true => copy_into(&path, &target, keep, deeper - 1)?,
            false if keep(&path) => fs::copy(&path, &target).map(|_| ()).map_err(Error::io(&path))?,
            false => {}
        }
    }
    Ok(())
}

/// Whether a file holds weights, or lists the files that do.
fn is_weights(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_index = name.contains(".index.") && name.ends_with(".json");
    of_index || path.extension().is_some_and(|ending| WEIGHTS.iter().any(|known| ending == *known))
}
