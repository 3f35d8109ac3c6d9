//! The mean of f32 numbers in the order in which torch takes it.
//!
//! Double quantization subtracts it from every scale, so its last bit is part of the format. torch adds eight lanes side by side, in four
//! interleaved rows, each row in a cascade of four levels (`SumKernel.cpp`); with several threads it splits long sums by their number, which
//! is not a function of the numbers alone: this is its result on one thread.

/// Numbers side by side in one vector of torch's kernel.
const LANES: usize = 8;
/// Vectors that are summed independently.
const ROWS: usize = 4;
/// Partial sums of growing length.
const LEVELS: usize = 4;

/// The mean; zero of none.
pub(super) fn mean(values: &[f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    sum(values) / values.len() as f32
}

fn sum(values: &[f32]) -> f32 {
    if values.len() < LANES {
        let single: Vec<[f32; 1]> = values.iter().map(|value| [*value]).collect();
        return sum_rows(&single)[0];
    }
    let (vectors, rest) = values.as_chunks::<LANES>();
    let mut total = 0.0;
    for value in rest.iter().chain(&sum_rows(vectors)) {
        total += value;
    }
    total
}

/// The sum of vectors: row `i` takes every fourth, from the `i`th on.
fn sum_rows<const WIDTH: usize>(vectors: &[[f32; WIDTH]]) -> [f32; WIDTH] {
    let (whole, rest) = vectors.as_chunks::<ROWS>();
    let mut rows = cascade(whole);
    for vector in rest {
        add(&mut rows[0], vector);
    }
    let [mut total, others @ ..] = rows;
    for row in &others {
        add(&mut total, row);
    }
    total
}

fn cascade<const WIDTH: usize>(groups: &[[[f32; WIDTH]; ROWS]]) -> [[f32; WIDTH]; ROWS] {
    let power = (ceil_log2(groups.len()) / LEVELS).max(4);
    let step = 1 << power;
    let mut levels = [[[0.0; WIDTH]; ROWS]; LEVELS];
    let chunks = groups.chunks_exact(step);
    let rest = chunks.remainder();
    for (index, chunk) in chunks.enumerate() {
        for group in chunk {
            add_rows(&mut levels[0], group);
        }
        let done = (index + 1) * step;
        for level in 1..LEVELS {
            let below = std::mem::replace(&mut levels[level - 1], [[0.0; WIDTH]; ROWS]);
            add_rows(&mut levels[level], &below);
            if done & ((step - 1) << (level * power)) != 0 {
                break;
            }
        }
    }
    for group in rest {
        add_rows(&mut levels[0], group);
    }
    let [mut total, others @ ..] = levels;
    for level in &others {
        add_rows(&mut total, level);
    }
    total
}

fn add_rows<const WIDTH: usize>(sums: &mut [[f32; WIDTH]; ROWS], rows: &[[f32; WIDTH]; ROWS]) {
    for (sum, row) in sums.iter_mut().zip(rows) {
        add(sum, row);
    }
}

fn add<const WIDTH: usize>(sums: &mut [f32; WIDTH], vector: &[f32; WIDTH]) {
    for (sum, value) in sums.iter_mut().zip(vector) {
        *sum += value;
    }
}

fn ceil_log2(count: usize) -> usize {
    if count <= 1 { 0 } else { (count - 1).ilog2() as usize + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn any_length_has_its_mean() {
        for len in [0, 1, 3, 7, 8, 31, 33, 500, 9000, 70_001] {
            let values = numbers(len, 3);
            let exact: f64 = values.iter().map(|value| f64::from(*value)).sum::<f64>() / len.max(1) as f64;
            assert!((f64::from(mean(&values)) - exact).abs() < 1e-7, "{len} numbers");
        }
    }
}
