//! The denoising objective, [`Denoise`] (Ho et al. 2020, arXiv:2006.11239; reference: diffusers'
//! `examples/text_to_image/train_text_to_image.py`).
//!
//! A picture `x` at time `t` becomes `sqrt(a_t) x + sqrt(1 - a_t) e` with standard normal noise `e`, and the network is asked
//! for `e`, or for the velocity `sqrt(a_t) e - sqrt(1 - a_t) x` where the pipeline's scheduler says so. The loss of a row is
//! the mean squared error over its values, that of a step the mean over its rows.
//!
//! With `min_snr` a row's loss is multiplied by `min(s, gamma) / s`, where `s = a_t / (1 - a_t)`, and by `min(s, gamma) / (s + 1)`
//! where the network tells velocities (Hang et al. 2023, arXiv:2303.09556).
//!
//! With `caption_dropout` a share of the rows is trained with the empty text in place of theirs (Ho and Salimans 2022,
//! arXiv:2207.12598).
//!
//! Times and noise that a row lacks are drawn by the step and the row's place in it, so that no split of the step and no
//! resume changes them; in evaluation, by the row's number among the rows.

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, BatchContent};
use firebrand_kernels::sum;
use firebrand_models::Network;
use firebrand_models::diffusion::{AddedInputs, Diffusion, Schedule, Target, UNetInputs};

use super::gradients::Gradients;
use super::noisy::{Draw, NoisyRow};
use super::parts::{EvalMetrics, Evaluated, Parts, StepLoss};
use super::pending::PendingLoss;
use super::views::{denoiser, schedule};
use crate::error::Error;

/// The denoising objective.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Denoise {
    /// The ratio of signal to noise from which on rows weigh less; absent: all weigh the same.
    pub min_snr: Option<f64>,
    /// Deviation of the noise that all pixels of a channel share.
    pub noise_offset: f64,
    /// The share of rows that are trained without their text.
    pub caption_dropout: f64,
}

impl Denoise {
    /// Adds the gradient of a step to `gradients` and returns the loss. `batches` are all micro-batches of the step.
    pub(super) fn accumulate_step(
        &self,
        network: &Network,
        batches: &[(Batch, Mode)],
        gradients: &mut Gradients,
    ) -> Result<StepLoss, Error> {
        let rows: usize = batches.iter().map(|(batch, _)| batch.labelled_tokens()).sum();
        let mut step = PendingLoss::default();
        for (batch, mode) in batches {
            for rows_alike in alike(&self.rows(denoiser(network), batch, *mode)?) {
                let loss = self.loss(denoiser(network), rows_alike, *mode)? / rows as f64;
                step.add(PendingLoss::of(&loss));
                if loss.is_tracked() {
                    gradients.collect(network, "", &mut loss.backward());
                }
            }
            gradients.end_micro_batch(batch.labelled_tokens() as f64 / rows as f64);
        }
        Ok(StepLoss { loss: step, ..StepLoss::default() })
    }

    /// The mean loss of all rows.
    pub(super) fn evaluate(
        &self,
        network: &Network,
        batches: &mut dyn Iterator<Item = Result<Batch, Error>>,
    ) -> Result<Evaluated, Error> {
        let (mut total, mut rows) = (PendingLoss::default(), 0);
        for batch in batches {
            let batch = batch?;
            rows += batch.labelled_tokens();
            for rows_alike in alike(&self.rows(denoiser(network), &batch, Mode::Inference)?) {
                total.add(PendingLoss::of(&self.loss(denoiser(network), rows_alike, Mode::Inference)?));
            }
        }
        let mut parts = Parts::default();
        parts.set("rows", rows as f64);
        Ok(Evaluated { loss: total.wait() / rows as f64, metrics: EvalMetrics::Numbers(parts) })
    }

    /// The rows of a batch, with what they lack drawn.
    fn rows(&self, model: &Diffusion, batch: &Batch, mode: Mode) -> Result<Vec<NoisyRow>, Error> {
        let BatchContent::Tensors(rows) = &batch.content else {
            return Err(Error::Request {
                problem: "the rows are tokens, and this objective reads pictures".into(),
                help: "give it rows of tensors: {\"tensors\": \"row.safetensors\"}".into(),
            });
        };
        let numbers = batch.examples.iter().flatten();
        let draw = |(place, number): (usize, &usize)| match mode {
            Mode::Training { key, first_row } => Draw {
                key,
                row: first_row + place,
                noise_offset: self.noise_offset,
                caption_dropout: self.caption_dropout,
            },
            Mode::Inference => Draw { noise_offset: self.noise_offset, ..Draw::of(*number) },
        };
        rows.iter().zip(numbers.enumerate().map(draw)).map(|(row, draw)| NoisyRow::of(row, model, draw)).collect()
    }

