//! LoRA on the token table and the output head: [`Lora::look_up`] for the table, whose rows are looked up, and
//! [`Lora::widened`] for the head, which is one operation with the loss.
//!
//! On the table (PEFT's `lora.Embedding`) the adapter is that of the map from one-hot ids, with weight `[width, rows]`:
//! `A [rank, rows]` starts at zero, `B [width, rank]` is normal, and there is no dropout. On the head, `s A h` is
//! appended to the hidden states and `B` to the matrix: `W h + B (s A h) = [W B] [h; s A h]`.

use burn::tensor::Tensor;
use firebrand_kernels::{Precision, linear};

use crate::{AdapterConfig, AdapterError, Linear, Lora, LoraConfig, LoraFactors, LoraInit, Mode, normal, stream};

impl Lora {
    /// The adapter's addition to looked-up rows. `rows` looks up a table `[rows, any]` in the same way as the base's.
    pub fn look_up(&self, rows: impl FnOnce(Tensor<2>) -> Tensor<3>) -> Tensor<3> {
        linear(rows(self.a.val().transpose()) * self.scale(), self.b.val(), Precision::F32)
    }

    /// `x` `[batch, time, in]` with `s A dropout(x)` appended, `[batch, time, in + rank]`, for a product with `[W B]`.
    pub fn widened(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        let narrow = linear(self.dropped(x.clone(), mode, None), self.a.val(), Precision::F32) * self.scale();
        Tensor::cat(vec![x, narrow], 2)
    }
}

impl LoraConfig {
    /// The initial values on a token table, whose adapter is that of a weight `[width, rows]`.
    ///
    /// # Errors
    /// A pattern that does not compile, or an initialisation that tables do not support.
    pub fn initial_of_table(
        &self,
        seed: u64,
        path: &str,
        [width, rows]: [usize; 2],
    ) -> Result<LoraFactors, AdapterError> {
        match self.init {
            LoraInit::Kaiming | LoraInit::Gaussian => {}
            LoraInit::Orthogonal | LoraInit::Pissa | LoraInit::Olora | LoraInit::Loftq => {
                return Err(starts_plainly(path));
            }
        }
        let rank = self.rank_at(path)?;
        let mut rng = stream(seed, &format!("{path}.lora_embedding_B"));
        let b = (0..width * rank).map(|_| normal(&mut rng) as f32).collect();
        Ok(LoraFactors { a: vec![0.0; rank * rows], b })
    }

    /// The initial values on the head, given as a linear map.
    ///
    /// # Errors
    /// As [`Self::initial_of_table`].
    pub fn initial_of_head(&self, seed: u64, path: &str, head: &Linear) -> Result<LoraFactors, AdapterError> {
        match self.init {
            LoraInit::Kaiming | LoraInit::Gaussian | LoraInit::Orthogonal => self.initial(seed, path, head),
            LoraInit::Pissa | LoraInit::Olora | LoraInit::Loftq => Err(starts_plainly(path)),
        }
    }
}

impl AdapterConfig {
    /// The LoRA configuration for an adapter on the table or the head at `path`.
    ///
    /// # Errors
    /// A method other than LoRA.
    pub fn on_table(&self, path: &str) -> Result<&LoraConfig, AdapterError> {
        match self {
            Self::Lora(lora) => Ok(lora),
            Self::Dora(_) | Self::Ia3(_) => Err(AdapterError::Initial {
                path: path.into(),
                problem: format!("of embeddings and output heads only LoRA adapts them, not {}", self.kind()),
            }),
        }
    }
}

fn starts_plainly(path: &str) -> AdapterError {
    let problem = "adapters of embeddings and output heads start at kaiming or gaussian values; choose one of them as init, or \
                   leave the module out";
    AdapterError::Initial { path: path.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, Int, TensorData};

    use super::*;
    use crate::Targets;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn matrix<const D: usize>(shape: [usize; D], seed: f32) -> Tensor<D> {
        Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), &Device::flex())
    }

    fn config(init: LoraInit) -> LoraConfig {
        LoraConfig { dropout: 0.5, init, ..LoraConfig::new(2, 3.0, Targets::AllLinear) }
    }

    fn lora() -> Lora {
        let factors = LoraFactors { a: numbers(2 * 6, 0.4), b: numbers(5 * 2, 0.7) };
        config(LoraInit::Kaiming).build("t", [5, 6], factors, &Device::flex()).unwrap()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn assert_near(left: &[f32], right: &[f32]) {
        assert_eq!(left.len(), right.len());
        for (left, right) in left.iter().zip(right) {
            assert!((left - right).abs() < 1e-5, "{left} {right}");
        }
    }

    #[test]
    fn looking_up_is_looking_up_in_the_transposed_product() {
        let (device, lora) = (Device::flex(), lora());
        let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![5i32, 0, 2, 2], [2, 2]), &device);
        let rows = |table: Tensor<2>| burn::tensor::module::embedding(table, ids.clone());
        assert_near(&values(lora.look_up(rows)), &values(rows(lora.delta().transpose())));
    }

    #[test]
    fn the_widened_product_is_the_product_with_the_merged_head() {
        let (lora, weight, hidden) = (lora(), matrix([5, 6], 0.9), matrix([2, 2, 6], 1.3));
        let merged = linear(hidden.clone(), weight.clone() + lora.delta(), Precision::F32);
        let widened =
            linear(lora.widened(hidden, Mode::Inference), Tensor::cat(vec![weight, lora.b.val()], 1), Precision::F32);
        assert_near(&values(widened), &values(merged));
    }

    #[test]
    fn both_start_at_nothing_and_refuse_what_they_do_not_have() {
        let lora = config(LoraInit::Gaussian).initial_of_table(3, "embed", [5, 6]).unwrap();
        assert_eq!((lora.a.len(), lora.b.len()), (12, 10));
        assert!(lora.a.iter().all(|value| *value == 0.0) && lora.b.iter().all(|value| *value != 0.0));
        let head = Linear::new(Param::from_tensor(matrix([5, 6], 0.9)), None);
        for init in [LoraInit::Pissa, LoraInit::Olora, LoraInit::Loftq] {
            assert!(config(init).initial_of_table(3, "embed", [5, 6]).is_err());
            assert!(config(init).initial_of_head(3, "head", &head).is_err());
        }
        assert!(AdapterConfig::Dora(config(LoraInit::Kaiming)).on_table("head").is_err());
    }
}
