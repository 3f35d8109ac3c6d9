//! A loss that the device may still be computing, [`PendingLoss`]: a step reads it together with the norm of its gradient.

use burn::tensor::Tensor;

/// The sum of the losses of micro-batches, each of them a sum of terms. Sums are in f64, in order, once the terms are read.
#[derive(Debug, Clone, Default)]
pub struct PendingLoss {
    /// What the host knows of it.
    known: f64,
    /// The terms `[1]` of each micro-batch, without autodiff.
    micro_batches: Vec<Vec<Tensor<1>>>,
}

impl PendingLoss {
    /// A loss that was computed on the host.
    pub fn known(loss: f64) -> Self {
        Self { known: loss, micro_batches: vec![] }
    }

    /// The loss `[1]` of a micro-batch.
    pub fn of(loss: &Tensor<1>) -> Self {
        Self::of_terms(std::iter::once(loss))
    }

    /// The loss of a micro-batch that is the sum of `terms`, `[1]` each.
    pub fn of_terms<'a>(terms: impl Iterator<Item = &'a Tensor<1>>) -> Self {
        Self { known: 0.0, micro_batches: vec![terms.map(|term| term.clone().without_autodiff()).collect()] }
    }

    /// Adds the losses of other micro-batches, behind those that are there.
    pub fn add(&mut self, other: Self) {
        self.known += other.known;
        self.micro_batches.extend(other.micro_batches);
    }

    /// All terms, in order.
    pub fn terms(&self) -> Vec<Tensor<1>> {
        self.micro_batches.iter().flatten().cloned().collect()
    }

    /// The loss, given the values of [`Self::terms`].
    pub fn value(&self, terms: &[f32]) -> f64 {
        let mut terms = terms.iter().map(|term| f64::from(*term));
        let losses = self.micro_batches.iter().map(|parts| {
            // Not from zero: minus zero stays what it is.
            terms.by_ref().take(parts.len()).reduce(|sum, term| sum + term).unwrap_or_default()
        });
        losses.fold(self.known, |sum, loss| sum + loss)
    }

    /// The loss. Waits for the device.
    pub fn wait(&self) -> f64 {
        let terms = self.terms();
        match terms.is_empty() {
            true => self.known,
            false => self.value(&Tensor::cat(terms, 0).into_data().iter::<f32>().collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn terms_are_added_by_micro_batch_in_order() {
        let device = Device::flex();
        let term = |value: f32| Tensor::<1>::from_floats([value], &device);
        let terms = [[0.1, 1e8, -1e8], [0.2, 0.3, 0.4]];
        let mut all = PendingLoss::default();
        for of_batch in terms {
            let tensors = of_batch.map(term);
            all.add(PendingLoss::of_terms(tensors.iter()));
        }
        let expected = terms.map(|of_batch| of_batch.into_iter().map(f64::from).sum::<f64>());
        assert_eq!(all.wait(), 0.0 + expected[0] + expected[1]);
        assert_eq!(all.terms().len(), 6);
        assert_eq!(PendingLoss::known(2.5).wait(), 2.5);
        assert_eq!(PendingLoss::default().wait(), 0.0);
    }
}
