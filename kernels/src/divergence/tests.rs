use super::*;
use crate::precision::Precision;
use crate::testing::{assert_near, finite_differences, in_pools, integers, numbers, random, values};
use burn::tensor::{DType, Device, TensorData};

type Form = fn(Predicted, TeacherTokens, Labels, Distillation) -> Distilled;

const DIVERGENCES: [Divergence; 4] =
    [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::Jsd { beta: 0.5 }, Divergence::Jsd { beta: 0.1 }];

fn settings(divergence: Divergence, temperature: f64, alpha: f64) -> Distillation {
    Distillation { divergence, temperature, alpha }
}

fn predicted(tokens: usize, width: usize, vocab: usize, seed: u32) -> Predicted {
    Predicted {
        hidden: random([tokens, width], seed) * 4.0,
        head: (random([vocab, width], seed + 1) * 4.0).into(),
        bias: None,
        softcap: None,
    }
}

fn labels(tokens: usize, vocab: usize) -> Labels {
    let ids: Vec<i64> = (0..tokens).map(|i| (i * 7 % vocab) as i64).collect();
    Labels {
        targets: integers(&ids, [tokens]),
        of_cross_entropy: random([tokens], 5),
        of_divergence: random([tokens], 6) + 1.0,
    }
}

/// For every token `cells` ids that differ, and how likely they are; the rest of the probability is that of all others.
fn cells(tokens: usize, vocab: usize, cells: usize) -> TeacherTokens {
    let ids: Vec<i64> = (0..tokens * cells).map(|i| ((i / cells * 5 + i % cells * 3) % vocab) as i64).collect();
    let all = (random([tokens, cells + 1], 9) * 3.0).into_data().try_into_vec::<f32>().unwrap();
    let (mut likely, mut others) = (vec![], vec![]);
    for row in all.chunks(cells + 1) {
        let sum = row.iter().map(|x| x.exp()).sum::<f32>().ln();
        likely.extend(row[..cells].iter().map(|x| x - sum));
        others.push(row[cells] - sum);
    }
    let device = Device::flex().autodiff();
    TeacherTokens::Cells {
        ids: integers(&ids, [tokens, cells]),
        log_probabilities: Tensor::from_data(TensorData::new(likely, [tokens, cells]), &device),
        others: Some(Tensor::from_data(TensorData::new(others, [tokens]), &device)),
    }
}

/// Loss, parts, and the gradients of three times the loss.
fn passes(form: Form, student: Predicted, teacher: TeacherTokens, labels: Labels, how: Distillation) -> Vec<Vec<f32>> {
    let HeadWeight { matrix, low_rank, .. } = student.head;
    let (hidden, matrix) = (student.hidden.require_grad(), matrix.require_grad());
    let (low_rank, bias) = (low_rank.map(Tensor::require_grad), student.bias.map(Tensor::require_grad));
    let student = Predicted {
        hidden: hidden.clone(),
        head: HeadWeight { matrix: matrix.clone(), low_rank: low_rank.clone(), precision: Precision::F32 },
        bias: bias.clone(),
        softcap: student.softcap,
    };
    let Distilled { loss, parts } = form(student, teacher, labels, how);
    let grads = loss.clone().mul_scalar(3.0).backward();
    let mut found =
        vec![values(loss), values(parts), values(hidden.grad(&grads).unwrap()), values(matrix.grad(&grads).unwrap())];
    found.extend(low_rank.map(|low_rank| values(low_rank.grad(&grads).unwrap())));
    found.extend(bias.map(|bias| values(bias.grad(&grads).unwrap())));
    found
}

fn assert_same(found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let largest = expected.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= 3e-5 * largest, "{what}: [{index}] {found} is not {expected}");
        }
    }
}

