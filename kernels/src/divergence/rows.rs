//! What happens to the logits of one token of a student beside its teacher: loss, divergence and derivative.
//!
//! A distribution is over *cells*: single tokens, or all tokens but some. With `A_c = dD / d ln q_c`, of which a constant times
//! `q_c` may be left out, the derivative of a divergence by the logit of a token of cell `c`, which has the share `s` of it, is
//! `(A_c s - q sum A) / T`.

use super::Divergence;
use crate::{
    cross_entropy::log_sum_exp,
    functions::{exp, ln},
    sums::sum_of,
};

/// Partial results side by side; their order is fixed, so sums are too.
const LANES: usize = 32;

/// Where logarithms of a ratio are cut off: what is left out is below `e^-80`.
const FAR: f32 = 80.0;

/// A divergence as a sum over cells, from the logarithms of `p` and `q`.
pub(super) trait Form: Copy {
    /// The cell's part of the divergence.
    fn value(self, p: f32, q: f32) -> f32;
    /// Its `A`.
    fn pull(self, p: f32, q: f32) -> f32;
}

#[derive(Clone, Copy)]
pub(super) struct Forward;
#[derive(Clone, Copy)]
pub(super) struct Reverse;
#[derive(Clone, Copy)]
pub(super) struct Mixed {
    pub beta: f32,
}

impl Form for Forward {
    #[inline(always)]
    fn value(self, p: f32, q: f32) -> f32 {
        exp(p) * (p - q)
    }

    #[inline(always)]
    fn pull(self, p: f32, _: f32) -> f32 {
        -exp(p)
    }
}

impl Form for Reverse {
    #[inline(always)]
    fn value(self, p: f32, q: f32) -> f32 {
        exp(q) * (q - p)
    }

    #[inline(always)]
    fn pull(self, p: f32, q: f32) -> f32 {
        exp(q) * (q - p)
    }
}

impl Mixed {
    /// `ln(p / q)`, cut off, and `ln(m / q)`.
    #[inline(always)]
    fn ratios(self, p: f32, q: f32) -> (f32, f32) {
        let ratio = p - q;
        let ratio = if ratio > FAR { FAR } else { ratio };
        let ratio = if ratio < -FAR { -FAR } else { ratio };
        (ratio, ln(self.beta * exp(ratio) + (1.0 - self.beta)))
    }
}

impl Form for Mixed {
    #[inline(always)]
    fn value(self, p: f32, q: f32) -> f32 {
        let (ratio, mixture) = self.ratios(p, q);
        self.beta * exp(p) * (ratio - mixture) - (1.0 - self.beta) * exp(q) * mixture
    }

    #[inline(always)]
    fn pull(self, p: f32, q: f32) -> f32 {
        (self.beta - 1.0) * exp(q) * self.ratios(p, q).1
    }
}

/// Calls `work` with the form of a divergence.
pub(super) fn with_form<W: WithForm>(divergence: Divergence, work: W) -> W::Output {
    match divergence {
        Divergence::ForwardKl => work.run(Forward),
        Divergence::ReverseKl => work.run(Reverse),
        Divergence::Jsd { beta } => work.run(Mixed { beta: beta as f32 }),
    }
}

/// What is done with any form.
pub(super) trait WithForm {
    type Output;
    fn run<F: Form + Send + Sync>(self, form: F) -> Self::Output;
}

/// The loss of one token.
#[derive(Clone, Copy, Default)]
pub(super) struct TokenLoss {
    pub cross_entropy: f32,
    pub divergence: f32,
}

/// How the loss of one token counts.
#[derive(Clone, Copy)]
pub(super) struct Shares {
    pub temperature: f32,
    /// On the gradient of the cross-entropy.
    pub of_cross_entropy: f32,
    /// On the gradient of the divergence.
    pub of_divergence: f32,
    pub target: usize,
    /// The cap of the student's logits.
    pub cap: Option<f32>,
}

