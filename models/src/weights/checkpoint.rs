//! The weights of a model folder: a [`Checkpoint`] is one file or shards with an index, in safetensors or PyTorch's
//! format.
//!
//! Opening maps the files and checks their headers against each other and against the index; no tensor is read. Where a
//! folder holds weights in several forms, the order of transformers decides: safetensors before pickles, one file
//! before shards. Not here: names, and what a family expects.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{file::WeightsFile, index, view::TensorView};
use crate::error::ModelError;
use crate::pipeline::{WEIGHTS, trained_folder};
use crate::what_is_here::{Found, Wanted};
use crate::wording::nearest;

/// File names in the order of preference.
const LOOKED_FOR: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Opened weights: every tensor of one model, by its name in the files.
pub struct Checkpoint {
    path: PathBuf,
    storage: Storage,
}

/// How the tensors are spread over files.
pub(super) enum Storage {
    Single(WeightsFile),
    Sharded {
        /// The text of the index as it stands on disk.
        index: Vec<u8>,
        /// Sorted by file name.
        shards: Vec<WeightsFile>,
        /// Sorted by tensor name.
        by_name: Vec<Place>,
    },
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    shard: u32,
    tensor: u32,
}

impl Checkpoint {
    /// Opens a model folder, a file (see [`WeightsFile::open`]) or an index file.
    ///
    /// # Errors
    /// No weights in the folder; a file that is damaged or holds more than tensors; a missing shard; a tensor that is
    /// listed and absent, present and unlisted, or present twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let kind = fs::metadata(&path).map_err(ModelError::io("open", &path))?;
        let mut file = path.clone();
        if kind.is_dir() {
            file = trained_folder(&path);
            // A dangling link is a file that cannot be opened, not a missing one.
            let Some(name) =
                LOOKED_FOR.into_iter().chain(WEIGHTS).find(|name| file.join(name).symlink_metadata().is_ok())
            else {
                let found = Found::at(&path);
                let told = !matches!(found, Found::Model | Found::Foreign(_) | Found::Other(_));
                if let Some(error) = Found::error(&path, Wanted::Model).filter(|_| told) {
                    return Err(error);
                }
                let present = file_names(&path)?;
                return Err(ModelError::NoWeights { path, looked_for: LOOKED_FOR.to_vec(), present });
            };
            file.push(name);
        }
        let storage = if file.extension().is_some_and(|extension| extension == "json") {
            open_shards(&file)?
        } else {
            Storage::Single(WeightsFile::open(&file)?)
        };
        Ok(Checkpoint { path, storage })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files with tensors, sorted by name.
    pub fn files(&self) -> &[WeightsFile] {
        match &self.storage {
            Storage::Single(file) => std::slice::from_ref(file),
            Storage::Sharded { shards, .. } => shards,
        }
    }

