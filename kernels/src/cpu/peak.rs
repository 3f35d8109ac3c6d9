//! The most multiplications a second that the chosen instructions can do: [`peak_multiplications`].

use super::{
    dispatch,
    pairs::{PairInstructions, most_pairs},
};
use crate::precision::Precision;
use pulp::{Simd, WithSimd};
use std::{hint::black_box, time::Instant};

/// Sums that do not wait for each other: as many as keep the units busy, and no more than there are registers.
const SUMS: usize = 12;
/// Turns of the loop between two looks at the clock, and the looks.
const TURNS: usize = if cfg!(test) { 20_000 } else { 2_000_000 };
const LOOKS: usize = 5;

/// Multiplications, each with an addition, that all threads of the current rayon pool do in a second with operands in registers, in
/// the instructions that products of this precision use. It takes a fraction of a second, and is measured on an idle machine.
pub fn peak_multiplications(precision: Precision) -> f64 {
    (0..LOOKS).map(|_| look(precision)).fold(0.0, f64::max)
}

fn look(precision: Precision) -> f64 {
    let start = Instant::now();
    let done: f64 = rayon::broadcast(|_| on_this_thread(precision)).into_iter().sum();
    done / start.elapsed().as_secs_f64()
}

fn on_this_thread(precision: Precision) -> f64 {
    if let (Precision::Bf16, Some(instructions)) = (precision, PairInstructions::chosen()) {
        return most_pairs(instructions, TURNS);
    }
    dispatch(Most)
}

struct Most;

impl WithSimd for Most {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let factor = simd.splat_f32s(black_box(0.999));
        let mut sums = [simd.splat_f32s(black_box(1.0)); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        (TURNS * SUMS * S::F32_LANES) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::with_each_instruction_set;

    #[test]
    fn it_is_a_rate() {
        with_each_instruction_set(|| {
            for precision in [Precision::F32, Precision::Bf16] {
                let rate = peak_multiplications(precision);
                assert!(rate.is_finite() && rate > 1e6, "{rate}");
            }
        });
    }
}
