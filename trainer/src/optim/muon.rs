//! The Muon optimiser (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>), as `torch.optim.Muon`
//! computes it: the momentum of a matrix is made nearly orthogonal by Newton-Schulz iterations.
//!
//! What is unusual: torch rounds to bf16 in the Newton-Schulz iterations, here they are in f32. The updates differ by
//! that rounding, by one to four percent (on random matrices). Not here: parameters that are not a matrix of a block,
//! which are updated by AdamW.

use burn::tensor::Tensor;
use firebrand_kernels::{Precision, linear};

use super::size::Size;
use crate::recipe::{MuonAdjustment, MuonRecipe};

/// Jordan's coefficients of the quintic `a x + b x^3 + c x^5`, chosen for a steep slope at zero.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// The smallest number that a matrix is divided by when it is normalised.
const LEAST_NORM: f64 = 1e-7;

impl MuonRecipe {
    /// Updates one flat matrix of the given shape; returns the new value and the momentum buffer.
    pub(super) fn step(
        &self,
        shape: &[usize],
        value: Tensor<1>,
        gradient: Tensor<1>,
        buffer: Option<Tensor<1>>,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        let momentum = self.momentum;
        let buffer = buffer.unwrap_or_else(|| gradient.zeros_like());
        let buffer = buffer * momentum + gradient.clone() * (1.0 - momentum);
        let update =
            if self.nesterov { gradient * (1.0 - momentum) + buffer.clone() * momentum } else { buffer.clone() };
        let [rows, columns] = [shape[0], shape[1]];
        let update = Size::norm(&update).max(LEAST_NORM).divide(update);
        let direction = orthogonal(update.reshape([rows, columns]), self.ns_steps).reshape([-1]);
        let value = value * (1.0 - learning_rate * self.weight_decay)
            - direction * (learning_rate * self.adjust_lr_fn.factor(rows as f64, columns as f64));
        (value, buffer)
    }
}

impl MuonAdjustment {
    fn factor(self, rows: f64, columns: f64) -> f64 {
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

/// `U S' V^T`, where `U S V^T` is the singular value decomposition of `matrix` (of norm one) and all values of `S'` are
/// near one.
fn orthogonal(matrix: Tensor<2>, steps: usize) -> Tensor<2> {
    let [rows, columns] = matrix.dims();
    // The products are cheaper when there are no more rows than columns.
    let tall = rows > columns;
    let mut x = if tall { matrix.transpose() } else { matrix };
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..steps {
        let gram = linear(x.clone(), x.clone(), Precision::F32);
        let polynomial = gram.clone() * b + linear(gram.clone(), gram, Precision::F32) * c;
        x = x.clone() * a + linear(polynomial, x.transpose(), Precision::F32);
    }
    if tall { x.transpose() } else { x }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        let device = Device::flex();
        // Singular values 0.99 and 0.1, turned by 30 degrees; a third row of zeros makes it tall.
        let (cosine, sine) = (0.75_f32.sqrt(), 0.5);
        let matrix = [[0.99 * cosine, -0.1 * sine], [0.99 * sine, 0.1 * cosine], [0.0, 0.0]];
        let matrix = Tensor::<2>::from_floats(matrix, &device);
        for matrix in [matrix.clone(), matrix.transpose()] {
            let [rows, columns] = matrix.dims();
            let near = orthogonal(matrix, 5);
            let gram = if rows > columns {
                near.clone().transpose().matmul(near)
            } else {
                near.clone().matmul(near.transpose())
            };
            let values: Vec<f32> = gram.into_data().iter::<f32>().collect();
            // Jordan: the quintic leaves singular values between 0.7 and 1.2.
            for (index, value) in values.iter().enumerate() {
                let diagonal = columns.min(rows) + 1;
                if index % diagonal == 0 && *value != 0.0 {
                    assert!((0.4..1.5).contains(value), "{values:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_gradient_a_matrix_stays() {
        let device = Device::flex();
        let ones = Tensor::<1>::ones([12], &device);
        let (value, _) = MuonRecipe::default().step(&[3, 4], ones.clone(), ones.zeros_like(), None, 0.1);
        assert!(value.into_data().iter::<f32>().all(|value| value == 1.0));
    }
}
