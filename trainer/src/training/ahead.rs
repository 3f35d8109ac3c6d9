//! Laying out the next step while this one is computed: [`Ahead`]. Pictures are decoded then; memory holds one step more.

use std::thread::JoinHandle;

use firebrand_datasets::{Batch, DataError, Dataset, Pack, RowKind};

/// The batches of a step, which another thread lays out.
#[derive(Debug)]
pub(super) struct Ahead {
    packs: Vec<Pack>,
    batches: JoinHandle<Result<Vec<Batch>, DataError>>,
}

impl Ahead {
    /// Begins with `packs`, `micro_batch` of them a batch; absent where rows are tokens, which are there at once.
    pub fn start(dataset: &Dataset, packs: Vec<Pack>, micro_batch: usize) -> Option<Self> {
        match dataset.kind() {
            RowKind::Tokens => None,
            RowKind::Tensors => {
                let (dataset, asked) = (dataset.clone(), packs.clone());
                Some(Self { packs, batches: std::thread::spawn(move || lay_out(&dataset, &asked, micro_batch)) })
            }
        }
    }

    /// The batches of `packs`: those that were begun, or others if it was not these.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn finish(
        ahead: Option<Self>,
        dataset: &Dataset,
        packs: &[Pack],
        micro_batch: usize,
    ) -> Result<Vec<Batch>, DataError> {
        match ahead.filter(|ahead| ahead.packs == packs) {
            Some(ahead) => ahead.batches.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => lay_out(dataset, packs, micro_batch),
        }
    }
}

fn lay_out(dataset: &Dataset, packs: &[Pack], micro_batch: usize) -> Result<Vec<Batch>, DataError> {
    packs.chunks(micro_batch).map(|packs| dataset.batch(packs)).collect()
}
