//! [`ScaledNorms`]: the norms of a block whose branches are multiplied by trained vectors (LayerScale) and, in training, left
//! out for some rows (stochastic depth).
//!
//! Which rows a branch is left out for is a function of the key of the step, the number of the row in the step, the block and
//! the branch: no split into micro-batches changes it.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::{Mode, stream, uniform};

use super::{BlockConfig, Norm};
use crate::parameters::{ParameterSource, Role, under, vector};

/// A norm, a scale and a share of dropped rows for each branch.
#[derive(Module, Debug)]
pub struct ScaledNorms {
    /// Of attention.
    pub(super) attention: ScaledBranch,
    /// Of the MLP.
    pub(super) mlp: ScaledBranch,
}

/// The norm before a branch and the scale behind it.
#[derive(Module, Debug)]
pub struct ScaledBranch {
    norm: Norm,
    /// `[width]`.
    scale: Param<Tensor<1>>,
    #[module(skip)]
    drop_path: f64,
    /// The name of its random stream.
    #[module(skip)]
    stream: String,
}

impl ScaledNorms {
    /// Reads the parameters of layer `layer`, counted from zero; `initial` is that of scales, and `drop_path` the share of rows.
    pub(super) fn new(
        config: &BlockConfig,
        layer: usize,
        (initial, drop_path): (f32, f64),
        source: &mut dyn ParameterSource,
    ) -> Self {
        let mut branch = |name: &str| {
            let source = &mut under(source, name);
            ScaledBranch {
                norm: Norm::new(config.norm, config.width, &mut under(source, "norm")),
                scale: vector(source, "scale", config.width, Role::Vector, initial),
                drop_path,
                stream: format!("drop path {layer}.{name}"),
            }
        };
        Self { attention: branch("attention"), mlp: branch("mlp") }
    }
}

impl ScaledBranch {
    /// `x + scale * branch(norm(x))`, `[batch, time, width]`.
    pub(super) fn forward(&self, x: Tensor<3>, mode: Mode, branch: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let added = branch(self.norm.forward(x.clone())) * self.scale.val().unsqueeze();
        match (mode, self.drop_path > 0.0) {
            (Mode::Training { key, first_row }, true) => x + self.dropped(added, key, first_row),
            (Mode::Training { .. }, false) | (Mode::Inference, _) => x + added,
        }
    }

    /// `x` without some of its rows, and the others divided by the share that is kept.
    fn dropped(&self, x: Tensor<3>, key: u64, first_row: usize) -> Tensor<3> {
        let [batch, ..] = x.dims();
        let keep = 1.0 - self.drop_path;
        let of_row = |row: usize| {
            // Uniform in [-1, 1).
            let drawn = uniform(&mut stream(key, &format!("{}#{row}", self.stream)), 1, 1.0)[0];
            if (f64::from(drawn) + 1.0) / 2.0 < keep { (1.0 / keep) as f32 } else { 0.0 }
        };
        let factors: Vec<f32> = (first_row..first_row + batch).map(of_row).collect();
        x.clone() * Tensor::from_data(TensorData::new(factors, [batch, 1, 1]), &x.device())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::parameters::Random;
    use crate::parts::{Affine, NormConfig};

    fn branch(drop_path: f64) -> ScaledBranch {
        let source = &mut Random { seed: 1, deviation: 0.1, device: Device::flex() };
        let norm = NormConfig::Layer { eps: 1e-6, affine: Affine::WeightAndBias };
        ScaledBranch {
            norm: Norm::new(norm, 2, source),
            scale: vector(source, "scale", 2, Role::Vector, 1.0),
            drop_path,
            stream: "drop path 0.mlp".into(),
        }
    }

    /// What a branch of ones adds to zeros, of the first value of each row.
    fn added(drop_path: f64, rows: usize, mode: Mode) -> Vec<f32> {
        let x = Tensor::zeros([rows, 1, 2], &Device::flex());
        let y = branch(drop_path).forward(x, mode, |x| x.ones_like());
        y.into_data().iter::<f32>().step_by(2).collect()
    }

    #[test]
    fn a_row_keeps_its_paths_in_any_micro_batch() {
        let training = |first_row| Mode::Training { key: 5, first_row };
        let whole = added(0.4, 200, training(0));
        let parts = [added(0.4, 120, training(0)), added(0.4, 80, training(120))].concat();
        assert_eq!(whole, parts);
        let kept = whole.iter().filter(|value| **value > 0.0).count();
        assert!((95..145).contains(&kept), "{kept} of 200");
        assert!(whole.iter().all(|value| *value == 0.0 || (value - 1.0 / 0.6).abs() < 1e-6));
        assert_ne!(whole, added(0.4, 200, Mode::Training { key: 6, first_row: 0 }));
    }

    #[test]
    fn nothing_is_left_out_without_training_or_without_a_share() {
        assert_eq!(added(0.4, 3, Mode::Inference), [1.0; 3]);
        assert_eq!(added(0.0, 3, Mode::Training { key: 5, first_row: 0 }), [1.0; 3]);
    }
}
