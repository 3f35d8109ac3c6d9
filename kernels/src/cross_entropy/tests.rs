use super::*;
use crate::precision::Precision;
use crate::testing::{assert_near, finite_differences, in_pools, integers, numbers, random, values};
use burn::tensor::{DType, Device, TensorData};

type Form = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, Tensor<1, Int>, Tensor<1>, Option<f64>) -> Tensor<1>;

fn targets(tokens: usize, vocab: usize) -> Tensor<1, Int> {
    let ids: Vec<i64> = (0..tokens).map(|i| (i * 7 % vocab) as i64).collect();
    integers(&ids, [tokens])
}

/// Loss and the gradients of three times the loss, for the bias only where there is one.
fn passes(
    form: Form,
    hidden: Tensor<2>,
    head: Tensor<2>,
    bias: Option<Tensor<1>>,
    softcap: Option<f64>,
) -> Vec<Vec<f32>> {
    let (hidden, head, bias) = (hidden.require_grad(), head.require_grad(), bias.map(Tensor::require_grad));
    let ([tokens, _], [vocab, _]) = (hidden.dims(), head.dims());
    let loss = form(hidden.clone(), head.clone(), bias.clone(), targets(tokens, vocab), random([tokens], 5), softcap);
    let grads = loss.clone().mul_scalar(3.0).backward();
    let mut found = vec![values(loss), values(hidden.grad(&grads).unwrap()), values(head.grad(&grads).unwrap())];
    found.extend(bias.map(|bias| values(bias.grad(&grads).unwrap())));
    found
}

/// With and without a cap, with and without a bias.
fn cases(vocab: usize) -> [(Option<f64>, Option<Tensor<1>>); 4] {
    let bias = Some(random([vocab], 3) * 2.0);
    [(None, None), (Some(1.5), None), (None, bias.clone()), (Some(1.5), bias)]
}

#[test]
fn equals_composed() {
    for (tokens, width, vocab) in [(1, 1, 1), (1, 10, 7), (5, 16, 33), (64, 24, 200), (1100, 8, 70), (3, 4, 9000)] {
        for (softcap, bias) in cases(vocab) {
            let (hidden, head) = (random([tokens, width], 1) * 4.0, random([vocab, width], 2) * 4.0);
            let found = passes(linear_cross_entropy, hidden.clone(), head.clone(), bias.clone(), softcap);
            let expected = passes(composed, hidden, head, bias, softcap);
            assert_eq!(found.len(), expected.len());
            // The composed sum is taken in f32 in another order.
            assert_near(&found[0], &expected[0], 1e-4);
            assert_near(&found[1], &expected[1], 5e-6);
            for (found, expected) in found[2..].iter().zip(&expected[2..]) {
                assert_near(found, expected, 2e-5);
            }
        }
    }
}

/// Chunks of 7 tokens, of which the last is smaller: with everything trained, nothing, and the hidden states alone.
#[test]
fn in_chunks_it_is_the_composed_form() {
    let (tokens, width, vocab, size) = (40, 4, 30, 7);
    let (hidden, head) = (random([tokens, width], 1) * 4.0, random([vocab, width], 2));
    let bias = Some(random([vocab], 3));
    let terms = Regularisation { label_smoothing: 0.1, z_loss: 1e-3 };
    let targets = targets(tokens, vocab);
    let run = |size: usize, trained: [bool; 2]| {
        let [hidden, head] = [(hidden.clone(), trained[0]), (head.clone(), trained[1])]
            .map(|(tensor, trained)| if trained { tensor.require_grad() } else { tensor });
        let bias = bias.clone().map(|bias| if trained[1] { bias.require_grad() } else { bias });
        let (of_head, weights) = (HeadWeight::from(head.clone()), random([tokens], 5));
        let (states, targets) = (hidden.clone(), targets.clone());
        let loss = in_chunks::regularised(states, of_head, bias.clone(), targets, weights, Some(3.0), terms, size);
        let mut found = vec![values(loss.loss.clone()), values(loss.cross_entropy), values(loss.squared_log_sum)];
        assert_eq!(loss.loss.is_tracked(), trained[0] || trained[1]);
        if loss.loss.is_tracked() {
            let grads = loss.loss.mul_scalar(3.0).backward();
            found.extend(hidden.grad(&grads).map(values));
            found.extend(head.grad(&grads).map(values));
            found.extend(bias.and_then(|bias| bias.grad(&grads)).map(values));
        }
        found
    };
    for (trained, lists) in [([false, false], 3), ([true, false], 4), ([true, true], 6)] {
        let (found, expected) = (run(size, trained), run(tokens, trained));
        assert_eq!([found.len(), expected.len()], [lists; 2]);
        for (found, expected) in found.iter().zip(&expected) {
            assert_near(found, expected, 5e-6);
        }
    }
    let of =
        |size| in_chunks::statistics(hidden.clone(), head.clone().into(), bias.clone(), targets.clone(), None, size);
    let (found, expected) = (of(size), of(tokens));
    assert_near(&values(found.0), &values(expected.0), 1e-6);
    assert_eq!(found.1.into_data(), expected.1.into_data());
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
        let found = passes(linear_cross_entropy, hidden, head, bias, softcap);
        for which in 0..3 {
            let loss = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                let (hidden, head, bias) = of(&points);
                3.0 * values(linear_cross_entropy(hidden, head, bias, targets(3, 6), random([3], 5), softcap))[0]
            };
            // Differences in f32 over a step of 0.01: third derivatives and rounding leave about 1e-4.
            assert_near(&found[which + 1], &finite_differences(&points[which], 0.01, loss), 2e-4);
        }
    }
}

