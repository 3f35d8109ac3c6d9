//! Head, cross-entropy and divergence from a teacher as one operation, so that neither the student's nor the teacher's logits of all
//! tokens ever exist together: [`linear_distillation`].
//!
//! With `z` and `t` the logits of student and teacher, `T` a temperature, `q = softmax(z / T)` and `p = softmax(t / T)`:
//!
//! ```text
//! forward KL   sum p ln(p / q)                                      Hinton et al. 2015, arXiv:1503.02531
//! reverse KL   sum q ln(q / p)                                      Gu et al. 2023, arXiv:2306.08543
//! JSD          beta sum p ln(p / m) + (1 - beta) sum q ln(q / m)    Agarwal et al. 2023 (GKD), arXiv:2306.13649
//!              m = beta p + (1 - beta) q
//! ```
//! The gradient is computed in the forward pass, while the logits of a chunk of tokens are at hand, as in
//! [`crate::linear_cross_entropy`]; the backward pass only scales it.

mod autodiff;
mod composed;
mod fused;
mod rows;

pub use composed::composed;

use crate::cross_entropy::{HeadWeight, assert_head, bias_or_zeros, low_rank_or_nothing};
use crate::flex::has_fused;
use crate::precision::Precision;
use burn::{
    backend::{
        Backend, Dispatch, ExtensionType, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{Int, Tensor},
};

/// A measure of how far the student's distribution `q` is from the teacher's `p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// `KL(p || q)`.
    ForwardKl,
    /// `KL(q || p)`.
    ReverseKl,
    /// The generalised Jensen-Shannon divergence.
    Jsd {
        /// Weight of the teacher in the mixture, between 0 and 1.
        beta: f64,
    },
}

/// How cross-entropy and divergence make a loss: `(1 - alpha) CE + alpha T^2 D`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distillation {
    /// `D`.
    pub divergence: Divergence,
    /// `T`, above zero. The cross-entropy is at temperature one.
    pub temperature: f64,
    /// Share of the divergence, 0 to 1.
    pub alpha: f64,
}

/// Hidden states and the head that makes logits of them.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// `[tokens, width + rank]` in f32.
    pub hidden: Tensor<2>,
    /// The matrix of the head.
    pub head: HeadWeight,
    /// `[vocab]`.
    pub bias: Option<Tensor<1>>,
    /// Logits become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f64>,
}

/// A teacher's distributions. Nothing of them has a gradient.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one an operation")]
pub enum TeacherTokens {
    /// Of a head over the student's vocabulary.
    Head(Predicted),
    /// The probabilities of some tokens and of all others together, at the temperature of the loss. The divergence is taken over
    /// these cells.
    Cells {
        /// Ids of the tokens, `[tokens, cells]`; no id twice in a row.
        ids: Tensor<2, Int>,
        /// Their log-probabilities, `[tokens, cells]`.
        log_probabilities: Tensor<2>,
        /// The logarithm of the probability of all other tokens, `[tokens]`; `None` where the cells are the whole vocabulary.
        others: Option<Tensor<1>>,
    },
}

/// The targets of tokens and how much each counts.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The token to predict, `[tokens]`, in `0..vocab`.
    pub targets: Tensor<1, Int>,
    /// Weights of the cross-entropy, `[tokens]` in f32. Constant.
    pub of_cross_entropy: Tensor<1>,
    /// Weights of the divergence, `[tokens]` in f32. Constant.
    pub of_divergence: Tensor<1>,
}

/// The loss, and what it is made of.
#[derive(Debug, Clone)]
pub struct Distilled {
    /// `sum_i (1 - alpha) u_i CE_i + alpha T^2 v_i D_i`, `[1]`, with the weights `u` and `v`.
    pub loss: Tensor<1>,
    /// `sum_i u_i CE_i` and `sum_i v_i D_i`, `[2]`. No gradient flows.
    pub parts: Tensor<1>,
}

