//! Runs a teacher over the examples of a run and writes its distributions: [`write_teacher`].

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Dataset, Pack, TokenBatch};
use firebrand_models::{Network, Predictor};
use rayon::prelude::*;

use super::key::TeacherKey;
use super::likeliest::{Likeliest, likeliest};
use super::shard::Filling;
use super::teacher::{Manifest, ShardEntry};
use crate::error::Error;
use crate::objective::{LabelledTokens, inputs};
use crate::run::sha256_file;

/// Bytes after which a file is closed.
const SHARD: usize = 64 << 20;
/// Tokens of a forward pass.
const BATCH: usize = 4096;
/// Logits that exist at once.
const LOGITS: usize = 1 << 24;

/// What [`write_teacher`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Examples that were there before.
    pub found: usize,
    /// Examples that the teacher ran over.
    pub computed: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Bytes of a cache: of each labelled position the ids and log-probabilities of `top_k` tokens, and of all others.
pub fn bytes_of(labelled: usize, top_k: usize, vocabulary: usize) -> u64 {
    let cells = top_k.min(vocabulary);
    let others = if cells < vocabulary { 2 } else { 0 };
    labelled as u64 * (cells as u64 * 6 + others)
}

/// Writes the distributions of `teacher` at the labelled positions of all examples into `folder`. What an earlier call
/// finished is kept. `progress` is called with the number of examples done.
///
/// # Errors
/// A folder that holds another cache; rows that changed; those of writing.
pub fn write_teacher(
    folder: &Path,
    key: &TeacherKey,
    name: &str,
    dataset: &Dataset,
    teacher: &Network,
    mut progress: impl FnMut(usize),
) -> Result<Written, Error> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut manifest = begun(folder, key, name, dataset.len())?;
    let found = manifest.done();
    progress(found);
    let Some(predictor) = teacher.predictor() else {
        return Err(Error::Request {
            problem: format!("a {} predicts no tokens", teacher.kind()),
            help: "name a decoder as teacher".into(),
        });
    };
    let mut filling = Filling::default();
    let mut next = found;
    while next < dataset.len() {
        let batch = batch_from(dataset, next);
        for positions in distributions(predictor, dataset, &batch, key)? {
            filling.add(&positions);
        }
        next = batch.end;
        if filling.bytes() >= SHARD || next == dataset.len() {
            let file = format!("teacher-{:05}.safetensors", manifest.shards.len());
            let examples = filling.examples();
            let cells = key.top_k.min(key.vocabulary);
            let sha256 = std::mem::take(&mut filling).write(&folder.join(&file), cells)?;
            manifest.shards.push(ShardEntry { file, examples, sha256 });
            manifest.write(folder)?;
        }
        progress(next);
    }
    let sizes = manifest.shards.iter().map(|shard| {
        let path = folder.join(&shard.file);
        std::fs::metadata(&path).map(|found| found.len()).map_err(Error::io(&path))
    });
    let bytes = sizes.sum::<Result<u64, Error>>()?;
    Ok(Written { found, computed: dataset.len() - found, bytes })
}

/// What an earlier call began: the files whose content is as it was written. A new cache otherwise.
fn begun(folder: &Path, key: &TeacherKey, name: &str, examples: usize) -> Result<Manifest, Error> {
    let Some(mut manifest) = Manifest::read(folder)? else {
        let new = Manifest { key: key.clone(), teacher: name.into(), examples, shards: vec![] };
        new.write(folder)?;
        return Ok(new);
    };
    let differences = manifest.key.differences(key);
    if !differences.is_empty() {
        return Err(Error::Request {
            problem: format!("{} holds the cache of something else: {}", folder.display(), differences.join("; ")),
            help: "name another folder in objective.cache, or remove this one".into(),
        });
    }
    let is_whole = |entry: &ShardEntry| sha256_file(&folder.join(&entry.file)).is_ok_and(|hash| hash == entry.sha256);
    let whole = manifest.shards.iter().take_while(|entry| is_whole(entry)).count();
    manifest.shards.truncate(whole);
    Ok(manifest)
}

/// The examples from `first` on that make one forward pass.
fn batch_from(dataset: &Dataset, first: usize) -> std::ops::Range<usize> {
    let (mut end, mut longest) = (first, 0);
    while end < dataset.len() {
        longest = longest.max(dataset.length(end));
        if end > first && longest * (end + 1 - first) > BATCH {
            break;
        }
        end += 1;
    }
    first..end
}

/// The teacher's likeliest tokens at the labelled positions of each example.
pub(super) fn distributions(
    teacher: Predictor<'_>,
    dataset: &Dataset,
    examples: &std::ops::Range<usize>,
    key: &TeacherKey,
) -> Result<Vec<Vec<Likeliest>>, Error> {
    let packs: Vec<Pack> =
        examples.clone().map(|number| Pack { examples: vec![number], length: dataset.length(number) }).collect();
    let batch: TokenBatch = dataset.batch(&packs)?.into_tokens()?;
    let labelled = LabelledTokens::of(&batch);
    let mut rows = positions(teacher, &batch, &labelled, key).into_iter();
    let mut found = vec![vec![]; examples.len()];
    for position in &labelled.positions {
        found[*position as usize / batch.length.max(1)].extend(rows.next());
    }
    Ok(found)
}

fn positions(
    teacher: Predictor<'_>,
    batch: &TokenBatch,
    labelled: &LabelledTokens,
    key: &TeacherKey,
) -> Vec<Likeliest> {
    if labelled.positions.is_empty() {
        return vec![];
    }
    let hidden = teacher.hidden(&inputs(batch), Mode::Inference);
    let [rows, time, width] = hidden.dims();
    let hidden = hidden.reshape([rows * time, width]);
    let head = teacher.head();
    let chunk = (LOGITS / key.vocabulary.max(1)).max(1);
    let mut found = vec![];
    for positions in labelled.positions.chunks(chunk) {
        let indices = TensorData::new(positions.to_vec(), [positions.len()]);
        let indices = Tensor::<1, Int>::from_data(indices, &hidden.device());
        let logits = head.logits(hidden.clone().select(0, indices).unsqueeze::<3>());
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let rows = logits.par_chunks(key.vocabulary).map(|row| likeliest(row, key.temperature, key.top_k));
        found.par_extend(rows);
    }
    found
}