    /// The sum of the losses `[1]` of rows of one shape.
    fn loss(&self, model: &Diffusion, rows: &[NoisyRow], mode: Mode) -> Result<Tensor<1>, Error> {
        let schedule = schedule(model)?;
        let apart = errors(model, schedule, rows, mode);
        let [count, channels, height, width] = apart.dims();
        let values = (channels * height * width) as f64;
        let weights = rows.iter().map(|row| (self.weight(schedule, row.time) / values) as f32).collect();
        let weights = Tensor::<4>::from_data(TensorData::new::<f32, _>(weights, [count, 1, 1, 1]), &apart.device());
        Ok(sum(apart.clone() * apart * weights))
    }

    /// The factor on the loss of a row at a time.
    fn weight(&self, schedule: &Schedule, time: usize) -> f64 {
        let Some(gamma) = self.min_snr else { return 1.0 };
        let ratio = f64::from(schedule.signal_to_noise(time));
        match schedule.target {
            // The limit, where nothing of the picture is left.
            Target::Noise if ratio == 0.0 => 1.0,
            Target::Noise => ratio.min(gamma) / ratio,
            Target::Velocity => ratio.min(gamma) / (ratio + 1.0),
        }
    }
}

/// The plain mean squared error of one row, whatever the objective weighs.
///
/// # Errors
/// A row that the model cannot read; a pipeline without a schedule.
pub fn denoising_error(model: &Diffusion, row: &firebrand_datasets::NamedArrays) -> Result<f64, Error> {
    let row = NoisyRow::of(row, model, Draw::of(0))?;
    Ok(PendingLoss::of(&Denoise::default().loss(model, &[row], Mode::Inference)?).wait())
}

/// What the network tells of a row's picture as it is, at the row's time.
pub fn told(model: &Diffusion, row: &NoisyRow) -> Vec<f32> {
    let rows = std::slice::from_ref(row);
    let answer = model.unet().forward(&inputs(model, rows, mixed(model, rows, |_| [1.0, 0.0])), Mode::Inference);
    answer.into_data().iter::<f32>().collect()
}

/// What the network tells of rows of one shape, less what it should, `[rows, channels, height, width]`.
fn errors(model: &Diffusion, schedule: &Schedule, rows: &[NoisyRow], mode: Mode) -> Tensor<4> {
    let target = mixed(model, rows, |row| {
        let [picture, noise] = schedule.factors(row.time);
        match schedule.target {
            Target::Noise => [0.0, 1.0],
            Target::Velocity => [-noise, picture],
        }
    });
    let noisy = mixed(model, rows, |row| schedule.factors(row.time));
    model.unet().forward(&inputs(model, rows, noisy), mode) - target
}

/// Pictures and noise of rows of one shape, added up with their factors, `[rows, channels, height, width]`.
fn mixed(model: &Diffusion, rows: &[NoisyRow], factors: impl Fn(&NoisyRow) -> [f32; 2]) -> Tensor<4> {
    let of_row = |row: &NoisyRow| {
        let [picture, noise] = factors(row);
        let both = row.latents.iter().zip(&row.noise);
        both.map(|(x, e)| picture * x + noise * e).collect::<Vec<f32>>()
    };
    let [channels, height, width] = rows.first().map_or([0; 3], |row| row.shape);
    let values: Vec<f32> = rows.iter().flat_map(of_row).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), channels, height, width]), &model.device())
}

/// What the network is given for rows of one shape, beside noisy pictures.
fn inputs(model: &Diffusion, rows: &[NoisyRow], sample: Tensor<4>) -> UNetInputs {
    let device = model.device();
    let [tokens, wide] = rows.first().map_or([0; 2], |row| row.states.shape);
    let states: Vec<f32> = rows.iter().flat_map(|row| row.states.values.iter().copied()).collect();
    let added = rows.first().and_then(|row| row.pooled.as_ref()).map(|pooled| {
        let values: Vec<f32> = rows.iter().flat_map(|row| row.pooled.iter().flatten().copied()).collect();
        AddedInputs {
            pooled: Tensor::from_data(TensorData::new(values, [rows.len(), pooled.len()]), &device),
            numbers: rows.iter().flat_map(|row| row.numbers.iter().copied()).collect(),
        }
    });
    UNetInputs {
        sample,
        times: rows.iter().map(|row| row.time as f32).collect(),
        text: Tensor::from_data(TensorData::new(states, [rows.len(), tokens, wide]), &device),
        added,
    }
}

/// Runs of rows that follow each other and have one shape.
fn alike(rows: &[NoisyRow]) -> impl Iterator<Item = &[NoisyRow]> {
    rows.chunk_by(|left, right| left.is_like(right))
}
