//! ALiBi, the linear position bias (Press et al. 2021, arXiv:2108.12409), in the arithmetic of each family.
//!
//! A number added to all scores of a query changes nothing, so the formulas `slope * key position` and `slope * distance` mean the same
//! in exact arithmetic. Rounded to bf16 they do not, which is why Falcon's rounding is part of its model.

/// What is added to the scores for the distance between key and query, with one slope a query head.
#[derive(Clone, Debug, PartialEq)]
pub enum Alibi {
    /// Adds `slope * (key position - query position)` to the scaled score, in f32: BLOOM and MPT.
    Exact {
        /// One a query head.
        slopes: Vec<f32>,
    },
    /// Adds `b(key position) - b(query position)` to `q . k` before the scale, with `b(p) = bf16(bf16(slope) * bf16(p))`: Falcon.
    ///
    /// Positions are counted from the first key of the query's segment, so a row of a pack has those it has alone. The reference adds
    /// `b(key position)` only; the other term keeps numbers small.
    Bf16 {
        /// One a query head.
        slopes: Vec<f32>,
    },
}

impl Alibi {
    /// One slope a query head.
    pub fn slopes(&self) -> &[f32] {
        match self {
            Self::Exact { slopes } | Self::Bf16 { slopes } => slopes,
        }
    }
}

/// `bf16(bf16(slope) * bf16(position))` for a slope that is rounded already.
#[inline(always)]
pub(super) fn rounded_bias(rounded_slope: f32, position: f32) -> f32 {
    round(rounded_slope * round(position))
}

/// The nearest number that bf16 has; of two, the even one. For finite numbers.
///
/// `bf16::from_f32` branches on NaN, and the loop over keys would not be vectorised.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;
    use crate::{
        AttentionOptions, Sight, attention, composed,
        testing::{assert_near, integers, random, values},
    };
    use burn::tensor::{Device, Tensor, bf16};

    /// Position and bias of a head with slope `2^-0.5`, and of one with `2^-2`, in `build_alibi_tensor` of transformers 5.23.0 (Falcon).
    const OF_REFERENCE: [(usize, f32, f32); 10] = [
        (1, 0.70703125, 0.25),
        (3, 2.125, 0.75),
        (100, 70.5, 25.0),
        (255, 180.0, 63.75),
        (257, 181.0, 64.0),
        (259, 184.0, 65.0),
        (300, 212.0, 75.0),
        (511, 362.0, 128.0),
        (1021, 720.0, 255.0),
        (2047, 1448.0, 512.0),
    ];

    #[test]
    fn rounding_is_that_of_the_reference() {
        for (position, odd, even) in OF_REFERENCE {
            assert_eq!(rounded_bias(round(0.5f32.sqrt()), position as f32), odd);
            assert_eq!(rounded_bias(round(0.25), position as f32), even);
        }
    }

    #[test]
    fn rounding_is_that_of_bf16() {
        for bits in (0..0x7f7f_0000u32).step_by(997).chain(0x3f80_0000..0x3f82_0000) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                assert_eq!(round(x).to_bits(), bf16::from_f32(x).to_f32().to_bits(), "{x:e}");
            }
        }
    }

    /// The weights of the last query when all products are zero: what the bias alone makes of them.
    fn weights(form: fn(Tensor<4>, Tensor<4>, Tensor<4>, &AttentionOptions) -> Tensor<4>, keys: usize) -> Vec<f32> {
        let device = Device::flex();
        let slopes = vec![0.5f32.sqrt(), 0.25];
        let options = AttentionOptions {
            scale: 0.01,
            sight: Sight::Causal { window: None },
            softcap: None,
            alibi: Some(Alibi::Bf16 { slopes }),
            precision: Precision::F32,
        };
        let zeros = Tensor::<4>::zeros([1, keys, 1, 4], &device);
        let unit = Tensor::<2>::eye(keys, &device).reshape([1, keys, 1, keys]);
        values(form(Tensor::zeros([1, 1, 2, 4], &device), zeros, unit, &options))
    }

    #[test]
    fn weights_are_those_of_the_reference_at_long_distances() {
        let keys = 512;
        let fused = weights(|q, k, v, options| attention(q, k, v, None, options), keys);
        let composed = weights(|q, k, v, options| composed::attention(q, k, v, None, options), keys);
        for weights in [fused, composed] {
            for (position, odd, even) in OF_REFERENCE.into_iter().filter(|(position, ..)| *position < keys) {
                for (bias, weights) in [odd, even].iter().zip(weights.chunks_exact(keys)) {
                    // Key 0 has no bias; the logarithm is rounded, and so are numbers up to 3.6 before it.
                    assert_near(&[(weights[position] / weights[0]).ln()], &[0.01 * bias], 2e-6);
                }
            }
        }
    }

    #[test]
    fn a_row_of_a_pack_has_the_positions_it_has_alone() {
        let (lengths, heads, dim) = ([37, 290, 5], 3, 8);
        let time = lengths.iter().sum();
        let segments: Vec<i64> =
            lengths.iter().zip(1i64..).flat_map(|(length, segment)| vec![segment; *length]).collect();
        let segments = integers(&segments, [1, time]);
        let alibi = Some(Alibi::Bf16 { slopes: vec![0.7, 0.35, 0.09] });
        let options = AttentionOptions {
            scale: 0.35,
            sight: Sight::Causal { window: None },
            softcap: None,
            alibi,
            precision: Precision::F32,
        };
        let [q, k, v] = [1, 2, 3].map(|seed| random([1, time, heads, dim], seed) * 4.0);
        let pack = attention(q.clone(), k.clone(), v.clone(), Some((segments.clone(), segments)), &options);
        let mut first = 0;
        for length in lengths {
            let part = |x: &Tensor<4>| x.clone().slice([0..1, first..first + length]);
            let alone = attention(part(&q), part(&k), part(&v), None, &options);
            assert_near(&values(part(&pack)), &values(alone), 1e-6);
            first += length;
        }
    }

    #[test]
    fn one_query_continues_a_row() {
        let (time, heads) = (301, 4);
        let alibi = Some(Alibi::Bf16 { slopes: vec![0.7, 0.35, 0.17, 0.09] });
        for window in [None, Some(40)] {
            let options = AttentionOptions {
                scale: 0.3,
                sight: Sight::Causal { window },
                softcap: None,
                alibi: alibi.clone(),
                precision: Precision::F32,
            };
            let [q, k, v] = [1, 2, 3].map(|seed| random([2, time, heads, 6], seed) * 4.0);
            let last = |x: Tensor<4>| x.slice([0..2, time - 1..time]);
            let all = last(attention(q.clone(), k.clone(), v.clone(), None, &options));
            assert_near(&values(attention(last(q), k, v, None, &options)), &values(all), 1e-6);
        }
    }
}
