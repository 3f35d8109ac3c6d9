//! Sums over slices in one fixed order, in lanes that the compiler vectorises.

/// Partial sums side by side. Part of the result.
const LANES: usize = 16;

/// `sum f(x_i, y_i)`. `x` and `y` are equally long.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (x_chunks, y_chunks) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = x_chunks.remainder().iter().zip(y_chunks.remainder());
    for (x, y) in x_chunks.zip(y_chunks) {
        for lane in 0..LANES {
            sums[lane] += f(x[lane], y[lane]);
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(rest) {
        *sum += f(*x, *y);
    }
    sums.iter().sum()
}

/// `sum x_i y_i`.
#[inline(always)]
pub(crate) fn inner_product(x: &[f32], y: &[f32]) -> f32 {
    sum_of(x, y, |x, y| x * y)
}

/// The sum of equally long vectors, first to last.
pub(crate) fn sum_vectors(vectors: impl IntoIterator<Item = Vec<f32>>, len: usize) -> Vec<f32> {
    let mut sum = vec![0.0; len];
    for vector in vectors {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += value;
        }
    }
    sum
}
