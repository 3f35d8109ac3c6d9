use super::*;
use crate::precision::Precision;
use crate::testing::{assert_near, finite_differences, in_pools, integers, numbers, random, values};
use burn::tensor::{Device, TensorData};

type Form = fn(Tensor<2>, HeadWeight, Option<Tensor<1>>, Tensor<1, Int>, Option<f64>) -> Tensor<1>;

fn targets(tokens: usize, vocab: usize) -> Tensor<1, Int> {
    let ids: Vec<i64> = (0..tokens).map(|i| (i * 7 % vocab) as i64).collect();
    integers(&ids, [tokens])
}

/// The numbers, and the gradients of a sum in which each has a factor of its own: of the hidden states, the matrix, and
/// what there is of low-rank part and bias.
fn passes(
    form: Form,
    hidden: Tensor<2>,
    [matrix, low_rank]: [Option<Tensor<2>>; 2],
    bias: Option<Tensor<1>>,
    softcap: Option<f64>,
) -> Vec<Vec<f32>> {
    let (hidden, bias) = (hidden.require_grad(), bias.map(Tensor::require_grad));
    let [matrix, low_rank] = [matrix, low_rank].map(|part| part.map(Tensor::require_grad));
    let matrix = matrix.unwrap();
    let ([tokens, _], [vocab, _]) = (hidden.dims(), matrix.dims());
    let head = HeadWeight { matrix: matrix.clone(), low_rank: low_rank.clone(), precision: Precision::F32 };
    let found = form(hidden.clone(), head, bias.clone(), targets(tokens, vocab), softcap);
    let grads = (found.clone() * random([tokens], 5)).sum().backward();
    let mut all = vec![values(found), values(hidden.grad(&grads).unwrap()), values(matrix.grad(&grads).unwrap())];
    all.extend(low_rank.map(|part| values(part.grad(&grads).unwrap())));
    all.extend(bias.map(|bias| values(bias.grad(&grads).unwrap())));
    all
}

#[test]
fn equals_composed() {
    let shapes = [(1, 1, 0, 1), (1, 10, 0, 7), (5, 16, 3, 33), (64, 24, 0, 200), (1100, 8, 2, 70), (3, 4, 4, 9000)];
    for (tokens, width, rank, vocab) in shapes {
        for softcap in [None, Some(1.5)] {
            for bias in [None, Some(random([vocab], 3) * 2.0)] {
                let hidden = random([tokens, width + rank], 1) * 4.0;
                let low_rank = (rank > 0).then(|| random([vocab, rank], 4));
                let head = [Some(random([vocab, width], 2) * 4.0), low_rank];
                let found = passes(linear_log_probabilities, hidden.clone(), head.clone(), bias.clone(), softcap);
                let expected = passes(composed_log_probabilities, hidden, head, bias.clone(), softcap);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    // Sums over a thousand tokens, in f32 and in another order.
                    assert_near(found, expected, 2e-5);
                }
            }
        }
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let points = [numbers(3 * 4, 1), numbers(6 * 4, 2), numbers(6, 3)];
    let of = |[hidden, head, bias]: &[Vec<f32>; 3]| {
        let device = Device::flex().autodiff();
        let hidden = Tensor::<2>::from_data(TensorData::new(hidden.clone(), [3, 4]), &device);
        let head = Tensor::<2>::from_data(TensorData::new(head.clone(), [6, 4]), &device);
        (hidden, head, Some(Tensor::<1>::from_data(TensorData::new(bias.clone(), [6]), &device)))
    };
    for softcap in [None, Some(0.7)] {
        let (hidden, head, bias) = of(&points);
        let found = passes(linear_log_probabilities, hidden, [Some(head), None], bias, softcap);
        for which in 0..3 {
            let sum = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                let (hidden, head, bias) = of(&points);
                let found = linear_log_probabilities(hidden, head, bias, targets(3, 6), softcap);
                values((found * random([3], 5)).sum())[0]
            };
            // Differences in f32 over a step of 0.01: third derivatives and rounding leave about 1e-4.
            assert_near(&found[which + 1], &finite_differences(&points[which], 0.01, sum), 2e-4);
        }
    }
}

#[test]
fn what_is_frozen_builds_no_graph_and_may_be_in_16_bits() {
    let matrix = random([50, 16], 2);
    let of =
        |hidden: Tensor<2>, matrix: Tensor<2>| linear_log_probabilities(hidden, matrix, None, targets(9, 50), None);
    assert!(!of(random([9, 16], 1), matrix.clone()).is_tracked());
    for dtype in [DType::BF16, DType::F16] {
        let hidden = random([9, 16], 1).require_grad();
        let found = of(hidden.clone(), matrix.clone().cast(dtype));
        let grads = found.clone().sum().backward();
        let wide = matrix.clone().cast(dtype).cast(DType::F32);
        let expected = composed_log_probabilities(hidden.clone(), wide, None, targets(9, 50), None);
        let other = expected.clone().sum().backward();
        assert_near(&values(found), &values(expected), 5e-6);
        assert_near(&values(hidden.grad(&grads).unwrap()), &values(hidden.grad(&other).unwrap()), 5e-6);
    }
}

#[test]
fn views_are_accepted() {
    let wide = random([12, 9], 1);
    let hidden = || wide.clone().slice([2..8, 1..6]);
    let matrix = random([5, 7], 2).transpose();
    let found = passes(linear_log_probabilities, hidden(), [Some(matrix.clone()), None], None, None);
    let expected = passes(composed_log_probabilities, hidden(), [Some(matrix), None], None, None);
    for (found, expected) in found.iter().zip(&expected) {
        assert_near(found, expected, 5e-6);
    }
}

#[test]
fn nan_reaches_the_numbers() {
    let hidden = random([2, 3], 1) * f32::NAN;
    let found = linear_log_probabilities(hidden, random([5, 3], 2), None, targets(2, 5), None);
    assert!(values(found).iter().all(|value| value.is_nan()));
}

#[test]
#[should_panic(expected = "target -100 is not in a vocabulary of 5")]
fn a_target_outside_the_vocabulary_is_refused() {
    linear_log_probabilities(random([1, 4], 1), random([5, 4], 2), None, integers(&[-100], [1]), None);
}

#[test]
fn bits_do_not_depend_on_threads() {
    in_pools(|| {
        let head = [Some(random([130, 40], 2)), Some(random([130, 3], 4))];
        passes(linear_log_probabilities, random([1100, 43], 1), head, Some(random([130], 3)), Some(2.0))
    });
}
