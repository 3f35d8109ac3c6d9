//! The weights of a model folder: one safetensors file, or shards with an index.
//!
//! Opening maps the files and checks their headers against each other and against the index; no tensor is read. As in
//! transformers, `model.safetensors` wins where an index stands beside it. Not here: other formats, names, and what a
//! family expects.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    index,
    safetensors::{SafetensorsFile, TensorView},
};
use crate::error::{ModelError, nearest};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Open weights: every tensor of one model, by the name it has in the files.
pub struct Checkpoint {
    path: PathBuf,
    storage: Storage,
}

/// How the tensors are stored. A further file format is a further variant.
pub(super) enum Storage {
    Single(SafetensorsFile),
    Sharded {
        /// The text of the index as it stands on disk.
        index: Vec<u8>,
        /// Sorted by file name.
        shards: Vec<SafetensorsFile>,
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
    /// Opens a model folder, a safetensors file or an index file.
    ///
    /// Errors: no weights in the folder; a file that is damaged; a shard that is missing; a tensor that is listed and
    /// absent, present and unlisted, or there twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let kind = fs::metadata(&path).map_err(ModelError::io("open", &path))?;
        let storage = if kind.is_dir() {
            let (single, index) = (path.join(SINGLE), path.join(INDEX));
            // A dangling link is a file that cannot be opened, not an absent one.
            if single.symlink_metadata().is_ok() {
                Storage::Single(SafetensorsFile::open(single)?)
            } else if index.symlink_metadata().is_ok() {
                open_shards(&index)?
            } else {
                let present = file_names(&path)?;
                return Err(ModelError::NoWeights { path, looked_for: vec![SINGLE, INDEX], present });
            }
        } else if path.extension().is_some_and(|extension| extension == "json") {
            open_shards(&path)?
        } else {
            Storage::Single(SafetensorsFile::open(&path)?)
        };
        Ok(Checkpoint { path, storage })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files with tensors, sorted by name.
    pub fn files(&self) -> &[SafetensorsFile] {
        match &self.storage {
            Storage::Single(file) => std::slice::from_ref(file),
            Storage::Sharded { shards, .. } => shards,
        }
    }

    /// All tensors in the order of files and bytes.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.files().iter().flat_map(SafetensorsFile::tensors)
    }

    /// All names in the order of files and bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files().iter().flat_map(SafetensorsFile::names)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.files().iter().map(|file| file.names().len()).sum()
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor of that name, if it is there; its bytes not yet touched.
    pub fn find(&self, name: &str) -> Option<TensorView<'_>> {
        match &self.storage {
            Storage::Single(file) => file.position(name).map(|position| file.at(position)),
            Storage::Sharded { shards, by_name, .. } => {
                let found = by_name.binary_search_by(|place| place.view(shards).name.cmp(name));
                found.ok().map(|rank| by_name[rank].view(shards))
            }
        }
    }

    /// As [`Checkpoint::find`]; an absent tensor is an error with the nearest name.
    pub fn get(&self, name: &str) -> Result<TensorView<'_>, ModelError> {
        self.find(name).ok_or_else(|| ModelError::NoSuchTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl Place {
    fn view(self, shards: &[SafetensorsFile]) -> TensorView<'_> {
        shards[self.shard as usize].at(self.tensor)
    }
}

fn open_shards(path: &Path) -> Result<Storage, ModelError> {
    // More files than this are no model, but would use up the address space or the file handles.
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
        shards.push(SafetensorsFile::open(shard)?);
    }
    let names: Vec<String> = names.into_iter().collect();
    let by_name = sort_by_name(&shards)?;
    check_index(path, &index, &names, &shards, &by_name)?;
    Ok(Storage::Sharded { index, shards, by_name })
}

fn sort_by_name(shards: &[SafetensorsFile]) -> Result<Vec<Place>, ModelError> {
    let mut places = Vec::with_capacity(shards.iter().map(|shard| shard.names().len()).sum());
    for (shard, file) in (0..).zip(shards) {
        places.extend((0..file.names().len() as u32).map(|tensor| Place { shard, tensor }));
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

/// Error: a tensor the index has in another shard, twice or not at all, or one it lists that is not there.
fn check_index(
    path: &Path,
    index: &[u8],
    names: &[String],
    shards: &[SafetensorsFile],
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

/// Sorted, for messages.
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

    const SHARDED: [(&str, &[u8]); 3] = [
        ("model-00001-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00001-of-00002.safetensors")),
        ("model-00002-of-00002.safetensors", include_bytes!("fixtures/sharded/model-00002-of-00002.safetensors")),
        (INDEX, include_bytes!("fixtures/sharded/model.safetensors.index.json")),
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
        fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        let message = error(folder.path());
        for says in [SINGLE, INDEX, "the folder holds pytorch_model.bin"] {
            assert!(message.contains(says), "{message}");
        }
        assert!(error(&folder.path().join("none")).contains("cannot open"));
    }

    #[test]
    fn the_single_file_wins_as_in_transformers() {
        let folder = sharded();
        fs::write(folder.path().join(SINGLE), include_bytes!("fixtures/mixed.safetensors")).unwrap();
        assert!(Checkpoint::open(folder.path()).unwrap().find("scalar").is_some());
    }
}
