//! Head, cross-entropy and divergence on the CPU, a chunk of tokens at a time.

use super::{
    DivergenceBackend, HeadRows, Settings, TeacherRows,
    rows::{Cells, Form, Shares, TokenLoss, WithForm, beside_cells, beside_head, with_form},
};
use crate::{
    cpu::vectorised,
    cross_entropy::{Derivatives, Head, Wanted, checked_targets, chunk_size, finish},
    flex::{dense, tensor, values},
    precision::Precision,
    work::operation,
};
use burn::backend::Flex;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// The loss, its parts, and the gradients of the student's hidden states, matrix, low-rank part and bias for a gradient of one on the loss.
pub(super) struct Outcome {
    pub loss: FlexTensor,
    pub parts: FlexTensor,
    pub derivatives: [Option<FlexTensor>; 4],
}

/// The forward pass, with the gradients that are wanted.
pub(super) fn distillation(
    student: HeadRows<Flex>,
    teacher: TeacherRows<Flex>,
    targets: &FlexTensor,
    weights: FlexTensor,
    settings: Settings,
    wanted: Wanted,
) -> Outcome {
    operation!("distillation");
    let weights = dense(weights);
    let student = Side::new(student, settings.precision);
    let vocab = student.head().vocab();
    let targets = checked_targets(targets, vocab);
    let teacher = match teacher {
        TeacherRows::Head { rows } => Teacher::Head(Side::new(rows, settings.teacher_precision)),
        TeacherRows::Cells { ids, log_probabilities, others } => {
            let cells = ids.layout().shape()[1];
            Teacher::Cells(AllCells {
                ids: checked_targets(&ids, vocab),
                cells,
                log_probabilities: dense(log_probabilities),
                others: dense(others),
            })
        }
    };
    let (of_cross_entropy, of_divergence) = values(&weights).split_at(targets.len());
    let divergence = settings.settings.divergence;
    with_form(divergence, Pass { student, teacher, targets, of_cross_entropy, of_divergence, settings, wanted })
}

/// Hidden states and a head, their elements in order.
struct Side {
    hidden: FlexTensor,
    head: FlexTensor,
    low_rank: FlexTensor,
    bias: FlexTensor,
    precision: Precision,
}

impl Side {
    fn new(rows: HeadRows<Flex>, precision: Precision) -> Self {
        let HeadRows { hidden, head, low_rank, bias } = rows;
        Self { hidden: dense(hidden), head, low_rank, bias: dense(bias), precision }
    }

    fn head(&self) -> Head<'_> {
        Head::new(&self.head, &self.low_rank, self.precision)
    }

    /// Hidden states of some tokens.
    fn hidden(&self, first: usize, count: usize) -> &[f32] {
        let width = self.head().width();
        &values(&self.hidden)[first * width..][..count * width]
    }
}

/// Where the teacher's distributions come from.
#[expect(clippy::large_enum_variant, reason = "one an operation")]
enum Teacher {
    Head(Side),
    Cells(AllCells),
}

/// The cells of all tokens.
struct AllCells {
    ids: Vec<usize>,
    cells: usize,
    log_probabilities: FlexTensor,
    others: FlexTensor,
}

impl AllCells {
    fn of(&self, token: usize) -> Cells<'_> {
        let range = token * self.cells..(token + 1) * self.cells;
        Cells {
            ids: &self.ids[range.clone()],
            log_probabilities: &values(&self.log_probabilities)[range],
            others: values(&self.others).get(token).copied(),
        }
    }
}

struct Pass<'a> {
    student: Side,
    teacher: Teacher,
    targets: Vec<usize>,
    of_cross_entropy: &'a [f32],
    of_divergence: &'a [f32],
    settings: Settings,
    wanted: Wanted,
}

