//! Combination of several LoRA adapters into one, as in PEFT's `add_weighted_adapter`: [`Combination::combine`] does it
//! for one module.
//!
//! `cat` and `svd` combine the products `s B A`: the first exactly, at the sum of the ranks, the second at a chosen
//! rank. The other methods combine the factors element by element, each weighted by the root of `weight * scale`, which
//! is not the sum of the products: `linear` (PEFT calls it a rough approximation), `ties` (Yadav et al. 2023,
//! arXiv:2306.01708) and the two DARE methods (Yu et al. 2023, arXiv:2311.03099), which use our own random draws, from
//! a seed. The result has scale 1.

use firebrand_kernels::low_rank_svd;
use rand::Rng;

use crate::{AdapterError, LoraFactors, stream};

/// The methods of combination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    /// Weighted sums of `A` and of `B`.
    Linear,
    /// Concatenation of all rows of `A` and of all columns of `B`.
    Cat,
    /// The best low-rank approximation of the weighted sum of the products.
    Svd {
        /// Rank of the result; absent: the largest rank of the adapters.
        rank: Option<usize>,
    },
    /// The elements of largest magnitude in each factor, where most of them agree on the sign.
    Ties {
        /// Share of elements kept.
        density: f64,
    },
    /// Random elements of each factor, scaled up to make up for those left out.
    DareLinear {
        /// Share of elements kept.
        density: f64,
        /// Seed of the random draws.
        seed: u64,
    },
    /// Random elements as in `DareLinear`, combined by sign as in `Ties`.
    DareTies {
        /// Share of elements kept.
        density: f64,
        /// Seed of the random draws.
        seed: u64,
    },
}

/// One adapter on a module.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its factors.
    pub factors: LoraFactors,
    /// Their rank.
    pub rank: usize,
    /// The factor on `B A`.
    pub scale: f64,
    /// Its weight in the combination; may be negative.
    pub weight: f64,
}

impl Combination {
    /// Combines `parts`, all on the module at `path` with weight `[out, in]`, into factors of scale 1; returns them and
    /// their rank.
    ///
    /// # Errors
    /// Different ranks where elements are combined one by one, or values that are not finite.
    pub fn combine(
        self,
        parts: &[Part],
        path: &str,
        [_, input]: [usize; 2],
    ) -> Result<(LoraFactors, usize), AdapterError> {
        let refuse = |problem: &str| Err(AdapterError::Several { problem: format!("`{path}`: {problem}") });
        match self {
            Self::Cat => Ok(side_by_side(parts)),
            Self::Svd { rank } => {
                let rank = rank.unwrap_or_else(|| parts.iter().map(|part| part.rank).max().unwrap_or(1));
                let (sum, own) = side_by_side(parts);
                let Some(found) = low_rank_svd(&sum.b, &sum.a, own) else {
                    return refuse("a factor holds a number that is not finite");
                };
                // Divided as in PEFT: the singular values go into B.
                let components = found.values.len();
                let kept = rank.min(components);
                let mut a = found.right[..kept * input].to_vec();
                a.resize(rank * input, 0.0);
                let row = |row: &[f32]| {
                    let mut row: Vec<f32> =
                        row.iter().zip(&found.values).take(kept).map(|(left, size)| left * size).collect();
                    row.resize(rank, 0.0);
                    row
                };
                Ok((LoraFactors { a, b: found.left.chunks(components).flat_map(row).collect() }, rank))
            }
            Self::Linear | Self::Ties { .. } | Self::DareLinear { .. } | Self::DareTies { .. } => {
                let rank = parts.first().map_or(0, |part| part.rank);
                if parts.iter().any(|part| part.rank != rank) {
                    return refuse("the adapters have different ranks; use --method cat or svd");
                }
                let size = |part: &Part| (part.weight * part.scale).abs().sqrt() as f32;
                // The sign goes into one factor only, or it would cancel.
                let signed = |part: &Part| size(part) * (part.weight * part.scale).signum() as f32;
                let a = parts.iter().map(|part| (part.factors.a.as_slice(), signed(part))).collect();
                let b = parts.iter().map(|part| (part.factors.b.as_slice(), size(part))).collect();
                let [a, b] =
                    [("A", a), ("B", b)].map(|(name, tensors)| self.numbers(tensors, &format!("{path}.{name}")));
                Ok((LoraFactors { a, b }, rank))
            }
        }
    }

