//! Writing a checkpoint: [`CheckpointPlan::write`] holds one tensor in memory at a time and never leaves a partial file
//! under a final name.
//!
//! All files are first written beside their targets under temporary names and synced; then they are renamed, the index
//! last. An error before that leaves the folder as it was. Files of other weights are not deleted: a folder that holds
//! some is refused, because a reader could take them for the new ones.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::plan::{CheckpointPlan, FilePlan, TensorSpec};
use crate::error::ModelError;

/// The files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Paths in the order of the plan, the index last.
    pub files: Vec<PathBuf>,
    /// Sum of their sizes.
    pub bytes: u64,
}

impl CheckpointPlan {
    /// Writes the files into `folder`, which is created if it does not exist. Files of the same names are replaced.
    ///
    /// `bytes_of` is called once for each tensor, in the order of [`CheckpointPlan::tensors`], and returns its
    /// little-endian bytes.
    ///
    /// # Errors
    /// Errors of `bytes_of`; bytes of the wrong length; other weights in the folder; errors of the operating system,
    /// with the path.
    pub fn write<'a>(
        &self,
        folder: &Path,
        mut bytes_of: impl FnMut(&TensorSpec) -> Result<Cow<'a, [u8]>, ModelError>,
    ) -> Result<Written, ModelError> {
        fs::create_dir_all(folder).map_err(ModelError::io("create", folder))?;
        self.refuse_other_weights(folder)?;
        let mut finished = Vec::with_capacity(self.files.len() + 1);
        let mut bytes = 0;
        for plan in &self.files {
            let path = folder.join(&plan.name);
            let mut file = temporary(folder, &plan.name)?;
            bytes += fill(file.as_file_mut(), &path, plan, &mut bytes_of)?;
            file.as_file().sync_all().map_err(ModelError::io("write", &path))?;
            finished.push((file, path));
        }
        if let Some(index) = &self.index {
            let path = folder.join(&index.name);
            let mut file = temporary(folder, &index.name)?;
            file.write_all(&index.text).map_err(ModelError::io("write", &path))?;
            file.as_file().sync_all().map_err(ModelError::io("write", &path))?;
            bytes += index.text.len() as u64;
            finished.push((file, path));
        }
        let mut files = Vec::with_capacity(finished.len());
        for (file, path) in finished {
            file.persist(&path).map_err(|error| ModelError::io("rename", &path)(error.error))?;
            files.push(path);
        }
        sync_folder(folder)?;
        Ok(Written { files, bytes })
    }

    fn refuse_other_weights(&self, folder: &Path) -> Result<(), ModelError> {
        let mut present = Vec::new();
        for entry in fs::read_dir(folder).map_err(ModelError::io("list", folder))? {
            let name = entry.map_err(ModelError::io("list", folder))?.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix(&self.base_name).unwrap_or_default();
            let weights = rest.ends_with(".safetensors") && (rest.starts_with('.') || rest.starts_with('-'));
            let ours = self.file_names().any(|planned| planned == name);
            if !ours && (weights || rest == ".safetensors.index.json") {
                present.push(name);
            }
        }
        if present.is_empty() {
            return Ok(());
        }
        present.sort();
        Err(ModelError::OtherWeights { path: folder.to_owned(), present })
    }
}

/// Writes header and tensors of one file and returns its size.
fn fill<'a>(
    file: &mut impl Write,
    path: &Path,
    plan: &FilePlan,
    bytes_of: &mut impl FnMut(&TensorSpec) -> Result<Cow<'a, [u8]>, ModelError>,
) -> Result<u64, ModelError> {
    file.write_all(&plan.head).map_err(ModelError::io("write", path))?;
    let mut size = plan.head.len();
    for spec in &plan.tensors {
        let bytes = bytes_of(spec)?;
        if spec.dtype.bytes(&spec.shape) != Some(bytes.len()) {
            let expected = format!("the bytes of {} {:?}", spec.dtype, spec.shape);
            return Err(ModelError::tensor(path, &spec.name, expected, format!("{} bytes", bytes.len())));
        }
        file.write_all(&bytes).map_err(ModelError::io("write", path))?;
        size += bytes.len();
    }
    Ok(size as u64)
}

