//! Initialisation of low-rank adapters: [`LoraInit`] says at which values the factors start.
//!
//! `kaiming` and `gaussian` start at `B A = 0` with `B = 0`; `orthogonal` starts at `B A = 0` with both factors
//! non-zero (<https://datta0.github.io/posts/rethink-lora-init/>). PiSSA (arXiv:2404.02948) and OLoRA
//! (arXiv:2406.01775) start at a part of the weight: its largest singular components, or the first columns of `Q` and
//! rows of `R` of its QR decomposition. For these PEFT subtracts `s B0 A0` from the base's weight. Here the base is not
//! changed and the start is subtracted in the product: this is the same function with the same gradients, and no weight
//! is rounded again. What is written is at every step an adapter of twice the rank, `[B, -B0] [A; A0]`, for the
//! *original* base, as PEFT's `path_initial_model_for_weight_conversion` makes it. The signs of the components are as
//! in `kernels`.
//!
//! LoftQ needs the original weight beside the quantized one and is in `loftq.rs`. Not here: EVA, CorDA and LoRA-GA,
//! which need data.

use std::sync::Arc;

use firebrand_kernels::{Svd, leading_svd, qr};

use crate::{AdapterError, Linear, LoraFactors, normal, stream, uniform};

/// The initialisations of factors; the names are PEFT's, where `true` is `Kaiming`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoraInit {
    /// `A` uniform in `+-1/sqrt(in)`, which is kaiming-uniform with `a = sqrt(5)`; `B` zero.
    #[default]
    Kaiming,
    /// `A` normal with standard deviation `1/rank`; `B` zero.
    Gaussian,
    /// `A` and `B` random in orthogonal subspaces of the rank's space. The rank must be even.
    Orthogonal,
    /// The largest singular components of the weight.
    Pissa,
    /// The first components of the weight's QR decomposition.
    Olora,
    /// The largest singular components of the quantization error of the base; they stay in the product.
    Loftq,
}

/// The start to which the tensors in files are relative.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// No start: files hold the factors.
    Zero,
    /// A part of the weight, which is also subtracted in the product.
    Subtracted(Arc<LoraFactors>),
    /// The quantization error of the weight, which stays in the product.
    Kept(Arc<LoraFactors>),
}

impl Origin {
    pub fn factors(&self) -> Option<&Arc<LoraFactors>> {
        match self {
            Self::Zero => None,
            Self::Subtracted(start) | Self::Kept(start) => Some(start),
        }
    }
}

/// The settings that an initialisation needs.
pub(crate) struct Start<'a> {
    pub seed: u64,
    pub path: &'a str,
    pub rank: usize,
    pub scale: f64,
}

impl LoraInit {
    /// Whether files hold the difference to the start, as an adapter of twice the rank: true for starts whose product
    /// is not zero.
    pub fn is_written_as_difference(self) -> bool {
        match self {
            Self::Kaiming | Self::Gaussian | Self::Orthogonal => false,
            Self::Pissa | Self::Olora | Self::Loftq => true,
        }
    }

    /// The initial factors on `base`.
    ///
    /// # Errors
    /// A rank that the initialisation does not allow.
    pub(crate) fn factors(self, start: &Start<'_>, base: &Linear) -> Result<LoraFactors, AdapterError> {
        let [out, input] = base.shape();
        let Start { seed, path, rank, .. } = *start;
        let refuse = |problem| Err(AdapterError::Initial { path: path.into(), problem });
        if self.is_written_as_difference() && rank > out.min(input) {
            return refuse(format!("a weight of {out} x {input} has no part of rank {rank}; choose a lower rank"));
        }
        let mut rng = stream(seed, &format!("{path}.lora_A.weight"));
        match self {
            Self::Kaiming => {
                let a = uniform(&mut rng, rank * input, 1.0 / (input as f32).sqrt());
                Ok(LoraFactors { a, b: vec![0.0; out * rank] })
            }
            Self::Gaussian => {
                let a = (0..rank * input).map(|_| (normal(&mut rng) / rank as f64) as f32).collect();
                Ok(LoraFactors { a, b: vec![0.0; out * rank] })
            }
            Self::Orthogonal if !rank.is_multiple_of(2) => {
                refuse(format!("an orthogonal start needs an even rank, not {rank}"))
            }
            Self::Orthogonal => {
                let mut draw = |count: usize| (0..count).map(|_| normal(&mut rng) as f32).collect::<Vec<_>>();
                let (basis, _) = qr(&draw(rank * rank), rank, rank, rank);
                let (odd, even): (Vec<_>, Vec<_>) = basis.chunks(rank).enumerate().partition(|(row, _)| row % 2 == 0);
                let rows = |rows: &[(usize, &[f32])]| rows.iter().flat_map(|(_, row)| row.to_vec()).collect::<Vec<_>>();
                let a = mixed(&draw(input * rank / 2), &rows(&odd), rank);
                Ok(LoraFactors { a: transposed(&a, rank), b: mixed(&draw(out * rank / 2), &rows(&even), rank) })
            }
            Self::Pissa => match leading_svd(&base.values(), out, input, rank, &mut || normal(&mut rng) as f32) {
                Some(found) => Ok(principal(&found, start.scale)),
                None => refuse("its weight has no singular value decomposition; are all its numbers finite?".into()),
            },
            Self::Olora => {
                let (b, a) = qr(&base.values(), out, input, rank);
                Ok(LoraFactors { a, b })
            }
            Self::Loftq => refuse("loftq needs the original weight beside the quantized one".into()),
        }
    }
}

