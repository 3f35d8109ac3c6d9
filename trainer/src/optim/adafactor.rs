//! The Adafactor optimiser (Shazeer & Stern 2018, arXiv:1804.04235), as `transformers.optimization.Adafactor` computes
//! it.
//!
//! What is unusual: for a matrix, only the row and column means of the squared gradients are kept; for a vector, the
//! running mean of every squared gradient. Weight decay is multiplied by the tensor's own learning rate, which grows
//! with the size of its values when `scale_parameter` is on. The relative step is `recipe::AdafactorRate`.

use burn::tensor::Tensor;

use super::parameter::Parameter;
use super::size::Size;
use super::state::{OptimizerState, Quantity};
use crate::recipe::AdafactorRecipe;

const MEAN: &str = "exp_avg";
const SQUARES: &str = "exp_avg_sq";
const ROWS: &str = "exp_avg_sq_row";
const COLUMNS: &str = "exp_avg_sq_col";

impl AdafactorRecipe {
    /// Updates one parameter, given with its gradient as flat tensors; returns the new value.
    pub(super) fn update(
        &self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let [least_square, least_size] = self.eps;
        let scale =
            if self.scale_parameter { Size::root_mean_square(&value).max(least_size) } else { Size::Known(1.0) };
        let rate = scale.times(learning_rate);
        let kept = 1.0 - (state.steps as f64).powf(self.decay_rate);
        let squares = gradient.clone() * gradient.clone() + least_square;
        let mean = |state: &mut OptimizerState, name: &str, new: Tensor<1>| {
            let old = state.take(parameter, name).unwrap_or_else(|| new.zeros_like());
            let mean = old * kept + new * (1.0 - kept);
            state.put(parameter, name, mean.clone());
            mean
        };
        let update = match factors(parameter) {
            Some([matrices, rows, columns]) => {
                let squares = squares.reshape([matrices, rows, columns]);
                let of_rows = mean(state, ROWS, squares.clone().mean_dim(2).reshape([-1]));
                let of_columns = mean(state, COLUMNS, squares.mean_dim(1).reshape([-1]));
                let of_rows = of_rows.reshape([matrices, rows, 1]);
                let by_row = (of_rows.clone() / of_rows.mean_dim(1)).sqrt().recip();
                let by_column = of_columns.reshape([matrices, 1, columns]).sqrt().recip();
                (by_row * by_column * gradient.reshape([matrices, rows, columns])).reshape([-1])
            }
            None => mean(state, SQUARES, squares).sqrt().recip() * gradient,
        };
        let excess = Size::root_mean_square(&update).over(Size::Known(self.clip_threshold)).max(1.0);
        let update = rate.clone().over(excess).scale(update);
        let update = match self.beta1 {
            None => update,
            Some(beta1) => {
                let old = state.take(parameter, MEAN).unwrap_or_else(|| update.zeros_like());
                let mean = old * beta1 + update * (1.0 - beta1);
                state.put(parameter, MEAN, mean.clone());
                mean
            }
        };
        match self.weight_decay {
            0.0 => value - update,
            decay => rate.times(-decay).plus(1.0).scale(value) - update,
        }
    }

    /// The state tensors of a parameter.
    pub(super) fn quantities(&self, parameter: Parameter<'_>) -> Vec<Quantity> {
        let mut kept = match factors(parameter) {
            Some([matrices, rows, columns]) => {
                vec![Quantity::floats(ROWS, matrices * rows), Quantity::floats(COLUMNS, matrices * columns)]
            }
            None => vec![Quantity::floats(SQUARES, parameter.elements())],
        };
        if self.beta1.is_some() {
            kept.push(Quantity::floats(MEAN, parameter.elements()));
        }
        kept
    }
}

/// The shape as `[matrices, rows, columns]`: the last two dimensions are factored, the others are a batch. `None` for a
/// vector.
fn factors(parameter: Parameter<'_>) -> Option<[usize; 3]> {
    match parameter.shape {
        [matrices @ .., rows, columns] => Some([matrices.iter().product(), *rows, *columns]),
        _ => None,
    }
}