fn temporary(folder: &Path, name: &str) -> Result<NamedTempFile, ModelError> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{name}.");
    builder.prefix(&prefix).suffix(".tmp");
    // Temporary files are private by default; weights get the permissions of other new files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).map_err(ModelError::io("create", folder.join(name)))
}

/// Syncs the folder, so that renames survive a crash, on systems that can sync folders.
fn sync_folder(folder: &Path) -> Result<(), ModelError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(ModelError::io("sync", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::weights::{Checkpoint, Dtype, PlanOptions};

    const MIXED: &[u8] = include_bytes!("fixtures/mixed.safetensors");
    const SHARDED: [(&str, &[u8]); 3] = [
        ("model-00001-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00001-of-00002.safetensors")),
        ("model-00002-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00002-of-00002.safetensors")),
        ("model.safetensors.index.json", include_bytes!("fixtures/sharded/model.safetensors.index.json")),
    ];

    fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn specs(checkpoint: &Checkpoint) -> Vec<TensorSpec> {
        let spec = |view: crate::weights::TensorView| TensorSpec {
            name: view.name.to_owned(),
            dtype: view.dtype,
            shape: view.shape.to_vec(),
        };
        checkpoint.tensors().map(spec).collect()
    }

    fn write(plan: &CheckpointPlan, checkpoint: &Checkpoint, folder: &Path) -> Result<Written, ModelError> {
        plan.write(folder, |spec| checkpoint.get(&spec.name).map(|view| view.bytes()))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn assert_same(folder: &Path, files: &[(&str, &[u8])]) {
        let mut expected: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        expected.sort();
        assert_eq!(names(folder), expected);
        for (name, bytes) in files {
            let written = fs::read(folder.join(name)).unwrap();
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(bytes), "{name}");
            assert_eq!(written, *bytes, "{name}");
        }
    }

    #[test]
    fn a_new_layout_equals_the_reference_writers_byte_for_byte() {
        let source = folder_of(&[("model.safetensors", MIXED)]);
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let mut any_order = specs(&checkpoint);
        any_order.reverse();
        let plan = CheckpointPlan::new(any_order, &PlanOptions::default()).unwrap();
        let target = tempfile::tempdir().unwrap();
        let written = write(&plan, &checkpoint, target.path()).unwrap();
        assert_eq!(written.bytes as usize, MIXED.len());
        assert_same(target.path(), &[("model.safetensors", MIXED)]);
    }

    /// The order of `state_dict()`, which decides which tensors share a shard.
    const MODULE_ORDER: [&str; 12] = [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
    ];

    #[test]
    fn shards_and_index_equal_those_of_transformers() {
        let source = folder_of(&SHARDED);
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let mut specs = specs(&checkpoint);
        specs.sort_by_key(|spec| MODULE_ORDER.iter().position(|name| *name == spec.name));
        let options = PlanOptions { max_shard_bytes: 1000, ..PlanOptions::default() };
        let plan = CheckpointPlan::new(specs, &options).unwrap();
        let target = tempfile::tempdir().unwrap();
        write(&plan, &checkpoint, target.path()).unwrap();
        assert_same(target.path(), &SHARDED);
    }

    #[test]
    fn saving_what_was_loaded_gives_the_same_files_whoever_wrote_them() {
        let header = br#"{"b": {"shape": [2], "dtype": "U8", "data_offsets": [0, 2]}, "a":{"dtype":"F32","data_offsets":[2,6],"shape":[]}} "#;
        let foreign = [&(header.len() as u64).to_le_bytes()[..], header, b"123456"].concat();
        for files in [&SHARDED[..], &[("model.safetensors", MIXED)], &[("model.safetensors", &foreign)]] {
            let source = folder_of(files);
            let checkpoint = Checkpoint::open(source.path()).unwrap();
            let plan = CheckpointPlan::like(&checkpoint, specs(&checkpoint), &PlanOptions::default()).unwrap();
            let target = tempfile::tempdir().unwrap();
            write(&plan, &checkpoint, target.path()).unwrap();
            assert_same(target.path(), files);
            // Also onto itself, while it is mapped.
            write(&plan, &checkpoint, source.path()).unwrap();
            assert_same(source.path(), files);
        }
    }

    #[test]
    fn what_was_loaded_from_pytorch_is_saved_as_safetensors() {
        let source = folder_of(&[("pytorch_model.bin", include_bytes!("fixtures/pickles/mixed.bin"))]);
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let plan = CheckpointPlan::like(&checkpoint, specs(&checkpoint), &PlanOptions::default()).unwrap();
        let target = tempfile::tempdir().unwrap();
        write(&plan, &checkpoint, target.path()).unwrap();
        assert_same(target.path(), &[("model.safetensors", MIXED)]);
    }

    #[test]
    fn other_dtypes_get_a_new_layout() {
        let source = folder_of(&SHARDED);
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let mut specs = specs(&checkpoint);
        specs.iter_mut().for_each(|spec| spec.dtype = Dtype::F32);
        let plan = CheckpointPlan::like(&checkpoint, specs, &PlanOptions::default()).unwrap();
        let target = tempfile::tempdir().unwrap();
        plan.write(target.path(), |spec| {
            let values = checkpoint.get(&spec.name)?.to_f32()?;
            Ok(Cow::Owned(spec.dtype.encode(&values).unwrap()))
        })
        .unwrap();
        let written = Checkpoint::open(target.path()).unwrap();
        assert_eq!(written.len(), checkpoint.len());
        for view in checkpoint.tensors() {
            assert_eq!(written.get(view.name).unwrap().to_f32().unwrap(), view.to_f32().unwrap());
        }
    }

    #[test]
    fn a_failure_halfway_leaves_the_folder_as_it_was() {
        let source = folder_of(&SHARDED);
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let plan = CheckpointPlan::like(&checkpoint, specs(&checkpoint), &PlanOptions::default()).unwrap();
        let target = folder_of(&[("model-00001-of-00002.safetensors", b"before"), ("config.json", b"{}")]);
        let last = plan.tensors().last().unwrap().name.clone();
        let error = plan.write(target.path(), |spec| {
            let bytes = checkpoint.get(&spec.name)?.bytes();
            Ok(if spec.name == last { Cow::Owned(bytes[1..].to_vec()) } else { bytes })
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("`model.norm.weight`: expected the bytes of BF16 [8], found 15 bytes"), "{message}");
        assert_same(target.path(), &[("model-00001-of-00002.safetensors", b"before"), ("config.json", b"{}")]);
    }

    #[test]
    fn other_weights_in_the_folder_are_refused_by_name() {
        let plan = CheckpointPlan::new(Vec::new(), &PlanOptions::default()).unwrap();
        let target = folder_of(&[SHARDED[2], ("adapter_model.safetensors", b""), ("model.safetensors", b"")]);
        let message = plan.write(target.path(), |_| Ok(Cow::Borrowed(&[]))).unwrap_err().to_string();
        assert!(message.contains("already holds model.safetensors.index.json,"), "{message}");
    }

    #[test]
    fn a_full_disk_names_the_file() {
        struct FullDisk;
        impl Write for FullDisk {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let plan = CheckpointPlan::new(Vec::new(), &PlanOptions::default()).unwrap();
        let path = Path::new("out/model.safetensors");
        let error = fill(&mut FullDisk, path, &plan.files[0], &mut |_| Ok(Cow::Borrowed(&[]))).unwrap_err();
        assert!(error.to_string().starts_with("cannot write out/model.safetensors"), "{error}");
        assert!(error.help().unwrap().contains("free some space"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = folder_of(&[("file", b"")]);
        let plan = CheckpointPlan::new(Vec::new(), &PlanOptions::default()).unwrap();
        let target = folder.path().join("file/out");
        let message = plan.write(&target, |_| Ok(Cow::Borrowed(&[]))).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot create {}", target.display())), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn written_files_have_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder_of(&[("ordinary", b"")]);
        let plan = CheckpointPlan::new(Vec::new(), &PlanOptions::default()).unwrap();
        plan.write(folder.path(), |_| Ok(Cow::Borrowed(&[]))).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("model.safetensors"), mode("ordinary"));
    }
}
