//! Removes checkpoints that are no longer needed after a new one was written: [`Retention`].

use super::{Checkpoints, RunError};
use std::path::PathBuf;

/// Which checkpoints are kept: the newest ones, and on request the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest; 0 counts as 1, because the one just written is always kept.
    pub newest: usize,
    /// Whether the one with the lowest metric in its manifest is also kept (among equals, the oldest).
    pub best: bool,
}

impl Retention {
    /// Removes the checkpoints that are not kept, after `checkpoint-{written}` was written. Returns
    /// the removed folders.
    ///
    /// Checkpoints of later steps are removed too: they are left from before a resume at an earlier
    /// step, and the next resume would select them. Broken older checkpoints are not counted and
    /// stay for the user to look at.
    pub fn apply(&self, checkpoints: &Checkpoints, written: u64) -> Result<Vec<PathBuf>, RunError> {
        let mut removed = Vec::new();
        let mut whole = Vec::new();
        for step in checkpoints.steps()? {
            if step > written {
                removed.push(checkpoints.remove(step)?);
            } else if let Some(manifest) = checkpoints.plausible(step) {
                whole.push((step, manifest.metric));
            }
        }
        let best = whole
            .iter()
            .filter_map(|(step, metric)| Some((*step, (*metric)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))
            .filter(|_| self.best)
            .map(|(step, _)| step);
        for (step, _) in whole.iter().skip(self.newest.max(1)) {
            if Some(*step) != best {
                removed.push(checkpoints.remove(*step)?);
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::tests::write;
    use super::*;
    use std::fs;

    fn kept(retention: Retention, metrics: &[(u64, Option<f64>)]) -> Vec<u64> {
        let output = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(output.path());
        for (step, metric) in metrics {
            write(&checkpoints, *step, *metric);
            retention.apply(&checkpoints, *step).unwrap();
        }
        let steps = checkpoints.steps().unwrap();
        assert_eq!(fs::read_dir(output.path()).unwrap().count(), steps.len(), "nothing else stays");
        steps
    }

    #[test]
    fn the_newest_stay_and_the_best() {
        let metrics = [(1, Some(0.9)), (2, Some(0.5)), (3, Some(0.5)), (4, Some(f64::NAN)), (5, None)];
        let keep = |newest, best| kept(Retention { newest, best }, &metrics);
        assert_eq!(keep(2, false), [5, 4]);
        assert_eq!(keep(2, true), [5, 4, 2]);
        assert_eq!(keep(0, false), [5]);
        assert_eq!(keep(9, true), [5, 4, 3, 2, 1]);
    }

    #[test]
    fn a_broken_checkpoint_does_not_push_out_a_whole_one() {
        let output = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(output.path());
        for step in 1..=3 {
            write(&checkpoints, step, None);
        }
        fs::write(output.path().join("checkpoint-2/state.json"), b"").unwrap();
        let retention = Retention { newest: 2, best: false };
        assert!(retention.apply(&checkpoints, 3).unwrap().is_empty());
        assert_eq!(checkpoints.steps().unwrap(), [3, 2, 1]);
    }

    #[test]
    fn checkpoints_of_an_abandoned_future_go() {
        let output = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(output.path());
        for step in [10, 20, 30] {
            write(&checkpoints, step, None);
        }
        write(&checkpoints, 15, None);
        let retention = Retention { newest: 2, best: false };
        retention.apply(&checkpoints, 15).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [15, 10]);
    }
}
