//! Dropout of the inputs of adapters: [`Dropout`], whose masks depend on the key of a step, the module and the position of a token, not on
//! how the tokens are split or ordered.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{Place, stream};

/// The dropout of one module.
#[derive(Debug, Clone)]
pub(crate) struct Dropout {
    probability: f64,
    path: String,
}

impl Dropout {
    /// That of the module at `path`.
    pub fn new(probability: f64, path: &str) -> Self {
        Self { probability, path: path.into() }
    }

    /// The same module without dropout.
    pub fn without(&self) -> Self {
        Self::new(0.0, &self.path)
    }

    pub fn drops(&self) -> bool {
        self.probability > 0.0
    }

    /// `x` with some values zeroed and the others scaled up. `places` gives the positions of the tokens of `x` `[1, tokens, width]`, where
    /// `x` `[batch, time, width]` is not all rows from `first_row` on in order.
    pub fn apply(&self, x: Tensor<3>, key: u64, first_row: usize, places: Option<&[Place]>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let mut mask = Vec::with_capacity(batch * time * width);
        match places {
            Some(places) => {
                for place in places {
                    let mut rng = self.of_row(key, first_row + place.row);
                    // Each value takes one word of the random stream.
                    rng.set_word_pos((place.time * width) as u128);
                    self.extend(&mut mask, &mut rng, width);
                }
            }
            None => {
                for row in first_row..first_row + batch {
                    self.extend(&mut mask, &mut self.of_row(key, row), time * width);
                }
            }
        }
        let mask = Tensor::from_data(TensorData::new(mask, [batch, time, width]), &x.device());
        x * mask
    }

    fn of_row(&self, key: u64, row: usize) -> ChaCha8Rng {
        stream(key, &format!("{}#{row}", self.path))
    }

    fn extend(&self, mask: &mut Vec<f32>, rng: &mut ChaCha8Rng, count: usize) {
        let keep = 1.0 - self.probability;
        let kept = (1.0 / keep) as f32;
        mask.extend((0..count).map(|_| if f64::from(rng.random::<f32>()) < keep { kept } else { 0.0 }));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn dropped(probability: f64, shape: [usize; 3], key: u64, first_row: usize, places: Option<&[Place]>) -> Vec<f32> {
        let ones = Tensor::ones(shape, &Device::flex());
        Dropout::new(probability, "q").apply(ones, key, first_row, places).into_data().try_to_vec().unwrap()
    }

    #[test]
    fn a_row_keeps_its_mask_in_any_micro_batch() {
        let whole = dropped(0.5, [2, 3, 6], 5, 0, None);
        assert_eq!(whole[18..], dropped(0.5, [1, 3, 6], 5, 1, None));
    }

    #[test]
    fn a_token_keeps_its_mask_in_any_order() {
        let whole = dropped(0.5, [2, 3, 6], 5, 4, None);
        let places = [Place { row: 1, time: 2 }, Place { row: 0, time: 1 }, Place { row: 1, time: 0 }];
        let some = dropped(0.5, [1, 3, 6], 5, 4, Some(&places));
        assert_eq!(some, [&whole[30..36], &whole[6..12], &whole[18..24]].concat());
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let dropped = dropped(0.3, [1, 1000, 100], 9, 0, None);
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        let zeros = dropped.iter().filter(|value| **value == 0.0).count() as f32 / dropped.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        assert!((zeros - 0.3).abs() < 0.01, "zeros {zeros}");
    }
}