    /// Combines tensors element by element.
    fn numbers(self, tensors: Vec<(&[f32], f32)>, name: &str) -> Vec<f32> {
        let kept: Vec<(Vec<f32>, f32)> = tensors
            .into_iter()
            .enumerate()
            .map(|(index, (values, weight))| match self {
                Self::Ties { density } => (largest(values, density), weight),
                Self::DareLinear { density, seed } | Self::DareTies { density, seed } => {
                    (random(values, density, seed, &format!("{name}#{index}")), weight)
                }
                Self::Linear | Self::Cat | Self::Svd { .. } => (values.to_vec(), weight),
            })
            .collect();
        let length = kept.first().map_or(0, |(values, _)| values.len());
        let elect = matches!(self, Self::Ties { .. } | Self::DareTies { .. });
        (0..length).map(|index| if elect { elected(&kept, index) } else { sum(&kept, index) }).collect()
    }
}

fn side_by_side(parts: &[Part]) -> (LoraFactors, usize) {
    let none = LoraFactors { a: vec![], b: vec![] };
    let mut rank = 0;
    let mut all = none;
    for part in parts {
        let factor = (part.weight * part.scale) as f32;
        let a = part.factors.a.iter().map(|value| value * factor).collect();
        let scaled = LoraFactors { a, b: part.factors.b.clone() };
        all = if rank == 0 { scaled } else { all.concatenated(&scaled, rank, part.rank) };
        rank += part.rank;
    }
    (all, rank)
}

fn sum(tensors: &[(Vec<f32>, f32)], index: usize) -> f32 {
    tensors.iter().map(|(values, weight)| values[index] * weight).sum()
}

/// The mean of those weighted elements whose sign is that of their unweighted sum.
fn elected(tensors: &[(Vec<f32>, f32)], index: usize) -> f32 {
    let total: f32 = tensors.iter().map(|(values, _)| values[index]).sum();
    let positive = total >= 0.0;
    let agreeing = tensors.iter().filter(|(values, _)| {
        let value = values[index];
        value != 0.0 && (value > 0.0) == positive
    });
    let (sum, count) =
        agreeing.fold((0.0, 0), |(sum, count), (values, weight)| (sum + values[index] * weight, count + 1));
    sum / (count.max(1) as f32)
}

/// The `density * length` elements of largest magnitude, the others zero; of equal ones the first are kept.
fn largest(values: &[f32], density: f64) -> Vec<f32> {
    if density >= 1.0 {
        return values.to_vec();
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|left, right| values[*right].abs().total_cmp(&values[*left].abs()));
    let mut kept = vec![0.0; values.len()];
    order.into_iter().take((density * values.len() as f64) as usize).for_each(|index| kept[index] = values[index]);
    kept
}