/// `A` and `B` whose product times `scale` is that of the decomposition; both take the root of each singular value.
pub(crate) fn principal(svd: &Svd, scale: f64) -> LoraFactors {
    let components = svd.values.len();
    let roots: Vec<f64> = svd.values.iter().map(|value| (f64::from(*value) / scale).sqrt()).collect();
    let columns = svd.right.len() / components.max(1);
    let scaled = |(value, root): (&f32, &f64)| (f64::from(*value) * root) as f32;
    let rows = svd.right.chunks(columns).zip(&roots);
    let a = rows.flat_map(|(row, root)| row.iter().map(|value| scaled((value, root))).collect::<Vec<_>>()).collect();
    let b = svd.left.chunks(components);
    let b = b.flat_map(|row| row.iter().zip(&roots).map(scaled)).collect();
    LoraFactors { a, b }
}

/// `draws [rows, rank / 2] * basis [rank / 2, rank] / 10`, row-major.
fn mixed(draws: &[f32], basis: &[f32], rank: usize) -> Vec<f32> {
    let combine = |draws: &[f32], column: usize| -> f64 {
        draws.iter().zip(basis.chunks(rank)).map(|(draw, row)| f64::from(*draw) * f64::from(row[column])).sum()
    };
    draws.chunks(rank / 2).flat_map(|row| (0..rank).map(move |column| (combine(row, column) / 10.0) as f32)).collect()
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{Device, TensorData};

    use super::*;

    const SHAPE: [usize; 2] = [5, 6];

    fn base() -> Linear {
        let values: Vec<f32> = (0..30).map(|i| (i as f32 * 0.9).sin() * (1.0 + i as f32 / 9.0)).collect();
        Linear::new(Param::from_data(TensorData::new(values, SHAPE), &Device::flex()), None)
    }

    fn start(init: LoraInit, rank: usize) -> Result<LoraFactors, AdapterError> {
        init.factors(&Start { seed: 3, path: "layers.0.q", rank, scale: 1.5 }, &base())
    }

    /// `scale B A`, `[out, in]`.
    fn product(factors: &LoraFactors, rank: usize) -> Vec<f32> {
        let at = |row: usize, column: usize| -> f32 {
            (0..rank).map(|k| factors.b[row * rank + k] * factors.a[k * SHAPE[1] + column]).sum()
        };
        (0..SHAPE[0]).flat_map(|row| (0..SHAPE[1]).map(move |column| 1.5 * at(row, column))).collect()
    }

    fn norm(values: impl Iterator<Item = f32>) -> f32 {
        values.map(|value| value * value).sum::<f32>().sqrt()
    }

    #[test]
    fn starts_that_are_no_part_of_the_weight_change_nothing() {
        for init in [LoraInit::Kaiming, LoraInit::Gaussian, LoraInit::Orthogonal] {
            let factors = start(init, 4).unwrap();
            assert!(norm(factors.a.iter().copied()) > 0.1, "{init:?}");
            assert!(norm(product(&factors, 4).into_iter()) < 1e-6, "{init:?}");
        }
        assert!(norm(start(LoraInit::Orthogonal, 4).unwrap().b.into_iter()) > 0.1);
        assert!(start(LoraInit::Orthogonal, 3).unwrap_err().to_string().contains("even"));
    }

    #[test]
    fn pissa_is_the_best_approximation_of_its_rank_and_olora_a_worse_one() {
        let weight = base().values();
        let left = |init, rank| {
            let product = product(&start(init, rank).unwrap(), rank);
            norm(
                weight
                    .iter()
                    .zip(&product)
                    .map(|(weight, part)| if init == LoraInit::Pissa { weight - part } else { weight - part / 1.5 }),
            )
        };
        let values = firebrand_kernels::svd(&weight, 5, 6).unwrap().values;
        let best = values[2..].iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((left(LoraInit::Pissa, 2) - best).abs() < 1e-4);
        assert!(left(LoraInit::Olora, 2) > best);
        assert!(left(LoraInit::Pissa, 5) < 1e-4 && left(LoraInit::Olora, 5) < 1e-4);
        assert!(start(LoraInit::Pissa, 6).unwrap_err().to_string().contains("5 x 6"));
    }

    #[test]
    fn a_gaussian_start_has_the_deviation_of_its_rank() {
        let weight = Param::from_data(TensorData::new(vec![0.0_f32; 4_000], [4, 1_000]), &Device::flex());
        let start = Start { seed: 1, path: "q", rank: 4, scale: 1.0 };
        let a = LoraInit::Gaussian.factors(&start, &Linear::new(weight, None)).unwrap().a;
        let deviation = norm(a.iter().copied()) / (a.len() as f32).sqrt();
        assert!((deviation - 0.25).abs() < 0.01, "{deviation}");
    }
}