/// The loss of a student beside a teacher, and its parts.
///
/// # Panics
/// When the shapes do not fit together or an id is not in the vocabulary.
pub fn linear_distillation(
    student: Predicted,
    teacher: TeacherTokens,
    labels: Labels,
    settings: Distillation,
) -> Distilled {
    check(&student, &teacher, &labels);
    if !has_fused(&student.hidden.device()) {
        return composed(student, teacher, labels, settings);
    }
    let (softcap, precision) = (student.softcap, student.head.precision);
    let (teacher, teacher_softcap, teacher_precision) = match teacher {
        TeacherTokens::Head(teacher) => {
            let (softcap, precision) = (teacher.softcap, teacher.head.precision);
            (TeacherRows::Head { rows: rows(teacher) }, softcap, precision)
        }
        TeacherTokens::Cells { ids, log_probabilities, others } => {
            let nothing = || Tensor::zeros([0], &log_probabilities.device());
            let others = others.unwrap_or_else(nothing).into_dispatch();
            let log_probabilities = log_probabilities.into_dispatch();
            (TeacherRows::Cells { ids: ids.into_dispatch(), log_probabilities, others }, None, Precision::F32)
        }
    };
    let Labels { targets, of_cross_entropy, of_divergence } = labels;
    let weights = Tensor::stack::<2>(vec![of_cross_entropy, of_divergence], 0);
    let (loss, parts) = <Dispatch as DivergenceBackend>::fused_distillation(
        rows(student),
        teacher,
        targets.into_dispatch(),
        weights.into_dispatch(),
        Settings { settings, softcap, teacher_softcap, precision, teacher_precision },
    );
    Distilled { loss: Tensor::from_dispatch(loss), parts: Tensor::from_dispatch(parts) }
}

fn rows(predicted: Predicted) -> HeadRows<Dispatch> {
    let Predicted { hidden, head, bias, .. } = predicted;
    let (low_rank, bias) = (low_rank_or_nothing(&head), bias_or_zeros(&head.matrix, bias));
    HeadRows {
        hidden: hidden.into_dispatch(),
        head: head.matrix.into_dispatch(),
        low_rank: low_rank.into_dispatch(),
        bias: bias.into_dispatch(),
    }
}

fn check(student: &Predicted, teacher: &TeacherTokens, labels: &Labels) {
    assert_head(&student.hidden, &student.head, student.bias.as_ref());
    let (tokens, vocab) = (student.hidden.dims()[0], student.head.matrix.dims()[0]);
    let Labels { targets, of_cross_entropy, of_divergence } = labels;
    assert_eq!(
        [targets.dims()[0], of_cross_entropy.dims()[0], of_divergence.dims()[0]],
        [tokens; 3],
        "one target and two weights a token"
    );
    match teacher {
        TeacherTokens::Head(teacher) => {
            assert_head(&teacher.hidden, &teacher.head, teacher.bias.as_ref());
            assert_eq!(teacher.hidden.dims()[0], tokens, "tokens of the teacher");
            assert_eq!(teacher.head.matrix.dims()[0], vocab, "vocabulary of the teacher");
        }
        TeacherTokens::Cells { ids, log_probabilities, others } => {
            assert_eq!(ids.dims(), log_probabilities.dims(), "one log-probability a cell");
            assert_eq!(ids.dims()[0], tokens, "tokens of the teacher");
            if let Some(others) = others {
                assert_eq!(others.dims()[0], tokens, "one number for all other tokens a token");
            }
        }
    }
}

/// Hidden states and a head.
#[derive(ExtensionType)]
pub struct HeadRows<B: Backend> {
    /// `[tokens, width + rank]`.
    pub hidden: FloatTensor<B>,
    /// `[vocab, width]`.
    pub head: FloatTensor<B>,
    /// `[vocab, rank]`; the rank may be zero.
    pub low_rank: FloatTensor<B>,
    /// `[vocab]`.
    pub bias: FloatTensor<B>,
}

/// See [`TeacherTokens`].
#[derive(ExtensionType)]
pub enum TeacherRows<B: Backend> {
    /// A head.
    Head {
        /// Hidden states and head.
        #[extension_type]
        rows: HeadRows<B>,
    },
    /// Some tokens, and all others.
    Cells {
        /// `[tokens, cells]`.
        ids: IntTensor<B>,
        /// `[tokens, cells]`.
        log_probabilities: FloatTensor<B>,
        /// `[tokens]`, or empty.
        others: FloatTensor<B>,
    },
}

/// The settings of [`linear_distillation`] with the caps and precisions of both heads.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    settings: Distillation,
    softcap: Option<f64>,
    teacher_softcap: Option<f64>,
    precision: Precision,
    teacher_precision: Precision,
}

/// Backends with a fused [`linear_distillation`].
#[backend_extension(Flex, Autodiff)]
pub trait DivergenceBackend: Backend {
    /// See [`linear_distillation`]; `weights` is `[2, tokens]`.
    fn fused_distillation(
        #[extension_type] student: HeadRows<Self>,
        #[extension_type] teacher: TeacherRows<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(test)]
mod tests;
