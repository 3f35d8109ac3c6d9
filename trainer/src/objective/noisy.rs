//! Rows of tensors for diffusion models: [`NoisyRow::of`].

use firebrand_adapters::{normal, stream};
use firebrand_datasets::{Array, ArrayValues, NamedArrays};
use firebrand_models::diffusion::Diffusion;
use rand::Rng;

use super::conditions::{Conditions, States};
use super::noisy_check::{
    IDS, IDS_2, LATENTS, LATENTS_NOISE, NOISE, NUMBERS, PIXELS, POOLED, STATES, TIME, check_noisy_row, smallest_side,
};
use super::views::schedule;
use crate::error::Error;

/// Numbers beside a text of XL: the picture's size, its crop, and the size that is wanted.
const SIZES: usize = 6;

/// One picture, and what its noise is.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyRow {
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
    /// The picture, row-major.
    pub latents: Vec<f32>,
    /// As `latents`.
    pub noise: Vec<f32>,
    /// Its time.
    pub time: usize,
    /// The states of its text.
    pub states: States,
    /// Its text as one vector, where the network reads that.
    pub pooled: Option<Vec<f32>>,
    /// The numbers beside it.
    pub numbers: Vec<f32>,
}

/// Where the random numbers of a row come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Seed of the step.
    pub key: u64,
    /// Place of the row in it.
    pub row: usize,
    /// Deviation of the noise that all pixels of a channel share.
    pub noise_offset: f64,
    /// How likely the row loses its text.
    pub caption_dropout: f64,
}

impl Draw {
    /// The draws of a row that is looked at, and not trained.
    pub fn of(row: usize) -> Self {
        Self { key: 0, row, noise_offset: 0.0, caption_dropout: 0.0 }
    }

    fn time(self, times: usize) -> usize {
        stream(self.key, &format!("time/{}", self.row)).random_range(0..times)
    }

    /// The noise by which latents are drawn from what the autoencoder tells.
    fn latents(self, count: usize) -> Vec<f32> {
        let mut rng = stream(self.key, &format!("latents/{}", self.row));
        (0..count).map(|_| normal(&mut rng) as f32).collect()
    }

    fn loses_text(self) -> bool {
        self.caption_dropout > 0.0
            && stream(self.key, &format!("caption/{}", self.row)).random::<f64>() < self.caption_dropout
    }

    fn noise(self, [channels, height, width]: [usize; 3]) -> Vec<f32> {
        let mut rng = stream(self.key, &format!("noise/{}", self.row));
        let mut noise: Vec<f32> = (0..channels * height * width).map(|_| normal(&mut rng) as f32).collect();
        if self.noise_offset > 0.0 {
            let mut rng = stream(self.key, &format!("noise offset/{}", self.row));
            for channel in noise.chunks_mut((height * width).max(1)) {
                let offset = (self.noise_offset * normal(&mut rng)) as f32;
                channel.iter_mut().for_each(|value| *value += offset);
            }
        }
        noise
    }
}

impl NoisyRow {
    /// Reads a row of tensors. What it lacks is drawn, or made by the pipeline's frozen networks.
    ///
    /// # Errors
    /// A tensor that is missing, one too many, or one of another shape than the networks read; a frozen network that cannot be
    /// read.
    pub fn of(row: &NamedArrays, model: &Diffusion, draw: Draw) -> Result<Self, Error> {
        let outlines = row.iter().map(|(name, array)| (name.clone(), array.outline())).collect();
        check_noisy_row(&outlines, model.config()).map_err(|problem| Error::Request {
            problem: format!("a row of tensors: {problem}"),
            help: "`firebrand data RECIPE` shows rows".into(),
        })?;
        let times = schedule(model)?.len();
        let (shape, latents) = picture(row, model, draw)?;
        let (states, pooled) = if draw.loses_text() { silence(model)? } else { text(row, model)? };
        Ok(Self {
            shape,
            latents,
            noise: numbers(row, NOISE).unwrap_or_else(|| draw.noise(shape)),
            time: numbers(row, TIME).map_or_else(|| draw.time(times), |time| time[0] as usize),
            states,
            pooled,
            numbers: numbers(row, NUMBERS).unwrap_or_default(),
        })
    }

