//! What the tests of several operations share.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Numbers in `-0.5..0.5` that look random and are the same on every machine.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor of [`numbers`] on the CPU, ready for autodiff.
pub(crate) fn random<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let data = TensorData::new(numbers(shape.iter().product(), seed), shape);
    Tensor::from_data(data, &Device::flex().autodiff())
}

pub(crate) fn integers<const D: usize>(values: &[i64], shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex().autodiff())
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

/// Both lists are as long and differ nowhere by more than `tolerance * (1 + size)`.
#[track_caller]
pub(crate) fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * (1.0 + expected.abs()), "[{index}] {found} is not {expected}");
    }
}

/// The result of `work` with 1, 2 and 3 threads, which must be the same.
#[track_caller]
pub(crate) fn in_pools<T: Send + PartialEq + std::fmt::Debug>(work: impl Fn() -> T + Sync) -> T {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    let one = run(1);
    for threads in [2, 3] {
        assert!(one == run(threads), "differs with {threads} threads");
    }
    one
}

/// The gradient of `function` at `point` by central differences of `step`.
pub(crate) fn finite_differences(point: &[f32], step: f32, function: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    (0..point.len())
        .map(|index| {
            let at = |change: f32| {
                let mut moved = point.to_vec();
                moved[index] += change;
                f64::from(function(&moved))
            };
            ((at(step) - at(-step)) / (2.0 * f64::from(step))) as f32
        })
        .collect()
}
