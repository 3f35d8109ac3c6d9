//! Chooses the packs of every optimiser step, [`Steps`]: a pure function of the recipe and the data.
//!
//! The packs of an epoch are taken in order, `batch_size` at a time; those left at the end of an epoch are a smaller
//! step. Nothing depends on earlier steps, so a resumed run seeks to its step instead of replaying the data.

use std::sync::Arc;

use firebrand_datasets::{Dataset, Epoch, Pack};

use crate::recipe::Duration;

/// Rows from which on the next epoch is packed ahead, because packing takes noticeable time.
const MANY_ROWS: usize = 100_000;

/// The steps of a run.
#[derive(Debug)]
pub struct Steps<'a> {
    dataset: &'a Dataset,
    seed: u64,
    batch_size: usize,
    /// Steps of the whole run.
    pub total: u64,
    number: u64,
    epoch: Arc<Epoch>,
    next: usize,
}

/// The packs of one step.
#[derive(Debug, Clone)]
pub struct StepData {
    /// The packs, in order.
    pub packs: Vec<Pack>,
    /// Epochs completed after this step, with the current one as a fraction.
    pub epoch: f64,
}

impl<'a> Steps<'a> {
    /// The steps of a run of this duration, positioned before the first one.
    pub fn new(dataset: &'a Dataset, seed: u64, batch_size: usize, duration: Duration) -> Self {
        let epoch = dataset.epoch(seed, 0);
        let mut steps = Self { dataset, seed, batch_size, total: 0, number: 0, epoch, next: 0 };
        let epochs = dataset.epochs().unwrap_or(u64::MAX);
        let whole = |count: usize| (0..epochs.min(count as u64)).map(|epoch| steps.in_epoch(epoch)).sum();
        steps.total = match duration {
            Duration::Steps(count) => steps.at_most(count as u64, epochs),
            Duration::Epochs(count) => whole(count),
            Duration::Fitting => whole(Duration::fitting(steps.in_epoch(0))),
        };
        steps
    }

    /// Moves to the position after `position` packs of `epoch`.
    pub fn seek(&mut self, epoch: u64, position: u64) {
        if epoch != self.number {
            self.epoch = self.dataset.epoch(self.seed, epoch);
        }
        self.number = epoch;
        self.next = position as usize;
    }

    /// The current position: epochs completed, and packs of the current epoch already taken.
    pub fn place(&self) -> (u64, u64) {
        (self.number, self.next as u64)
    }

    /// Whether the step returned last was the last of its epoch.
    pub fn is_at_end(&self) -> bool {
        self.next >= self.epoch.packs.len()
    }

    /// Returns the next step's packs. The caller counts the steps; there are `total`.
    pub fn advance(&mut self) -> StepData {
        if self.next >= self.epoch.packs.len() {
            self.seek(self.number + 1, 0);
        }
        if self.next == 0 && self.dataset.len() >= MANY_ROWS {
            self.lay_out_next();
        }
        let count = self.epoch.packs.len();
        let end = (self.next + self.batch_size).min(count);
        let packs = (self.next..end).map(|index| self.epoch.packs.get(index)).collect();
        self.next = end;
        StepData { packs, epoch: self.number as f64 + end as f64 / count as f64 }
    }

    /// The packs that the next call of [`Self::advance`] gives.
    pub fn upcoming(&self) -> Vec<Pack> {
        let (epoch, first) = match self.next >= self.epoch.packs.len() {
            true => (self.dataset.epoch(self.seed, self.number + 1), 0),
            false => (Arc::clone(&self.epoch), self.next),
        };
        let end = (first + self.batch_size).min(epoch.packs.len());
        (first..end).map(|index| epoch.packs.get(index)).collect()
    }

    /// Packs the next epoch on another thread, so that its first step need not wait. The dataset caches the result.
    fn lay_out_next(&self) {
        let (dataset, seed, next) = (self.dataset.clone(), self.seed, self.number + 1);
        std::thread::spawn(move || dataset.epoch(seed, next));
    }

    fn in_epoch(&self, epoch: u64) -> u64 {
        self.dataset.packs(self.seed, epoch).div_ceil(self.batch_size) as u64
    }