    /// A made-up row, of waves, at a time that depends on its number.
    pub fn pattern(model: &Diffusion, row: usize) -> Self {
        const SIDE: usize = 8;
        const TOKENS: usize = 7;
        let unet = &model.config().unet;
        let side = smallest_side(model.config()).max(SIDE);
        let waves = |count: usize| (0..count).map(|at| ((at + 1) as f32 * 0.37 / (row + 1) as f32).sin()).collect();
        let shape = [unet.channels(), side, side];
        let times = model.config().schedule.as_ref().map_or(1000, |schedule| schedule.len());
        let pooled = unet.added.map(|added| {
            let numbers = ((added.inputs - 1) / added.sinusoid.width).min(SIZES);
            (added.inputs - numbers * added.sinusoid.width, numbers)
        });
        Self {
            shape,
            latents: waves(shape.iter().product()),
            noise: vec![0.0; shape.iter().product()],
            time: (row * times / 3 + 1).min(times - 1),
            states: States { shape: [TOKENS, unet.text], values: waves(TOKENS * unet.text) },
            pooled: pooled.map(|(width, _)| waves(width)),
            numbers: pooled.map_or_else(Vec::new, |(_, numbers)| vec![64.0; numbers]),
        }
    }

    /// Whether both can go through the network together.
    pub fn is_like(&self, other: &Self) -> bool {
        let lengths = |row: &Self| (row.pooled.as_ref().map(Vec::len), row.numbers.len());
        self.shape == other.shape && self.states.shape == other.states.shape && lengths(self) == lengths(other)
    }
}

/// The latents of a row: its own, or those of its pixels.
fn picture(row: &NamedArrays, model: &Diffusion, draw: Draw) -> Result<([usize; 3], Vec<f32>), Error> {
    if let (Some(latents), Some(shape)) = (numbers(row, LATENTS), shape(row, LATENTS)) {
        return Ok((shape, latents));
    }
    let (pixels, size) = (numbers(row, PIXELS).unwrap_or_default(), shape(row, PIXELS).unwrap_or_default());
    let picture = Conditions::of(model)?.picture(&pixels, size);
    let scaling = model.config().parts.as_ref().map_or(1.0, |parts| parts.vae.scaling) as f32;
    let noise = match numbers(row, LATENTS_NOISE) {
        None => vec![0.0; picture.mean.len()],
        Some(noise) if noise.is_empty() => draw.latents(picture.mean.len()),
        Some(noise) => noise,
    };
    let drawn = picture.mean.iter().zip(&picture.deviation).zip(&noise);
    Ok((picture.shape, drawn.map(|((mean, deviation), noise)| (mean + deviation * noise) * scaling).collect()))
}

/// What the network is told of the row's text: its own states, or those of its token ids.
fn text(row: &NamedArrays, model: &Diffusion) -> Result<(States, Option<Vec<f32>>), Error> {
    if let (Some(values), Some(array)) = (numbers(row, STATES), row.get(STATES)) {
        let shape = [0, 1].map(|dimension| array.shape.get(dimension).copied().unwrap_or_default());
        return Ok((States { shape, values }, numbers(row, POOLED)));
    }
    let ids = [IDS, IDS_2].into_iter().filter_map(|name| match &row.get(name)?.values {
        ArrayValues::I64(ids) => Some(ids.iter().map(|id| *id as u32).collect()),
        ArrayValues::F32(_) => None,
    });
    let text = Conditions::of(model)?.text(&ids.collect::<Vec<_>>());
    Ok((text.states.clone(), text.pooled.clone()))
}

/// What the network is told where there is no text.
fn silence(model: &Diffusion) -> Result<(States, Option<Vec<f32>>), Error> {
    let text = Conditions::of(model)?.silence()?;
    Ok((text.states.clone(), text.pooled.clone()))
}

/// The shape of a tensor of rank three.
fn shape(row: &NamedArrays, name: &str) -> Option<[usize; 3]> {
    row.get(name)?.shape.as_slice().try_into().ok()
}

/// The numbers of a tensor.
fn numbers(row: &NamedArrays, name: &str) -> Option<Vec<f32>> {
    let Array { values, .. } = row.get(name)?;
    Some(match values {
        ArrayValues::F32(values) => values.clone(),
        ArrayValues::I64(values) => values.iter().map(|value| *value as f32).collect(),
    })
}