#[test]
fn equals_composed() {
    for divergence in DIVERGENCES {
        for (tokens, vocab, softcap, temperature, alpha) in
            [(1, 1, None, 1.0, 0.5), (5, 33, None, 1.0, 1.0), (7, 70, Some(1.5), 2.0, 0.3), (1100, 40, None, 0.5, 0.9)]
        {
            let what = format!("{divergence:?} {tokens} {vocab}");
            let how = settings(divergence, temperature, alpha);
            let student = || Predicted {
                bias: Some(random([vocab], 3)),
                softcap,
                head: HeadWeight {
                    matrix: random([vocab, 6], 2) * 4.0,
                    low_rank: Some(random([vocab, 2], 8)),
                    precision: Precision::F32,
                },
                ..predicted(tokens, 8, vocab, 1)
            };
            let teacher = || TeacherTokens::Head(Predicted { softcap: Some(3.0), ..predicted(tokens, 11, vocab, 20) });
            let found = passes(linear_distillation, student(), teacher(), labels(tokens, vocab), how);
            let expected = passes(composed, student(), teacher(), labels(tokens, vocab), how);
            assert_same(&found, &expected, &what);
            if vocab > 4 {
                let found = passes(linear_distillation, student(), cells(tokens, vocab, 4), labels(tokens, vocab), how);
                let expected = passes(composed, student(), cells(tokens, vocab, 4), labels(tokens, vocab), how);
                assert_same(&found, &expected, &format!("{what}, cells"));
            }
        }
    }
}

