//! AdamW with its moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861), as `bitsandbytes.optim.AdamW8bit`
//! computes it: at each step the moments are widened to f32, updated, used, and rounded to 8 bits again.
//!
//! What is unusual: the update runs on the host, block by block, on every device, and the codes stay there. Tensors
//! with fewer than `min_8bit_size` values use AdamW in f32. bitsandbytes rounds in several ways; this is the exact one,
//! see `blockwise.rs`. Embeddings are in 8 bits too, unlike in transformers' trainer.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::blockwise::{BLOCK, DynamicMap, blocks};
use super::parameter::Parameter;
use super::state::{OptimizerState, Quantity};
use crate::recipe::{Adamw8bitRecipe, AdamwRecipe};

const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";
const FIRST_ABSMAX: &str = "exp_avg.absmax";
const SECOND_ABSMAX: &str = "exp_avg_sq.absmax";

/// A moment in 8 bits: codes, and the largest absolute value of each block.
struct Mean {
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

impl Adamw8bitRecipe {
    /// Whether the moments of a parameter are held in 8 bits.
    pub(super) fn is_quantized(&self, parameter: Parameter<'_>) -> bool {
        parameter.elements() >= self.min_8bit_size
    }

    /// The AdamW settings for all other parameters.
    pub(super) fn in_f32(&self) -> AdamwRecipe {
        let Self { learning_rate, betas, eps, weight_decay, .. } = *self;
        AdamwRecipe { learning_rate, betas, eps, weight_decay, ..AdamwRecipe::default() }
    }

    /// Updates one parameter, given with its gradient as flat tensors; returns the new value.
    pub(super) fn update(
        &self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let device = value.device();
        let mut values: Vec<f32> = value.into_data().iter::<f32>().collect();
        let gradient: Vec<f32> = gradient.into_data().iter::<f32>().collect();
        let mut first = Mean::take(state, parameter, [FIRST, FIRST_ABSMAX]);
        let mut second = Mean::take(state, parameter, [SECOND, SECOND_ABSMAX]);
        let numbers = self.numbers(learning_rate, state.steps);
        let firsts = first.codes.par_chunks_mut(BLOCK).zip(&mut first.absmax);
        let seconds = second.codes.par_chunks_mut(BLOCK).zip(&mut second.absmax);
        values
            .par_chunks_mut(BLOCK)
            .zip(gradient.par_chunks(BLOCK))
            .zip(firsts.zip(seconds))
            .for_each(|((values, gradient), (first, second))| numbers.update(values, gradient, first, second));
        first.put(state, parameter, [FIRST, FIRST_ABSMAX], &device);
        second.put(state, parameter, [SECOND, SECOND_ABSMAX], &device);
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &device)
    }

    /// The state tensors of a parameter with `elements` values.
    pub(super) fn quantities(&self, elements: usize) -> Vec<Quantity> {
        vec![
            Quantity::codes(FIRST, elements),
            Quantity::floats(FIRST_ABSMAX, blocks(elements)),
            Quantity::codes(SECOND, elements),
            Quantity::floats(SECOND_ABSMAX, blocks(elements)),
        ]
    }

    fn numbers(&self, learning_rate: f64, step: u64) -> Numbers {
        let [beta1, beta2] = self.betas;
        let steps = step as f64;
        Numbers {
            betas: self.betas.map(|beta| beta as f32),
            rests: self.betas.map(|beta| (1.0 - beta) as f32),
            correction: (1.0 - beta2.powf(steps)).sqrt() as f32,
            eps: self.eps as f32,
            kept: (1.0 - learning_rate * self.weight_decay) as f32,
            rate: (learning_rate / (1.0 - beta1.powf(steps))) as f32,
        }
    }
}

/// The constants of one step.
struct Numbers {
    betas: [f32; 2],
    rests: [f32; 2],
    correction: f32,
    eps: f32,
    kept: f32,
    rate: f32,
}

impl Numbers {
    /// Updates one block: values, gradients, and both moments as codes and largest absolute value.
    fn update(
        &self,
        values: &mut [f32],
        gradient: &[f32],
        (first, first_absmax): (&mut [u8], &mut f32),
        (second, second_absmax): (&mut [u8], &mut f32),
    ) {
        let (mut means, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
        let (means, squares) = (&mut means[..values.len()], &mut squares[..values.len()]);
        DynamicMap::Signed.widen(first, *first_absmax, means);
        DynamicMap::Unsigned.widen(second, *second_absmax, squares);
        for (((value, gradient), mean), square) in values.iter_mut().zip(gradient).zip(&mut *means).zip(&mut *squares) {
            *mean = *mean * self.betas[0] + gradient * self.rests[0];
            *square = *square * self.betas[1] + self.rests[1] * gradient * gradient;
            let denominator = square.sqrt() / self.correction + self.eps;
            *value = *value * self.kept - self.rate * *mean / denominator;
        }
        *first_absmax = DynamicMap::Signed.narrow(means, first);
        *second_absmax = DynamicMap::Unsigned.narrow(squares, second);
    }
}

impl Mean {
    /// Takes the moment out of the state; zero before the first step.
    fn take(state: &mut OptimizerState, parameter: Parameter<'_>, [codes, absmax]: [&str; 2]) -> Self {
        let elements = parameter.elements();
        let absmax = state.take(parameter, absmax).map(|absmax| absmax.into_data().iter::<f32>().collect());
        Self {
            // With an `absmax` of zero every code stands for zero.
            codes: state.take_codes(parameter, codes).unwrap_or_else(|| vec![0; elements]),
            absmax: absmax.unwrap_or_else(|| vec![0.0; blocks(elements)]),
        }
    }

    fn put(
        self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        [codes, absmax]: [&str; 2],
        device: &burn::tensor::Device,
    ) {
        let length = self.absmax.len();
        state.put(parameter, absmax, Tensor::from_data(TensorData::new(self.absmax, [length]), device));
        state.put_codes(parameter, codes, self.codes);
    }
}
