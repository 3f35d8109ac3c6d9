//! Sums and maxima over slices in one fixed order, in lanes that the compiler vectorises.

/// Partial sums side by side. Part of the result.
pub(crate) const LANES: usize = 16;

/// `sum f(x_i, y_i)` in `COUNT` partial sums. `x` and `y` are equally long.
#[inline(always)]
pub(crate) fn sum_of<const COUNT: usize>(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; COUNT];
    let (x_chunks, y_chunks) = (x.chunks_exact(COUNT), y.chunks_exact(COUNT));
    let rest = x_chunks.remainder().iter().zip(y_chunks.remainder());
    for (x, y) in x_chunks.zip(y_chunks) {
        for lane in 0..COUNT {
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
    sum_of::<LANES>(x, y, |x, y| x * y)
}

/// The largest number of a row, which NaN does not hide; minus infinity if there is none.
#[inline(always)]
pub(crate) fn maximum<const COUNT: usize>(row: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; COUNT];
    let chunks = row.chunks_exact(COUNT);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..COUNT {
            best[lane] = if chunk[lane] > best[lane] { chunk[lane] } else { best[lane] };
        }
    }
    for (best, value) in best.iter_mut().zip(rest) {
        *best = if *value > *best { *value } else { *best };
    }
    best.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
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
