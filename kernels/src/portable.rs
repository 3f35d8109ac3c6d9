//! What composed forms are made of on every device: products and sums that mean the same everywhere.
//!
//! On the CPU these are Burn's own. On CubeCL's devices Burn's would round f32 to TF32 where matrix units are ([`multiply`]), and add in
//! the order in which threads finish ([`sum`]).

use burn::tensor::{Device, Tensor};

use crate::precision::Precision;

/// Most numbers that one unit of a device may add one after the other: few enough for a small rounding error.
const PIECE: usize = 1 << 10;

/// `left right` of two stacks of matrices in f32: `[.., rows, inner]` and `[.., inner, columns]`, with the same sizes before these.
///
/// # Panics
/// When the sizes differ.
pub fn multiply<const D: usize>(left: Tensor<D>, right: Tensor<D>, precision: Precision) -> Tensor<D> {
    let (of_left, of_right) = (left.dims(), right.dims());
    let fits = of_left[..D - 2] == of_right[..D - 2] && of_left[D - 1] == of_right[D - 2];
    assert!(fits, "multiply: {of_left:?} and {of_right:?}");
    #[cfg(feature = "cube")]
    if crate::cube::is_cube(&left.device()) {
        return crate::cube::multiply(left, right, precision);
    }
    #[cfg(not(feature = "cube"))]
    let _ = precision;
    left.matmul(right)
}

/// The memory of a device in bytes, where its driver tells; `None` on the CPU. Opens the device.
pub fn memory_of(device: &Device) -> Option<u64> {
    #[cfg(feature = "cube")]
    return crate::cube::memory_of(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        None
    }
}

/// The result of `work`, and the kernels that devices were given meanwhile; none are on the CPU.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, u64) {
    #[cfg(feature = "cube")]
    return crate::cube::count(work);
    #[cfg(not(feature = "cube"))]
    (work(), 0)
}

/// The sum of all values, `[1]`, added in an order that depends on their number alone. On the CPU it is Burn's, whose order is fixed for up
/// to 4 Mi values.
pub fn sum<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    if !is_unordered(&values.device()) {
        return values.sum();
    }
    let count: usize = values.dims().iter().product();
    in_pieces(values.reshape([count]))
}

/// Whether Burn adds up a tensor of this device in the order in which threads finish.
fn is_unordered(device: &Device) -> bool {
    #[cfg(feature = "cube")]
    return crate::cube::is_cube(device);
    #[cfg(not(feature = "cube"))]
    {
        let _ = device;
        false
    }
}

/// Adds pieces of [`PIECE`] numbers, and then their sums.
fn in_pieces(values: Tensor<1>) -> Tensor<1> {
    let count = values.dims()[0];
    let (whole, rest) = (count / PIECE, count % PIECE);
    let row = |values: Tensor<1>, rows: usize, width: usize| values.reshape([rows, width]).sum_dim(1).reshape([rows]);
    match (whole, rest) {
        (0, 0) => Tensor::zeros([1], &values.device()),
        (0, rest) => row(values, 1, rest),
        (whole, 0) => in_pieces(row(values, whole, PIECE)),
        (whole, rest) => {
            let sums = row(values.clone().narrow(0, 0, whole * PIECE), whole, PIECE);
            let last = row(values.narrow(0, whole * PIECE, rest), 1, rest);
            in_pieces(Tensor::cat(vec![sums, last], 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, numbers, random, values};
    use burn::tensor::TensorData;

    #[test]
    fn sums_of_pieces_are_the_sum() {
        for count in [0, 1, 7, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 11, PIECE * PIECE + PIECE + 1] {
            let all = numbers(count, 3);
            let exact: f64 = all.iter().map(|value| f64::from(*value)).sum();
            let tensor = Tensor::<1>::from_data(TensorData::new(all, [count]), &Device::flex());
            assert_near(&values(in_pieces(tensor)), &[exact as f32], 1e-4);
        }
    }

    #[test]
    fn every_value_has_the_gradient_of_the_sum() {
        let x = random([PIECE + 3, 2], 1).require_grad();
        let [rows, columns] = x.dims();
        let flat = x.clone().reshape([rows * columns]);
        let grads = (in_pieces(flat) * 3.0).backward();
        assert!(values(x.grad(&grads).unwrap()).iter().all(|value| *value == 3.0));
    }
}