#[test]
fn frozen_heads_equal_their_wide_copy() {
    for dtype in [DType::BF16, DType::F16] {
        let (hidden, head) = (random([9, 16], 1).require_grad(), random([50, 16], 2).cast(dtype));
        let bias = random([50], 3).cast(dtype);
        let weights = random([9], 5);
        let loss =
            linear_cross_entropy(hidden.clone(), head.clone(), Some(bias.clone()), targets(9, 50), weights, None);
        let grads = loss.clone().mul_scalar(3.0).backward();
        let expected = passes(composed, hidden.clone(), head.cast(DType::F32), Some(bias.cast(DType::F32)), None);
        assert_near(&values(loss), &expected[0], 1e-5);
        assert_near(&values(hidden.grad(&grads).unwrap()), &expected[1], 5e-6);
    }
}

/// What an adapter puts beside a frozen head is the product with both matrices put together.
#[test]
fn a_low_rank_part_equals_the_wider_head() {
    for (tokens, width, rank, vocab) in [(1, 1, 1, 1), (5, 16, 3, 33), (1100, 8, 2, 70), (3, 4, 4, 9000)] {
        for (softcap, bias) in cases(vocab) {
            let (hidden, matrix) = (random([tokens, width + rank], 1).require_grad(), random([vocab, width], 2));
            let low_rank = random([vocab, rank], 4).require_grad();
            let weights = random([tokens], 5);
            let head =
                HeadWeight { matrix: matrix.clone(), low_rank: Some(low_rank.clone()), precision: Precision::F32 };
            let targets = || targets(tokens, vocab);
            let loss =
                linear_cross_entropy(hidden.clone(), head.clone(), bias.clone(), targets(), weights.clone(), softcap);
            let grads = loss.clone().backward();
            let expected = composed(hidden.clone(), head.clone(), bias.clone(), targets(), weights, softcap);
            let other = expected.clone().backward();
            assert_near(&values(loss), &values(expected), 1e-4);
            for input in [&hidden, &low_rank] {
                assert_near(&values(input.grad(&grads).unwrap()), &values(input.grad(&other).unwrap()), 2e-5);
            }
            let found = token_statistics(hidden.clone(), head.clone(), bias.clone(), targets(), softcap);
            let expected = composed_statistics(hidden, head, bias, targets(), softcap);
            assert_near(&values(found.0), &values(expected.0), 2e-6);
            assert_eq!(found.1.into_data(), expected.1.into_data());
        }
    }
}

#[test]
fn a_loss_without_trained_inputs_builds_no_graph() {
    let loss =
        |bias| linear_cross_entropy(random([3, 4], 1), random([5, 4], 2), bias, targets(3, 5), random([3], 5), None);
    assert!(!loss(None).is_tracked());
    assert!(!loss(Some(random([5], 3))).is_tracked());
    assert!(loss(Some(random([5], 3).require_grad())).is_tracked());
}

