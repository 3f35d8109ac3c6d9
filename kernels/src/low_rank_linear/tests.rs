use super::*;
use crate::{
    cpu::testing::with_each_instruction_set,
    quantized::QuantizationScheme,
    testing::{assert_near, in_pools, numbers, random, values},
};
use burn::tensor::{DType, Device, TensorData};

const SCALE: f64 = 0.7;

/// Output, and gradients of `sum(output * direction)` for `x`, `a` and `b`.
fn passes(
    form: fn(Tensor<3>, FrozenWeight, [Tensor<2>; 2], f64, Precision) -> Tensor<3>,
    [rows, inputs, outputs, rank]: [usize; 4],
    weight: impl Fn(Tensor<2>) -> FrozenWeight,
    precision: Precision,
) -> [Vec<f32>; 4] {
    let x = random([2, rows, inputs], 1).require_grad();
    let (a, b) = (random([rank, inputs], 3).require_grad(), random([outputs, rank], 4).require_grad());
    let out = form(x.clone(), weight(random([outputs, inputs], 2)), [a.clone(), b.clone()], SCALE, precision);
    let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
    let gradient = |tensor: &Tensor<2>| values(tensor.grad(&grads).unwrap());
    [values(out), values(x.grad(&grads).unwrap()), gradient(&a), gradient(&b)]
}

/// The distance of all numbers together, relative to their size.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let apart = norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    apart / norm(&mut expected.iter().copied())
}

/// Few rows, operands packed for all tasks, and tasks that pack for themselves.
#[test]
fn a_bias_is_added_to_whole_sums() {
    with_each_instruction_set(|| {
        for [rows, inputs, outputs, rank] in SHAPES.into_iter().chain([[700, 33, 140, 5]]) {
            for precision in [Precision::F32, Precision::Bf16] {
                let (x, bias) = (random([2, rows, inputs], 1), random([outputs], 5));
                let factors = || [random([rank, inputs], 3).require_grad(), random([outputs, rank], 4).require_grad()];
                let run = |form: &dyn Fn(Tensor<3>, FrozenWeight, [Tensor<2>; 2]) -> Tensor<3>| {
                    let (x, factors) = (x.clone().require_grad(), factors());
                    let weight = FrozenWeight::Dense(random([outputs, inputs], 2));
                    let out = form(x.clone(), weight, factors.clone());
                    let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
                    let of_factors = factors.map(|factor| values(factor.grad(&grads).unwrap()));
                    ([values(out), values(x.grad(&grads).unwrap())], of_factors)
                };
                let expected = run(&|x, weight, factors| {
                    low_rank_linear(x, weight, factors, SCALE, precision) + bias.clone().unsqueeze()
                });
                for bias in [bias.clone(), bias.clone().require_grad()] {
                    let found = run(&|x, weight, factors| {
                        low_rank_linear_with_bias(x, weight, factors, Some(bias.clone()), SCALE, precision)
                    });
                    assert!(found == expected, "{rows} {inputs} {outputs} {rank} {precision:?}");
                }
            }
        }
    });
}

const SHAPES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [1, 10, 7, 2], [3, 16, 2, 3], [9, 33, 65, 5], [40, 130, 96, 16], [300, 96, 700, 8]];

#[test]
fn equals_composed() {
    for shape in SHAPES {
        let found = passes(low_rank_linear, shape, FrozenWeight::Dense, Precision::F32);
        let expected = passes(composed, shape, FrozenWeight::Dense, Precision::F32);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(distance(found, expected) < 1e-6, "{shape:?}: {}", distance(found, expected));
        }
    }
}

#[test]
fn sixteen_bit_and_quantized_weights_equal_their_wide_copy() {
    let brain = |weight: Tensor<2>| weight.cast(DType::BF16);
    let codes =
        |weight: Tensor<2>| Arc::new(QuantizedWeight::quantize(&weight.into_data(), QuantizationScheme::NF4).unwrap());
    let shape = [20, 64, 96, 4];
    let wide = |weight: Tensor<2>| FrozenWeight::Dense(weight.cast(DType::F32));
    let dequantized = |weight: Tensor<2>| codes(weight).dequantize(&Device::flex().autodiff());
    let pairs = [
        (
            passes(low_rank_linear, shape, |weight| FrozenWeight::Dense(brain(weight)), Precision::F32),
            passes(composed, shape, |weight| wide(brain(weight)), Precision::F32),
        ),
        (
            passes(low_rank_linear, shape, |weight| FrozenWeight::Quantized(codes(weight)), Precision::F32),
            passes(composed, shape, |weight| wide(dequantized(weight)), Precision::F32),
        ),
    ];
    for (found, expected) in &pairs {
        for (found, expected) in found.iter().zip(expected) {
            assert_near(found, expected, 3e-6);
        }
    }
}

/// The bound is that of operands with 8 bits.
#[test]
fn bf16_is_near_f32_on_every_instruction_set() {
    with_each_instruction_set(|| {
        for shape in SHAPES {
            let found = passes(low_rank_linear, shape, FrozenWeight::Dense, Precision::Bf16);
            let expected = passes(composed, shape, FrozenWeight::Dense, Precision::F32);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(distance(found, expected) < 5e-3, "{shape:?}: {}", distance(found, expected));
            }
        }
    });
}

#[test]
fn a_frozen_factor_or_input_gets_no_gradient() {
    let (x, a, b) = (random([1, 6, 8], 1), random([2, 8], 3).require_grad(), random([5, 2], 4));
    let weight = random([5, 8], 2);
    let out =
        low_rank_linear(x.clone(), FrozenWeight::Dense(weight.clone()), [a.clone(), b.clone()], SCALE, Precision::F32);
    let grads = (out * random([1, 6, 5], 9)).sum().backward();
    let same = composed(x.clone(), FrozenWeight::Dense(weight), [a.clone(), b.clone()], SCALE, Precision::F32);
    let expected = (same * random([1, 6, 5], 9)).sum().backward();
    assert_near(&values(a.grad(&grads).unwrap()), &values(a.grad(&expected).unwrap()), 3e-6);
    assert!(x.grad(&grads).is_none() && b.grad(&grads).is_none());
}

#[test]
fn bits_do_not_depend_on_threads_or_rows_beside() {
    for precision in [Precision::F32, Precision::Bf16] {
        in_pools(|| passes(low_rank_linear, [70, 130, 190, 16], FrozenWeight::Dense, precision));
    }
    let device = Device::flex();
    let (x, factor) = (numbers(40 * 30, 1), |seed, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(numbers(shape[0] * shape[1], seed), shape), &device)
    });
    let run = |rows: usize| {
        let x = Tensor::<2>::from_data(TensorData::new(x[..rows * 30].to_vec(), [rows, 30]), &device);
        let weight = FrozenWeight::Dense(factor(2, [20, 30]));
        values(low_rank_linear(x, weight, [factor(3, [4, 30]), factor(4, [20, 4])], SCALE, Precision::Bf16))
    };
    assert_eq!(run(40)[..7 * 20], run(7)[..]);
}
