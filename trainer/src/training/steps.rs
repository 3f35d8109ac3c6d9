//! Which packs every optimiser step trains on: a pure function of the recipe and the data.
//!
//! An epoch's packs are taken in order, `batch_size` at a time; what is left at the end of an epoch is a step of its own.
//! Because nothing depends on what ran before, a resumed run seeks to its step instead of replaying data.

use firebrand_datasets::{Dataset, Pack};

use crate::recipe::Duration;

/// The steps of a run.
#[derive(Debug)]
pub struct Steps<'a> {
    dataset: &'a Dataset,
    seed: u64,
    batch_size: usize,
    /// Steps of the whole run.
    pub total: u64,
    epoch: u64,
    packs: Vec<Pack>,
    next: usize,
}

/// One step's share of the data.
#[derive(Debug, Clone)]
pub struct StepData {
    /// The packs, in order.
    pub packs: Vec<Pack>,
    /// Epochs passed when the step is done, with the started one as a fraction.
    pub epoch: f64,
}

impl<'a> Steps<'a> {
    /// The steps of a run of this length, standing before the first.
    pub fn new(dataset: &'a Dataset, seed: u64, batch_size: usize, duration: Duration) -> Self {
        let packs = dataset.epoch(seed, 0).packs;
        let mut steps = Self { dataset, seed, batch_size, total: 0, epoch: 0, packs, next: 0 };
        steps.total = match duration {
            Duration::Steps(count) => count as u64,
            Duration::Epochs(count) => (0..count as u64).map(|epoch| steps.in_epoch(epoch)).sum(),
        };
        steps
    }

    /// Goes to the place after `position` packs of `epoch`.
    pub fn seek(&mut self, epoch: u64, position: u64) {
        if epoch != self.epoch {
            self.packs = self.dataset.epoch(self.seed, epoch).packs;
        }
        self.epoch = epoch;
        self.next = position as usize;
    }

    /// Epochs passed and packs of the current one taken.
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.next as u64)
    }

    /// The next step's data. The caller counts steps; the data never ends. There must be at least one pack.
    pub fn advance(&mut self) -> StepData {
        if self.next >= self.packs.len() {
            self.seek(self.epoch + 1, 0);
        }
        let end = (self.next + self.batch_size).min(self.packs.len());
        let packs = self.packs[self.next..end].to_vec();
        self.next = end;
        StepData { packs, epoch: self.epoch as f64 + end as f64 / self.packs.len() as f64 }
    }

    fn in_epoch(&self, epoch: u64) -> u64 {
        let packs = if epoch == 0 { self.packs.len() } else { self.dataset.epoch(self.seed, epoch).packs.len() };
        packs.div_ceil(self.batch_size) as u64
    }
}
