//! Head, cross-entropy and divergence in plain Burn operations: the meaning of the fused form. It holds `[tokens, vocab]`.

use burn::tensor::{Tensor, activation::log_softmax};

use super::{Distillation, Distilled, Divergence, Labels, Predicted, TeacherTokens};
use crate::{cross_entropy::logits, portable::sum};

/// [`super::linear_distillation`] in plain Burn operations.
pub fn composed(student: Predicted, teacher: TeacherTokens, labels: Labels, settings: Distillation) -> Distilled {
    let Distillation { divergence, temperature, alpha } = settings;
    let Labels { targets, of_cross_entropy, of_divergence } = labels;
    let students = logits_of(student);
    let of_targets = log_softmax(students.clone(), 1).gather(1, targets.unsqueeze_dim::<2>(1)).squeeze_dim::<1>(1);
    let cross_entropy = sum(of_targets * of_cross_entropy).neg();
    let students = log_softmax(students / temperature, 1);
    let (teachers, students) = match teacher {
        TeacherTokens::Head(teacher) => (log_softmax(logits_of(teacher).detach() / temperature, 1), students),
        TeacherTokens::Cells { ids, log_probabilities, others } => {
            let cells = students.clone().gather(1, ids.clone());
            match others {
                None => (log_probabilities, cells),
                Some(others) => {
                    // Tokens that are cells of their own are left out of the rest.
                    let hidden = Tensor::full(ids.dims(), -1e30, &students.device());
                    let rest = students.scatter(1, ids, hidden, burn::tensor::IndexingUpdateOp::Add);
                    let largest = rest.clone().max_dim(1).detach();
                    let rest = (rest - largest.clone()).exp().sum_dim(1).log() + largest;
                    let teachers = Tensor::cat(vec![log_probabilities, others.unsqueeze_dim(1)], 1);
                    (teachers, Tensor::cat(vec![cells, rest], 1))
                }
            }
        }
    };
    let of_cells = match divergence {
        Divergence::ForwardKl => teachers.clone().exp() * (teachers - students),
        Divergence::ReverseKl => students.clone().exp() * (students - teachers),
        Divergence::Jsd { beta } => {
            let (p, q) = (teachers.clone().exp(), students.clone().exp());
            let mixture = (p.clone() * beta + q.clone() * (1.0 - beta)).clamp_min(1e-37).log();
            p * (teachers - mixture.clone()) * beta + q * (students - mixture) * (1.0 - beta)
        }
    };
    let divergence = sum(of_cells.sum_dim(1).squeeze_dim::<1>(1) * of_divergence);
    let parts = Tensor::cat(vec![cross_entropy.clone(), divergence.clone()], 0).detach();
    let loss = cross_entropy * (1.0 - alpha) + divergence * (alpha * temperature * temperature);
    Distilled { loss, parts }
}

fn logits_of(predicted: Predicted) -> Tensor<2> {
    let Predicted { hidden, head, bias, softcap } = predicted;
    logits(hidden, head, bias, softcap)
}