    /// All tensors in the order of files and of [`WeightsFile::names`].
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.files().iter().flat_map(WeightsFile::tensors)
    }

    /// All names in the order of [`Checkpoint::tensors`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files().iter().flat_map(WeightsFile::names)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.files().iter().map(WeightsFile::len).sum()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor of that name, if there is one; its bytes are not read.
    pub fn find(&self, name: &str) -> Option<TensorView<'_>> {
        match &self.storage {
            Storage::Single(file) => file.position(name).map(|position| file.at(position)),
            Storage::Sharded { shards, by_name, .. } => {
                let found = by_name.binary_search_by(|place| place.view(shards).name.cmp(name));
                found.ok().map(|rank| by_name[rank].view(shards))
            }
        }
    }

    /// As [`Checkpoint::find`]; for a missing tensor an error with the nearest name.
    pub fn get(&self, name: &str) -> Result<TensorView<'_>, ModelError> {
        self.find(name).ok_or_else(|| ModelError::NoSuchTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    /// Releases the memory in which `view`, a tensor of this checkpoint, was read: its pages are read from the file
    /// again when they are accessed again.
    pub fn release(&self, view: &TensorView<'_>) {
        match self.files().iter().find(|file| file.path() == view.file) {
            Some(WeightsFile::Safetensors(file)) => file.release(view),
            Some(WeightsFile::Pickle(file)) => file.release(view),
            None => {}
        }
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl Place {
    fn view(self, shards: &[WeightsFile]) -> TensorView<'_> {
        shards[self.shard as usize].at(self.tensor)
    }
}

fn open_shards(path: &Path) -> Result<Storage, ModelError> {
    // No model has more files; more would use up the address space or the file handles.
    const MOST_SHARDS: usize = 10_000;
    let index = index::read(path)?;
    let mut names = BTreeSet::new();
    index::each_entry(path, &index, |_, shard| {
        if !names.contains(shard) {
            index::check_shard_name(path, shard)?;
            names.insert(shard.to_owned());
        }
        if names.len() > MOST_SHARDS {
            return Err(ModelError::malformed(path, format!("at most {MOST_SHARDS} shards"), "more"));
        }
        Ok(())
    })?;
    let mut shards = Vec::with_capacity(names.len());
    for name in &names {
        let shard = path.with_file_name(name);
        if !shard.exists() {
            return Err(ModelError::malformed(path, format!("the shard `{name}` beside it"), "no such file"));
        }
        shards.push(WeightsFile::open(shard)?);
    }
    let names: Vec<String> = names.into_iter().collect();
    let by_name = sort_by_name(&shards)?;
    check_index(path, &index, &names, &shards, &by_name)?;
    Ok(Storage::Sharded { index, shards, by_name })
}

fn sort_by_name(shards: &[WeightsFile]) -> Result<Vec<Place>, ModelError> {
    let mut places = Vec::with_capacity(shards.iter().map(WeightsFile::len).sum());
    for (shard, file) in (0..).zip(shards) {
        places.extend((0..file.len() as u32).map(|tensor| Place { shard, tensor }));
    }
    places.sort_unstable_by(|a, b| a.view(shards).name.cmp(b.view(shards).name));
    for pair in places.windows(2) {
        let (one, other) = (pair[0].view(shards), pair[1].view(shards));
        if one.name == other.name {
            let found = format!("it also in {}", other.file.display());
            return Err(ModelError::tensor(one.file, one.name, "each tensor in one shard", found));
        }
    }
    Ok(places)
}

/// Error: a tensor that the index lists in another shard, twice or not at all, or that it lists and no shard holds.
fn check_index(
    path: &Path,
    index: &[u8],
    names: &[String],
    shards: &[WeightsFile],
    by_name: &[Place],
) -> Result<(), ModelError> {
    let mut listed = vec![false; by_name.len()];
    index::each_entry(path, index, |tensor, shard| {
        let found = match by_name.binary_search_by(|place| place.view(shards).name.cmp(tensor)) {
            Err(_) => "no such tensor".to_owned(),
            Ok(rank) if names[by_name[rank].shard as usize] != shard => {
                format!("it in `{}`", names[by_name[rank].shard as usize])
            }
            Ok(rank) if std::mem::replace(&mut listed[rank], true) => "it listed twice".to_owned(),
            Ok(_) => return Ok(()),
        };
        Err(ModelError::tensor(path, tensor, format!("it once, in the shard `{shard}`"), found))
    })?;
    match listed.iter().position(|listed| !listed) {
        None => Ok(()),
        Some(rank) => {
            let tensor = by_name[rank].view(shards);
            let expected = format!("an entry in {}", path.display());
            Err(ModelError::tensor(tensor.file, tensor.name, expected, "none"))
        }
    }
}

/// File names of a folder, sorted, for messages.
fn file_names(folder: &Path) -> Result<Vec<String>, ModelError> {
    const ENOUGH: usize = 1_000;
    let entries = fs::read_dir(folder).map_err(ModelError::io("list", folder))?;
    let mut names: Vec<String> =
        entries.flatten().take(ENOUGH).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: &str = LOOKED_FOR[0];
    const INDEX: &str = LOOKED_FOR[1];
    const SHARDED: [(&str, &[u8]); 3] = [
        ("model-00001-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00001-of-00002.safetensors")),
        ("model-00002-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00002-of-00002.safetensors")),
        (INDEX, include_bytes!("fixtures/sharded/model.safetensors.index.json")),
    ];

    const PICKLED: [(&str, &[u8]); 3] = [
        ("pytorch_model-00001-of-00002.bin", include_bytes!("fixtures/pickles/pytorch_model-00001-of-00002.bin")),
        ("pytorch_model-00002-of-00002.bin", include_bytes!("fixtures/pickles/pytorch_model-00002-of-00002.bin")),
        (LOOKED_FOR[3], include_bytes!("fixtures/pickles/pytorch_model.bin.index.json")),
    ];

    fn sharded() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in SHARDED {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn edit_index(folder: &Path, from: &str, to: &str) {
        let text = fs::read_to_string(folder.join(INDEX)).unwrap();
        assert!(text.contains(from));
        fs::write(folder.join(INDEX), text.replacen(from, to, 1)).unwrap();
    }

    fn error(folder: &Path) -> String {
        Checkpoint::open(folder).err().expect("an error").to_string()
    }

    const EMBED: &str = r#""model.embed_tokens.weight": "model-00001-of-00002.safetensors""#;

    #[test]
    fn shards_written_by_transformers_read_as_one() {
        let folder = sharded();
        for path in [folder.path().to_owned(), folder.path().join(INDEX)] {
            let checkpoint = Checkpoint::open(path).unwrap();
            assert_eq!(checkpoint.files().len(), 2);
            assert_eq!((checkpoint.len(), checkpoint.names().count()), (12, 12));
            assert_eq!(checkpoint.get("model.embed_tokens.weight").unwrap().shape, [16, 8]);
            for name in checkpoint.names() {
                assert_eq!(checkpoint.get(name).unwrap().name, name);
            }
            assert!(checkpoint.find("model.embed").is_none());
        }
    }

    #[test]
    fn a_missing_shard_is_named() {
        let folder = sharded();
        fs::remove_file(folder.path().join(SHARDED[1].0)).unwrap();
        assert!(error(folder.path()).contains("expected the shard `model-00002-of-00002.safetensors` beside it"));
    }

    #[test]
    fn a_tensor_listed_and_absent_is_named() {
        let folder = sharded();
        edit_index(folder.path(), EMBED, &format!("{EMBED}, \"ghost\": \"model-00001-of-00002.safetensors\""));
        assert!(error(folder.path()).contains("tensor `ghost`") && error(folder.path()).contains("no such tensor"));
    }

    #[test]
    fn a_tensor_present_and_unlisted_is_named() {
        let folder = sharded();
        edit_index(folder.path(), &format!("{EMBED},"), "");
        let message = error(folder.path());
        assert!(message.contains("`model.embed_tokens.weight`: expected an entry in"), "{message}");
    }

    #[test]
    fn a_tensor_listed_twice_or_in_the_wrong_shard_is_named() {
        let folder = sharded();
        edit_index(folder.path(), EMBED, &format!("{EMBED}, {EMBED}"));
        assert!(error(folder.path()).contains("it listed twice"));
        let folder = sharded();
        edit_index(folder.path(), EMBED, &EMBED.replace("00001-of", "00002-of"));
        assert!(error(folder.path()).contains("found it in `model-00001-of-00002.safetensors`"));
    }

    #[test]
    fn a_tensor_in_two_shards_is_named() {
        let folder = sharded();
        fs::copy(folder.path().join(SHARDED[0].0), folder.path().join(SHARDED[1].0)).unwrap();
        assert!(error(folder.path()).contains("each tensor in one shard"));
    }

    #[test]
    fn an_index_cannot_reach_out_of_its_folder() {
        let folder = sharded();
        edit_index(folder.path(), EMBED, &EMBED.replace("model-0", "../model-0"));
        let message = error(folder.path());
        assert!(message.contains("`../model-00001-of-00002.safetensors`"), "{message}");
    }

    #[test]
    fn a_folder_without_weights_says_what_was_looked_for_and_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tf_model.h5"), "").unwrap();
        let message = error(folder.path());
        for says in LOOKED_FOR.into_iter().chain(["the folder holds tf_model.h5"]) {
            assert!(message.contains(says), "{message}");
        }
        assert!(error(&folder.path().join("none")).contains("cannot open"));
    }

    #[test]
    fn the_order_of_formats_is_that_of_transformers() {
        let folder = tempfile::tempdir().unwrap();
        let first = |name: &str| Checkpoint::open(folder.path()).unwrap().files()[0].path().ends_with(name);
        for (name, bytes) in PICKLED {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert!(first(PICKLED[0].0));
        fs::write(folder.path().join(LOOKED_FOR[2]), include_bytes!("fixtures/pickles/mixed.bin")).unwrap();
        assert!(first(LOOKED_FOR[2]));
        for (name, bytes) in SHARDED {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert!(first(SHARDED[0].0));
        fs::write(folder.path().join(SINGLE), include_bytes!("fixtures/mixed.safetensors")).unwrap();
        assert!(first(SINGLE));
    }

    #[test]
    fn shards_of_pytorch_equal_those_of_safetensors() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in PICKLED {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let (pickled, safetensors) = (Checkpoint::open(folder.path()).unwrap(), sharded());
        let safetensors = Checkpoint::open(safetensors.path()).unwrap();
        assert_eq!((pickled.files().len(), pickled.len()), (2, safetensors.len()));
        for expected in safetensors.tensors() {
            let view = pickled.get(expected.name).unwrap();
            assert_eq!((view.dtype, view.shape, view.bytes()), (expected.dtype, expected.shape, expected.bytes()));
        }
        fs::copy(folder.path().join(PICKLED[0].0), folder.path().join(PICKLED[1].0)).unwrap();
        assert!(error(folder.path()).contains("each tensor in one shard"));
        fs::remove_file(folder.path().join(PICKLED[1].0)).unwrap();
        assert!(error(folder.path()).contains("expected the shard `pytorch_model-00002-of-00002.bin` beside it"));
    }
}