/// The loss of a student's (softened) logits beside those of its teacher. Where a derivative is wanted, the student's become it.
#[inline(always)]
pub(super) fn beside_head<F: Form>(
    form: F,
    student: &mut [f32],
    teacher: &mut [f32],
    shares: Shares,
    derive: bool,
) -> TokenLoss {
    let cold = 1.0 / shares.temperature;
    let plain = log_sum_exp(student);
    let (of_student, of_teacher) = (log_sum_exp_at(student, cold), log_sum_exp_at(teacher, cold));
    let p = |logit: f32| logit * cold - of_teacher;
    let q = |logit: f32| logit * cold - of_student;
    let divergence = sum_of::<LANES>(student, teacher, |z, t| form.value(p(t), q(z)));
    let loss = TokenLoss { cross_entropy: plain - student[shares.target], divergence };
    if derive {
        for (z, t) in student.iter().zip(teacher.iter_mut()) {
            *t = form.pull(p(*t), q(*z));
        }
        let all = sum_of::<LANES>(teacher, teacher, |pull, _| pull);
        finish(student, teacher, [plain, of_student, all], shares);
    }
    loss
}

/// The same beside the probabilities of some tokens, and of all others together where there are others. `room` is as long as the row.
#[inline(always)]
pub(super) fn beside_cells<F: Form>(
    form: F,
    student: &mut [f32],
    cells: Cells<'_>,
    room: &mut [f32],
    shares: Shares,
    derive: bool,
) -> TokenLoss {
    let cold = 1.0 / shares.temperature;
    let plain = log_sum_exp(student);
    let of_student = log_sum_exp_at(student, cold);
    let q = |logit: f32| logit * cold - of_student;
    let mut divergence = 0.0;
    let mut all = 0.0;
    for (id, p) in cells.ids.iter().zip(cells.log_probabilities) {
        divergence += form.value(*p, q(student[*id]));
        all += form.pull(*p, q(student[*id]));
    }
    let rest = cells.others.map(|others| {
        room.copy_from_slice(student);
        cells.ids.iter().for_each(|id| room[*id] = f32::NEG_INFINITY);
        let rest = log_sum_exp_at(room, cold) - of_student;
        divergence += form.value(others, rest);
        let pull = form.pull(others, rest);
        all += pull;
        (rest, pull)
    });
    let loss = TokenLoss { cross_entropy: plain - student[shares.target], divergence };
    if derive {
        match rest {
            None => room.fill(0.0),
            Some((rest, pull)) => {
                for (z, room) in student.iter().zip(room.iter_mut()) {
                    *room = pull * exp(q(*z) - rest);
                }
            }
        }
        for (id, p) in cells.ids.iter().zip(cells.log_probabilities) {
            room[*id] = form.pull(*p, q(student[*id]));
        }
        finish(student, room, [plain, of_student, all], shares);
    }
    loss
}

/// A teacher's cells for one token.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub ids: &'a [usize],
    pub log_probabilities: &'a [f32],
    /// The logarithm of the probability of all other tokens, where there are any.
    pub others: Option<f32>,
}

/// Turns (softened) logits into the derivative of the loss by the logits before softening. `pulls` are `A s` of every token, `all` their
/// sum; the other numbers are the logarithms of the student's sums, plain and at the temperature.
#[inline(always)]
fn finish(student: &mut [f32], pulls: &[f32], [plain, of_student, all]: [f32; 3], shares: Shares) {
    let Shares { temperature, of_cross_entropy, of_divergence, target, cap } = shares;
    let cold = 1.0 / temperature;
    // T^2 of the loss and 1 / T of the derivative.
    let of_divergence = of_divergence * temperature;
    let of_target = student[target];
    let slope = |logit: f32| match cap {
        None => 1.0,
        Some(cap) => 1.0 - (logit / cap) * (logit / cap),
    };
    for (logit, pull) in student.iter_mut().zip(pulls) {
        let probability = exp(*logit * cold - of_student);
        let inner = of_cross_entropy * exp(*logit - plain) + of_divergence * (pull - probability * all);
        *logit = inner * slope(*logit);
    }
    student[target] -= of_cross_entropy * slope(of_target);
}

/// `ln sum exp(cold * x)` of a row. NaN if any logit is NaN or infinitely large.
#[inline(always)]
fn log_sum_exp_at(row: &[f32], cold: f32) -> f32 {
    let largest = crate::sums::maximum::<LANES>(row) * cold;
    largest + sum_of::<LANES>(row, row, |logit, _| exp(logit * cold - largest)).ln()
}
