//! Matching the hidden states of a teacher, [`Matching`]: an option of distillation, for students that have some of its blocks
//! (Jiao et al. 2019, arXiv:1909.10351; Sanh et al. 2019, arXiv:1910.01108).
//!
//! With `s` and `t` the outputs of a student's block and of the teacher's block that it is mapped to, at a labelled position,
//! the distance is `1 - cos(s, t)` or the mean of `(s - t)^2`. The term is `weight` times the mean over the mapped blocks and over
//! the labelled positions of the step. Without a map, block `i` of `n` is mapped to block `(i + 1) m / n - 1` of the teacher's `m`,
//! rounded down: both end with the last one.

use burn::tensor::Tensor;
use firebrand_adapters::Mode;
use firebrand_kernels::sum;
use firebrand_models::Predictor;
use firebrand_models::parts::Inputs;

use super::sft::{LabelledTokens, gather};
use crate::recipe::{HiddenLoss, HiddenRecipe};

/// Which hidden states are matched, and how much that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// Factor of the term in the loss.
    pub weight: f64,
    /// The distance.
    pub distance: HiddenLoss,
    /// Blocks of the student and of the teacher, in the order of the student's.
    pub pairs: Vec<(usize, usize)>,
}

/// The map of a student's blocks to a teacher's, without a choice.
fn even_pairs(student: usize, teacher: usize) -> Vec<(usize, usize)> {
    (0..student).map(|block| (block, ((block + 1) * teacher / student).max(1) - 1)).collect()
}

impl Matching {
    /// What a recipe asks for, for a student and a teacher with so many blocks.
    pub fn new(recipe: &HiddenRecipe, student: usize, teacher: usize) -> Self {
        let pairs = match &recipe.layers {
            Some(layers) => layers.iter().map(|[student, teacher]| (*student, *teacher)).collect(),
            None => even_pairs(student, teacher),
        };
        Self { weight: recipe.weight, distance: recipe.loss, pairs }
    }

    /// The teacher's hidden states for the head, and the outputs of the mapped blocks in the order of the pairs; both
    /// `[tokens, width]` at the labelled positions.
    pub fn taught(
        &self,
        teacher: Predictor<'_>,
        inputs: &Inputs,
        labelled: &LabelledTokens,
    ) -> (Tensor<2>, Vec<Tensor<2>>) {
        let context = teacher.context(inputs, Mode::Inference);
        let mut x = teacher.embed(inputs, Mode::Inference);
        let mut outputs = vec![None; self.pairs.len()];
        for (index, block) in teacher.stack().blocks.iter().enumerate() {
            x = block.forward(x, &context, None);
            for (output, pair) in outputs.iter_mut().zip(&self.pairs) {
                if pair.1 == index {
                    *output = Some(gather(x.clone(), labelled));
                }
            }
        }
        let last = gather(teacher.finish(x, Mode::Inference), labelled);
        (last, outputs.into_iter().flatten().collect())
    }

    /// The place among the pairs of a block of the student.
    pub fn place(&self, block: usize) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.0 == block)
    }

    /// The sum over tokens `[tokens, width]` of weight and distance, `[1]`, divided by the number of pairs.
    pub fn distance(&self, student: Tensor<2>, teacher: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
        let apart = match self.distance {
            HiddenLoss::Cosine => {
                let dot = (student.clone() * teacher.clone()).sum_dim(1);
                let length = |x: Tensor<2>| (x.clone() * x).sum_dim(1).sqrt().clamp_min(1e-8);
                (dot / (length(student) * length(teacher))).neg() + 1.0
            }
            HiddenLoss::Mse => {
                let difference = student - teacher;
                (difference.clone() * difference).mean_dim(1)
            }
        };
        sum(apart.squeeze_dim::<1>(1) * weights) / self.pairs.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_mapped_evenly() {
        assert_eq!(even_pairs(3, 6), [(0, 1), (1, 3), (2, 5)]);
        assert_eq!(even_pairs(2, 5), [(0, 1), (1, 4)]);
        assert_eq!(even_pairs(4, 4), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(even_pairs(5, 2), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]);
    }
}
