//! Checks that an interrupted and resumed run ends where an uninterrupted one ends.

use super::Measured;
use super::fixture::{Fixture, Trained, Trains};
use crate::error::Error;
use crate::run::{Checkpoint, CheckpointStatus};

/// Compares weights and optimiser state after a resume in the middle of an epoch, with dropout on the adapter.
pub(super) fn bytes(fixture: &Fixture) -> Result<Measured, Error> {
    let dropout = ["checkpoint.every=3", "adapter.dropout=0.1"];
    let runs: [(Trains, &[&str]); 2] = [(Trains::Adapter, &dropout), (Trains::Everything, &dropout[..1])];
    let (mut files, mut different) = (0, 0);
    for (trains, changes) in runs {
        let whole = fixture.train(&format!("uninterrupted-{trains:?}"), trains, changes, None)?;
        let middle = checkpoint(&whole, 3)?;
        let resumed = fixture.train(&format!("resumed-{trains:?}"), trains, changes, Some(&middle))?;
        let (expected, found) = (checkpoint(&whole, 6)?, checkpoint(&resumed, 6)?);
        for (name, digest) in &expected.manifest.files {
            if name.ends_with(".safetensors") {
                files += 1;
                different += usize::from(found.manifest.files.get(name) != Some(digest));
            }
        }
    }
    let what = format!("{files} files of an adapter and a full run, different ones");
    Ok(Measured { what, value: different as f64, limit: 0.0 })
}

fn checkpoint(trained: &Trained, step: u64) -> Result<Checkpoint, Error> {
    let found = trained.checkpoints.list()?.into_iter().find_map(|status| match status {
        CheckpointStatus::Whole(checkpoint) if checkpoint.step == step => Some(checkpoint),
        CheckpointStatus::Whole(_) | CheckpointStatus::Broken(_) => None,
    });
    found.ok_or_else(|| Error::Request {
        problem: format!("checkpoint-{step} was not written, or is not whole"),
        help: "is the disk full?".into(),
    })
}
