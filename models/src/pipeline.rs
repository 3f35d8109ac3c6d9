//! Folders of several models: a pipeline of diffusers has a folder for each, and a file that lists them.

use std::path::{Path, PathBuf};

/// The file that lists what a pipeline consists of.
pub const INDEX: &str = "model_index.json";
/// The folder of the network that is trained.
const TRAINED: &str = "unet";

/// Names of files of weights in a pipeline's folders, in the order of preference: there may be files in half precision beside or
/// instead of the others.
pub(crate) const WEIGHTS: [&str; 8] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
];

/// Whether `folder` is a pipeline whose network can be trained.
pub fn is_pipeline(folder: &Path) -> bool {
    folder.join(INDEX).is_file() && folder.join(TRAINED).is_dir()
}

/// The folder of the network that is trained: that of it in a pipeline, `folder` itself otherwise.
pub fn trained_folder(folder: &Path) -> PathBuf {
    if is_pipeline(folder) { folder.join(TRAINED) } else { folder.to_path_buf() }
}