impl Pass<'_> {
    /// How the loss of a token counts.
    fn shares(&self, token: usize) -> Shares {
        let settings = self.settings.settings;
        let alpha = settings.alpha as f32;
        Shares {
            temperature: settings.temperature as f32,
            of_cross_entropy: (1.0 - alpha) * self.of_cross_entropy[token],
            of_divergence: alpha * self.of_divergence[token],
            target: self.targets[token],
            cap: self.settings.softcap.map(|cap| cap as f32),
        }
    }

    /// Loss and derivative of a chunk, whose first token is `first`. `room` is as large as the logits.
    fn chunk<F: Form + Send + Sync>(
        &self,
        form: F,
        first: usize,
        losses: &mut [TokenLoss],
        logits: &mut [f32],
        room: &mut [f32],
    ) {
        let vocab = self.student.head().vocab();
        let derive = self.wanted.any();
        let (student_bias, student_cap) = (values(&self.student.bias), self.settings.softcap.map(|cap| cap as f32));
        let teacher_cap = self.settings.teacher_softcap.map(|cap| cap as f32);
        let rows = logits.par_chunks_mut(vocab).zip(room.par_chunks_mut(vocab)).zip(losses).enumerate();
        rows.for_each(|(index, ((student, room), loss))| {
            let token = first + index;
            vectorised(
                #[inline(always)]
                || {
                    finish(student, student_bias, student_cap);
                    *loss = match &self.teacher {
                        Teacher::Head(teacher) => {
                            finish(room, values(&teacher.bias), teacher_cap);
                            beside_head(form, student, room, self.shares(token), derive)
                        }
                        Teacher::Cells(cells) => {
                            beside_cells(form, student, cells.of(token), room, self.shares(token), derive)
                        }
                    };
                },
            );
        });
    }
}

impl WithForm for Pass<'_> {
    type Output = Outcome;

    fn run<F: Form + Send + Sync>(self, form: F) -> Outcome {
        let head = self.student.head();
        let (vocab, tokens) = (head.vocab(), self.targets.len());
        let mut derivatives = Derivatives::zeros(self.wanted, tokens, head);
        let mut losses = vec![TokenLoss::default(); tokens];
        if tokens > 0 && vocab > 0 {
            // Student and teacher share what one head may take.
            let size = chunk_size(tokens, vocab, 2);
            let (mut logits, mut room) = (vec![0.0; size * vocab], vec![0.0; size * vocab]);
            for (index, losses) in losses.chunks_mut(size).enumerate() {
                let (first, count) = (index * size, losses.len());
                let (logits, room) = (&mut logits[..count * vocab], &mut room[..count * vocab]);
                let chunk = head.chunk(self.student.hidden(first, count), count);
                head.push(chunk, logits);
                if let Teacher::Head(teacher) = &self.teacher {
                    teacher.head().push(teacher.head().chunk(teacher.hidden(first, count), count), room);
                }
                self.chunk(form, first, losses, logits, room);
                derivatives.add(head, first, chunk, logits);
            }
        }
        let sum = |of: &dyn Fn(&TokenLoss) -> f32, weights: &[f32]| -> f64 {
            losses.iter().zip(weights).map(|(loss, weight)| f64::from(of(loss)) * f64::from(*weight)).sum()
        };
        let cross_entropy = sum(&|loss| loss.cross_entropy, self.of_cross_entropy);
        let divergence = sum(&|loss| loss.divergence, self.of_divergence);
        let super::Distillation { temperature, alpha, .. } = self.settings.settings;
        let loss = (1.0 - alpha) * cross_entropy + alpha * temperature * temperature * divergence;
        Outcome {
            loss: tensor(vec![loss as f32], [1]),
            parts: tensor(vec![cross_entropy as f32, divergence as f32], [2]),
            derivatives: derivatives.finish(),
        }
    }
}

impl DivergenceBackend for Flex {
    fn fused_distillation(
        student: HeadRows<Flex>,
        teacher: TeacherRows<Flex>,
        targets: FlexTensor,
        weights: FlexTensor,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor) {
        let nothing = Wanted { hidden: false, head: false, low_rank: false, bias: false };
        let Outcome { loss, parts, .. } = distillation(student, teacher, &targets, weights, settings, nothing);
        (loss, parts)
    }
}