fn random(values: &[f32], density: f64, seed: u64, name: &str) -> Vec<f32> {
    if density >= 1.0 {
        return values.to_vec();
    }
    let mut rng = stream(seed, name);
    let keep = |value: &f32| if rng.random::<f64>() < density { (f64::from(*value) / density) as f32 } else { 0.0 };
    values.iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [5, 6];

    fn part(seed: f32, rank: usize, weight: f64) -> Part {
        let numbers = |count: usize, seed: f32| (0..count).map(|i| (i as f32 * seed).sin()).collect();
        let factors = LoraFactors { a: numbers(rank * SHAPE[1], seed), b: numbers(SHAPE[0] * rank, seed + 0.2) };
        Part { factors, rank, scale: 1.5, weight }
    }

    /// The weighted sum of the products, `[out, in]`.
    fn product(parts: &[Part], out: usize, input: usize) -> Vec<f32> {
        let mut whole = vec![0.0_f32; out * input];
        for part in parts {
            let factor = (part.weight * part.scale) as f32;
            for (row, left) in whole.chunks_mut(input).zip(part.factors.b.chunks(part.rank)) {
                for (right, left) in part.factors.a.chunks(input).zip(left) {
                    row.iter_mut().zip(right).for_each(|(sum, right)| *sum += factor * left * right);
                }
            }
        }
        whole
    }

    fn combined(method: Combination, parts: &[Part]) -> (LoraFactors, Vec<f32>, usize) {
        let (factors, rank) = method.combine(parts, "q", SHAPE).unwrap();
        assert_eq!((factors.a.len(), factors.b.len()), (rank * SHAPE[1], SHAPE[0] * rank));
        let whole = product(&[Part { factors: factors.clone(), rank, scale: 1.0, weight: 1.0 }], SHAPE[0], SHAPE[1]);
        (factors, whole, rank)
    }

    fn assert_near(left: &[f32], right: &[f32]) {
        for (left, right) in left.iter().zip(right) {
            assert!((left - right).abs() < 1e-5, "{left} {right}");
        }
    }

    #[test]
    fn side_by_side_and_a_decomposition_of_enough_rank_are_the_sum_of_the_products() {
        let parts = [part(0.7, 2, 0.5), part(1.3, 1, -2.0)];
        let sum = product(&parts, 5, 6);
        let (_, cat, rank) = combined(Combination::Cat, &parts);
        assert_eq!(rank, 3);
        assert_near(&cat, &sum);
        assert_near(&combined(Combination::Svd { rank: Some(3) }, &parts).1, &sum);
        // A rank above that of the weight: the rest is zero.
        assert_near(&combined(Combination::Svd { rank: Some(8) }, &parts).1, &sum);
        assert_eq!(combined(Combination::Svd { rank: None }, &parts).2, 2);
    }

    #[test]
    fn one_adapter_alone_stays_itself() {
        let parts = [part(0.7, 2, -1.0)];
        let sum = product(&parts, 5, 6);
        for method in [
            Combination::Linear,
            Combination::Ties { density: 1.0 },
            Combination::DareLinear { density: 1.0, seed: 1 },
            Combination::DareTies { density: 1.0, seed: 1 },
        ] {
            assert_near(&combined(method, &parts).1, &sum);
        }
    }

    #[test]
    fn different_ranks_are_refused_where_numbers_are_combined() {
        let parts = [part(0.7, 2, 0.5), part(1.3, 1, 1.0)];
        let message = Combination::Linear.combine(&parts, "layers.0.q", SHAPE).unwrap_err().to_string();
        assert!(message.contains("layers.0.q") && message.contains("cat"), "{message}");
    }

    #[test]
    fn the_sign_is_that_of_most() {
        let tensors = [(vec![1.0, -3.0, 0.0], 2.0), (vec![2.0, 1.0, 0.0], 1.0)];
        let found: Vec<f32> = (0..3).map(|index| elected(&tensors, index)).collect();
        assert_eq!(found, [2.0, -6.0, 0.0]);
    }

    #[test]
    fn the_density_is_the_share_of_numbers_kept() {
        assert_eq!(largest(&[1.0, -4.0, 3.0, 0.5], 0.5), [0.0, -4.0, 3.0, 0.0]);
        let kept = random(&[1.0; 10_000], 0.25, 7, "q");
        let count = kept.iter().filter(|value| **value != 0.0).count();
        assert!((2_300..2_700).contains(&count), "{count}");
        assert!(kept.iter().all(|value| *value == 0.0 || *value == 4.0));
        assert_eq!(kept, random(&[1.0; 10_000], 0.25, 7, "q"));
    }
}