#[test]
fn logits_of_any_size_give_a_finite_loss() {
    let hidden = Tensor::<2>::from_floats([[1000.0], [-1000.0]], &Device::flex().autodiff()).require_grad();
    let head = Tensor::<2>::from_floats([[10.0], [9.0]], &Device::flex().autodiff());
    let weights = Tensor::<1>::ones([2], &Device::flex().autodiff());
    let loss = linear_cross_entropy(hidden.clone(), head, None, integers(&[1, 1], [2]), weights, None);
    let grads = loss.clone().backward();
    assert_eq!(values(loss), [1000.0]);
    assert_eq!(values(hidden.grad(&grads).unwrap()), [1.0, 0.0]);
}

#[test]
fn nan_and_infinity_reach_the_loss() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for position in [0, 39] {
            let mut broken = numbers(40 * 3, 2);
            broken[position * 3] = bad;
            let head = Tensor::<2>::from_data(TensorData::new(broken, [40, 3]), &Device::flex().autodiff());
            let hidden = Tensor::<2>::from_floats([[0.0, 1.0, 1.0]], &Device::flex().autodiff());
            let loss = |hidden: Tensor<2>, head: Tensor<2>| {
                let weights = Tensor::<1>::ones([1], &Device::flex().autodiff());
                values(linear_cross_entropy(hidden, head, None, integers(&[3], [1]), weights, None))[0]
            };
            assert!(!loss(hidden.clone(), head.clone()).is_finite(), "zero times {bad}");
            let hidden = hidden + 1.0;
            if bad != f32::NEG_INFINITY {
                assert!(!loss(hidden, head).is_finite(), "{bad} at {position}");
            }
        }
    }
}

#[test]
fn statistics_equal_composed() {
    for (tokens, width, vocab) in [(1, 1, 1), (5, 16, 33), (1100, 8, 70)] {
        for (softcap, bias) in cases(vocab) {
            let (hidden, head) = (random([tokens, width], 1), random([vocab, width], 2));
            let found = token_statistics(hidden.clone(), head.clone(), bias.clone(), targets(tokens, vocab), softcap);
            let expected = composed_statistics(hidden, head, bias, targets(tokens, vocab), softcap);
            assert_near(&values(found.0), &values(expected.0), 2e-6);
            assert_eq!(found.1.into_data(), expected.1.into_data());
        }
    }
}

#[test]
fn the_first_of_equal_tokens_is_most_likely() {
    let hidden = Tensor::<2>::ones([1, 1], &Device::flex());
    let head = Tensor::<2>::from_floats([[1.0], [2.0], [2.0]], &Device::flex());
    let (_, best) = token_statistics(hidden, head, None, Tensor::from_ints([0], &Device::flex()), None);
    assert_eq!(best.into_data().iter::<i64>().collect::<Vec<_>>(), [1]);
}

#[test]
#[should_panic(expected = "target -100 is not in a vocabulary of 5")]
fn a_target_outside_the_vocabulary_is_refused() {
    let weights = Tensor::<1>::zeros([1], &Device::flex().autodiff());
    linear_cross_entropy(random([1, 4], 1), random([5, 4], 2), None, integers(&[-100], [1]), weights, None);
}

#[test]
fn bits_do_not_depend_on_threads() {
    in_pools(|| {
        let (hidden, head, bias) = (random([1100, 40], 1), random([130, 40], 2), random([130], 3));
        passes(linear_cross_entropy, hidden, head, Some(bias), Some(2.0))
    });
    in_pools(|| regularised_passes(regularised_cross_entropy, TERMS[3], Some(2.0)));
}

/// Loss, its parts, and the gradients of three times the loss, with an adapter's columns beside the head.
fn regularised_passes(form: RegularisedForm, terms: Regularisation, softcap: Option<f64>) -> Vec<Vec<f32>> {
    let (tokens, width, rank, vocab) = (1100, 8, 2, 70);
    let hidden = (random([tokens, width + rank], 1) * 4.0).require_grad();
    let (matrix, low_rank) =
        ((random([vocab, width], 2) * 4.0).require_grad(), random([vocab, rank], 4).require_grad());
    let bias = random([vocab], 3).require_grad();
    let head = HeadWeight { matrix: matrix.clone(), low_rank: Some(low_rank.clone()), precision: Precision::F32 };
    let (targets, weights) = (targets(tokens, vocab), random([tokens], 5));
    let found = form(hidden.clone(), head, Some(bias.clone()), targets, weights, softcap, terms);
    assert!(!found.cross_entropy.is_tracked() && !found.squared_log_sum.is_tracked(), "one number has a gradient");
    let grads = found.loss.clone().mul_scalar(3.0).backward();
    let gradients = [hidden.grad(&grads), matrix.grad(&grads), low_rank.grad(&grads)];
    let mut all = [found.loss, found.cross_entropy, found.squared_log_sum].map(values).to_vec();
    all.extend(gradients.map(|gradient| values(gradient.unwrap())));
    all.push(values(bias.grad(&grads).unwrap()));
    all
}