    /// `count` steps, or fewer if the data end before, which they do when every source has a limit of epochs.
    fn at_most(&self, count: u64, epochs: u64) -> u64 {
        if epochs == u64::MAX {
            return if self.epoch.packs.is_empty() { 0 } else { count };
        }
        let mut total = 0;
        for epoch in 0..epochs {
            if total >= count {
                break;
            }
            total += self.in_epoch(epoch);
        }
        total.min(count)
    }
}

#[cfg(test)]
mod tests {
    use firebrand_datasets::source::NoFetch;
    use firebrand_datasets::{DataConfig, Prepare, SourceConfig, Split, prepare};

    use super::*;

    /// Two sources of token rows, mixed 3 : 1.
    fn mixture(change: impl Fn(&mut DataConfig)) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        for (name, rows) in [("a.jsonl", 30), ("b.jsonl", 50)] {
            let row = |row: usize| format!("{{\"input_ids\": {:?}, \"labels\": {0:?}}}\n", vec![row; 2 + row % 9]);
            std::fs::write(folder.path().join(name), (0..rows).map(row).collect::<String>()).unwrap();
        }
        let source = |name: &str, rows| SourceConfig { rows: Some(rows), ..SourceConfig::new(name) };
        let train = vec![source("a.jsonl", 36), source("b.jsonl", 12)];
        let mut config = DataConfig { packing: false, train, ..DataConfig::default() };
        change(&mut config);
        prepare(&Prepare {
            config: &config,
            split: Split::Train,
            base: folder.path(),
            tokenizer: None,
            template: None,
            pictures: None,
            fetch: &NoFetch,
            micro_batch: 2,
            cache: None,
            keep_text: false,
            limit: None,
            progress: &|_| std::ops::ControlFlow::Continue(()),
        })
        .unwrap()
    }

    fn rows(data: &StepData) -> Vec<usize> {
        data.packs.iter().flat_map(|pack| pack.examples.clone()).collect()
    }

    #[test]
    fn a_mixture_goes_on_from_any_step_as_if_it_had_never_stopped() {
        let packed = mixture(|config| (config.packing, config.max_length) = (true, 24));
        let grouped = mixture(|config| config.group_by_length = true);
        for dataset in [mixture(|_| {}), packed, grouped] {
            let mut steps = Steps::new(&dataset, 7, 5, Duration::Epochs(3));
            let mut places = vec![steps.place()];
            let all: Vec<Vec<usize>> = (0..steps.total)
                .map(|_| {
                    let upcoming = steps.upcoming();
                    let data = steps.advance();
                    assert_eq!(upcoming, data.packs);
                    places.push(steps.place());
                    rows(&data)
                })
                .collect();
            for (step, (epoch, position)) in places.into_iter().enumerate().take(all.len()) {
                let mut resumed = Steps::new(&dataset, 7, 5, Duration::Epochs(3));
                resumed.seek(epoch, position);
                assert_eq!(rows(&resumed.advance()), all[step], "step {step}");
            }
            assert_eq!(all.iter().map(Vec::len).sum::<usize>(), 3 * 48);
        }
    }

    #[test]
    fn a_run_ends_with_its_data_when_every_source_has_a_limit() {
        let limited = mixture(|config| config.train.iter_mut().for_each(|source| source.epochs = Some(1.0)));
        // 30 rows at 36 an epoch, 50 at 12 an epoch: 42, 12, 12, 12 and 2 rows.
        let steps = Steps::new(&limited, 7, 5, Duration::Steps(1000));
        assert_eq!(steps.total, 9 + 3 + 3 + 3 + 1);
        assert_eq!(Steps::new(&limited, 7, 5, Duration::Epochs(100)).total, steps.total);
        assert_eq!(Steps::new(&limited, 7, 5, Duration::Steps(4)).total, 4);
        assert_eq!(Steps::new(&mixture(|_| {}), 7, 5, Duration::Steps(1000)).total, 1000);
        let mut steps = steps;
        let visits: usize = (0..steps.total).map(|_| rows(&steps.advance()).len()).sum();
        assert_eq!(visits, 80);
    }
}