#[test]
fn cells_of_the_whole_vocabulary_equal_the_teacher() {
    let (tokens, vocab) = (5, 12);
    let how = |divergence| settings(divergence, 2.0, 0.7);
    let teacher = predicted(tokens, 9, vocab, 20);
    let logits = crate::cross_entropy::logits(teacher.hidden.clone(), teacher.head.clone(), None, None);
    let likely = burn::tensor::activation::log_softmax(logits / 2.0, 1);
    let ids: Vec<i64> = (0..tokens * vocab).map(|i| ((i % vocab * 5 + i / vocab) % vocab) as i64).collect();
    let ids = integers(&ids, [tokens, vocab]);
    let likely = likely.gather(1, ids.clone());
    for divergence in DIVERGENCES {
        let student = || predicted(tokens, 6, vocab, 1);
        let cells = TeacherTokens::Cells { ids: ids.clone(), log_probabilities: likely.clone(), others: None };
        let found = passes(linear_distillation, student(), cells, labels(tokens, vocab), how(divergence));
        let live = TeacherTokens::Head(teacher.clone());
        let expected = passes(linear_distillation, student(), live, labels(tokens, vocab), how(divergence));
        assert_same(&found, &expected, &format!("{divergence:?}"));
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let point = numbers(3 * 4, 1);
    let of = |hidden: &[f32]| Predicted {
        hidden: Tensor::from_data(TensorData::new(hidden.to_vec(), [3, 4]), &Device::flex().autodiff()),
        ..predicted(3, 4, 6, 1)
    };
    for divergence in DIVERGENCES {
        let how = settings(divergence, 1.5, 0.6);
        for teacher in [|| TeacherTokens::Head(predicted(3, 5, 6, 20)), || cells(3, 6, 2)] {
            let found = passes(linear_distillation, of(&point), teacher(), labels(3, 6), how);
            let loss =
                |moved: &[f32]| 3.0 * values(linear_distillation(of(moved), teacher(), labels(3, 6), how).loss)[0];
            // Differences in f32 over a step of 0.01: third derivatives and rounding leave about 1e-3.
            assert_near(&found[2], &finite_differences(&point, 0.01, loss), 2e-3);
        }
    }
}

#[test]
fn a_student_that_equals_its_teacher_has_no_divergence() {
    for divergence in DIVERGENCES {
        let teacher = TeacherTokens::Head(predicted(9, 6, 50, 1));
        let found =
            passes(linear_distillation, predicted(9, 6, 50, 1), teacher, labels(9, 50), settings(divergence, 2.0, 1.0));
        assert!(found[1][1].abs() < 1e-5, "{divergence:?}: {}", found[1][1]);
        assert!(found[2].iter().all(|gradient| gradient.abs() < 2e-5), "{divergence:?}: {:?}", found[2]);
    }
}

/// A probability that is zero in f32 makes no NaN, whichever side has it.
#[test]
fn distributions_that_exclude_each_other_have_finite_losses() {
    let side = |logits: [f32; 2]| Predicted {
        hidden: Tensor::<2>::from_floats([[1.0]], &Device::flex().autodiff()),
        head: Tensor::<2>::from_floats([[logits[0]], [logits[1]]], &Device::flex().autodiff()).into(),
        bias: None,
        softcap: None,
    };
    let expected = [(Divergence::ForwardKl, 1000.0), (Divergence::ReverseKl, 1000.0)];
    let mixed = (Divergence::Jsd { beta: 0.25 }, -0.25 * 0.25f32.ln() - 0.75 * 0.75f32.ln());
    for (divergence, expected) in expected.into_iter().chain([mixed]) {
        let labels = || Labels {
            targets: integers(&[0], [1]),
            of_cross_entropy: random([1], 1) * 0.0,
            of_divergence: random([1], 1) * 0.0 + 1.0,
        };
        let teacher = TeacherTokens::Head(side([0.0, 1000.0]));
        let found = passes(linear_distillation, side([1000.0, 0.0]), teacher, labels(), settings(divergence, 1.0, 1.0));
        assert!((found[0][0] - expected).abs() < 1e-5 * expected, "{divergence:?}: {}", found[0][0]);
        assert!(found.iter().flatten().all(|value| value.is_finite()), "{divergence:?}: {found:?}");
    }
}

#[test]
fn nan_reaches_the_loss() {
    for divergence in DIVERGENCES {
        let broken = Predicted { hidden: random([3, 4], 1) * f32::NAN, ..predicted(3, 4, 6, 1) };
        let whole = || predicted(3, 4, 6, 7);
        for (student, teacher) in [(broken.clone(), whole()), (whole(), broken)] {
            let teacher = TeacherTokens::Head(teacher);
            let loss = linear_distillation(student, teacher, labels(3, 6), settings(divergence, 1.0, 0.5)).loss;
            assert!(values(loss)[0].is_nan(), "{divergence:?}");
        }
    }
}

#[test]
fn frozen_heads_in_sixteen_bits_equal_their_wide_copy() {
    let narrow = |predicted: Predicted| {
        let matrix = predicted.head.matrix.clone().cast(DType::BF16);
        let wide = Predicted { head: matrix.clone().cast(DType::F32).into(), ..predicted.clone() };
        (Predicted { head: matrix.into(), ..predicted }, wide)
    };
    let (student, wide_student) = narrow(predicted(9, 6, 50, 1));
    let (teacher, wide_teacher) = narrow(predicted(9, 5, 50, 20));
    let how = settings(Divergence::ReverseKl, 1.0, 0.5);
    let loss =
        |student, teacher| values(linear_distillation(student, TeacherTokens::Head(teacher), labels(9, 50), how).loss);
    assert_near(&loss(student, teacher), &loss(wide_student, wide_teacher), 1e-5);
}

#[test]
fn a_loss_without_trained_inputs_builds_no_graph() {
    let how = settings(Divergence::ForwardKl, 1.0, 0.5);
    let teacher = TeacherTokens::Head(predicted(3, 4, 6, 20));
    assert!(!linear_distillation(predicted(3, 4, 6, 1), teacher, labels(3, 6), how).loss.is_tracked());
}

#[test]
fn bits_do_not_depend_on_threads() {
    for divergence in DIVERGENCES {
        in_pools(|| {
            let teacher = TeacherTokens::Head(predicted(1100, 24, 130, 20));
            passes(
                linear_distillation,
                predicted(1100, 40, 130, 1),
                teacher,
                labels(1100, 130),
                settings(divergence, 2.0, 0.5),
            )
        });
    }
}