type RegularisedForm = fn(
    Tensor<2>,
    HeadWeight,
    Option<Tensor<1>>,
    Tensor<1, Int>,
    Tensor<1>,
    Option<f64>,
    Regularisation,
) -> RegularisedLoss;

const TERMS: [Regularisation; 4] = [
    Regularisation { label_smoothing: 0.0, z_loss: 0.0 },
    Regularisation { label_smoothing: 0.1, z_loss: 0.0 },
    Regularisation { label_smoothing: 0.0, z_loss: 0.01 },
    Regularisation { label_smoothing: 0.3, z_loss: 0.02 },
];

#[test]
fn regularised_equals_composed() {
    for softcap in [None, Some(1.5)] {
        for terms in TERMS {
            let found = regularised_passes(regularised_cross_entropy, terms, softcap);
            let expected = regularised_passes(composed_regularised, terms, softcap);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // Sums over 1100 tokens in another order.
                assert_near(found, expected, if index < 3 { 1e-4 } else { 2e-5 });
            }
        }
    }
}

#[test]
fn regularised_gradients_equal_finite_differences() {
    let points = [numbers(3 * 4, 1), numbers(6 * 4, 2)];
    let terms = Regularisation { label_smoothing: 0.3, z_loss: 0.1 };
    for softcap in [None, Some(0.7)] {
        let run = |[hidden, head]: &[Vec<f32>; 2]| {
            let device = Device::flex().autodiff();
            let hidden = Tensor::<2>::from_data(TensorData::new(hidden.clone(), [3, 4]), &device).require_grad();
            let head = Tensor::<2>::from_data(TensorData::new(head.clone(), [6, 4]), &device).require_grad();
            let (targets, weights) = (targets(3, 6), random([3], 5));
            let loss =
                regularised_cross_entropy(hidden.clone(), head.clone(), None, targets, weights, softcap, terms).loss;
            let grads = loss.clone().backward();
            (values(loss)[0], [hidden.grad(&grads), head.grad(&grads)].map(|gradient| values(gradient.unwrap())))
        };
        let (_, found) = run(&points);
        for which in 0..2 {
            let loss = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                run(&points).0
            };
            // As in `gradients_equal_finite_differences`.
            assert_near(&found[which], &finite_differences(&points[which], 0.01, loss), 2e-4);
        }
    }
}

/// Logits are those of rounded hidden states and head; what the loss makes of them is in f32.
#[test]
fn bf16_logits_are_those_of_rounded_operands() {
    crate::cpu::testing::with_each_instruction_set(|| {
        let (tokens, vocab, width) = (37, 61, 24);
        let hidden = (random([tokens, width], 1) * 4.0).require_grad();
        let head = HeadWeight { precision: Precision::Bf16, ..(random([vocab, width], 2) * 4.0).into() };
        let targets: Vec<i64> = (0..tokens as i64).map(|token| token * 7 % vocab as i64).collect();
        let (targets, weights) = (integers(&targets, [tokens]), random([tokens], 5) + 1.0);
        let loss = linear_cross_entropy(hidden.clone(), head.clone(), None, targets.clone(), weights.clone(), None);
        let of_rounded = composed(hidden.clone(), head.clone(), None, targets.clone(), weights.clone(), None);
        assert_near(&values(loss.clone()), &values(of_rounded), 2e-6);
        let plain = HeadWeight { precision: Precision::F32, ..head };
        let exact = composed(hidden.clone(), plain, None, targets, weights, None);
        assert_near(&values(loss.clone()), &values(exact.clone()), 5e-3);
        let gradient = |loss: Tensor<1>| values(hidden.grad(&loss.backward()).unwrap());
        assert_near(&gradient(loss), &gradient(exact), 2e-2);
    });
}
