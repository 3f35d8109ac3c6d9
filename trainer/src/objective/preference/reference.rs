//! The model that log-ratios measure from, [`Reference`], and what it gives pairs once and for all, [`keep_pairs`].

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use firebrand_datasets::{Batch, Dataset, Pack, TokenBatch};
use firebrand_models::Network;
use sha2::{Digest, Sha256};

use super::answers::{Answers, Judged};
use crate::error::Error;
use crate::features::{PairDigest, ReferencePairs};
use crate::objective::Companion;

/// Pairs after which the file is written: what an ended run computed is not lost.
const WRITE_EVERY: usize = 256;

/// The model that log-ratios measure from.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a run")]
pub enum Reference {
    /// A network on a device without autodiff, which is never changed.
    Network(Network),
    /// What it gave the pairs of the run before.
    Kept(Arc<ReferencePairs>),
}

impl Reference {
    /// The reference of an objective; absent where the companion is none.
    pub fn of(companion: Companion) -> Option<Self> {
        match companion {
            Companion::Network(network) => Some(Self::Network(network)),
            Companion::Pairs(kept) => Some(Self::Kept(kept)),
            Companion::Cache(_) => None,
        }
    }

    /// The log-probability of each answer of a batch.
    ///
    /// # Errors
    /// A pair that is not among the kept ones.
    pub(super) fn sums(&self, answers: &Answers, batch: Judged<'_>) -> Result<Vec<f64>, Error> {
        let kept = match self {
            Self::Network(network) => return Ok(answers.sums(&answers.by(network, batch.tokens))),
            Self::Kept(kept) => kept,
        };
        let mut sums = vec![];
        for digest in digests(batch) {
            sums.extend(kept.get(&digest).ok_or_else(|| Error::Request {
                problem: format!("{} does not hold a pair of this run", kept.path().display()),
                help: "remove reference_cache from [objective]".into(),
            })?);
        }
        Ok(sums)
    }
}

/// A pair of a dataset that is not kept.
#[derive(Debug, Clone)]
pub struct MissingPair<'a> {
    rows: &'a Dataset,
    examples: Range<usize>,
    digest: PairDigest,
}

/// The pairs of some datasets that are not kept, each once.
///
/// # Errors
/// Rows that changed.
pub fn missing_pairs<'a>(all: &[&'a Dataset], kept: &ReferencePairs) -> Result<Vec<MissingPair<'a>>, Error> {
    let mut found = vec![];
    let mut seen = HashSet::new();
    for rows in all {
        for examples in rows.rows() {
            let batch = pair(rows, &examples)?;
            for digest in digests(Judged::of(&batch)?) {
                if kept.get(&digest).is_none() && seen.insert(digest) {
                    found.push(MissingPair { rows, examples: examples.clone(), digest });
                }
            }
        }
    }
    Ok(found)
}

/// Runs a reference over pairs and keeps what it gives them. Each pair is a pass of its own, so that no other has a part in its
/// numbers. `progress` is called with the number of pairs done.
///
/// # Errors
/// Rows that changed; those of writing.
pub fn keep_pairs(
    reference: &Network,
    missing: &[MissingPair<'_>],
    kept: &mut ReferencePairs,
    mut progress: impl FnMut(usize),
) -> Result<(), Error> {
    for (index, MissingPair { rows, examples, digest }) in missing.iter().enumerate() {
        let batch = pair(rows, examples)?;
        let batch = Judged::of(&batch)?;
        let answers = Answers::of(batch, false);
        if let [chosen, rejected] = answers.sums(&answers.by(reference, batch.tokens))[..] {
            kept.insert(*digest, [chosen, rejected]);
        }
        if (index + 1) % WRITE_EVERY == 0 {
            kept.write()?;
        }
        progress(index + 1);
    }
    kept.write()
}

/// A pair as a batch.
fn pair(rows: &Dataset, examples: &Range<usize>) -> Result<Batch, Error> {
    let length = examples.clone().map(|example| rows.length(example)).sum();
    Ok(rows.batch(&[Pack { examples: examples.clone().collect(), length }])?)
}

/// The digests of the pairs of a batch, in their order.
fn digests(batch: Judged<'_>) -> Vec<PairDigest> {
    let examples = batch.examples();
    examples.chunks(2).map(|sides| digest(batch.tokens, sides.iter().map(|(_, places)| places.clone()))).collect()
}

fn digest(tokens: &TokenBatch, sides: impl Iterator<Item = Range<usize>>) -> PairDigest {
    let mut hash = Sha256::new();
    for places in sides {
        hash.update((places.len() as u64).to_le_bytes());
        for at in places {
            hash.update(tokens.input_ids[at].to_le_bytes());
            // Which tokens are predicted decides the sum; what they are is known from the ids.
            hash.update([u8::from(tokens.targets[at] >= 0)]);
        }
    }
    hash.finalize().into()
}
