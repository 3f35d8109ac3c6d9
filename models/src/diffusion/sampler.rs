//! [`Sampler`]: from noise to pictures in some steps (DDIM: Song et al. 2020, arXiv:2010.02502; PNDM: Liu et al. 2022,
//! arXiv:2202.09778; Euler: Karras et al. 2022, arXiv:2206.00364; DPM-Solver++: Lu et al. 2022, arXiv:2211.01095). Reference: diffusers' `schedulers/`.
//!
//! Samples are flat numbers on the host: they are small beside what the network computes of them.

use super::schedule::{Schedule, Target, evenly};

/// A method, and how it spaces its times.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// The method.
    pub method: Method,
    /// Where the times of its steps lie.
    pub spacing: Spacing,
    /// What is added to times that lead.
    pub offset: usize,
}

impl SamplerConfig {
    /// The most steps that have times of their own.
    pub fn most_steps(&self, schedule: &Schedule) -> usize {
        (schedule.len() - self.left_out()).max(1)
    }

    /// How many of the times that are spaced are left out, from the first of the schedule on.
    fn left_out(&self) -> usize {
        usize::from(self.method == Method::DpmSolver)
    }
}

/// A method of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// DDIM without noise.
    Ddim {
        /// The bound of values of pictures, if they are kept within one.
        clip: Option<f64>,
        /// Whether the last step ends in what has no noise at all, in place of what the first time leaves.
        to_one: bool,
    },
    /// PNDM with linear multi-steps alone (PLMS).
    Pndm {
        /// As in [`Self::Ddim`].
        to_one: bool,
    },
    /// Euler's method.
    Euler,
    /// DPM-Solver++ of second order with multi-steps (2M), by the midpoint.
    DpmSolver,
}

/// Where the times of steps lie among those of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// From the first to the last.
    Linspace,
    /// From the first on, in equal steps.
    Leading,
    /// From the last on, in equal steps.
    Trailing,
}

/// A run of steps.
#[derive(Debug, Clone)]
pub struct Sampler {
    method: Method,
    target: Target,
    /// What is left of a picture's variance at each time of the schedule.
    kept: Vec<f32>,
    times: Vec<f32>,
    /// Noise by unit of picture before each step of Euler's method, and after the last.
    sigmas: Vec<f32>,
    /// Times from one step to the next.
    stride: i64,
    /// What the network told in earlier steps, and the sample before the first, for PNDM; for DPM-Solver++ the picture of the
    /// step before.
    told: Vec<Vec<f32>>,
    first: Vec<f32>,
}

impl Sampler {
    /// A run of `steps` steps, at least one.
    pub fn new(config: &SamplerConfig, schedule: &Schedule, steps: usize) -> Self {
        let count = schedule.len();
        let is_euler = config.method == Method::Euler;
        // The reference of DPM-Solver++ spaces one time more, and leaves out the first of the schedule.
        let more = config.left_out();
        let steps = steps.clamp(1, config.most_steps(schedule));
        // From the last time to the first.
        let mut times: Vec<f32> = match config.spacing {
            Spacing::Linspace => {
                let times = evenly(0.0, (count - 1) as f32, steps + more);
                let rounded = |time: f32| if is_euler { time } else { round_half_even(time) };
                times.into_iter().rev().map(rounded).take(steps).collect()
            }
            Spacing::Leading => {
                let ratio = count / (steps + more);
                (more..steps + more).rev().map(|step| (step * ratio + config.offset) as f32).collect()
            }
            Spacing::Trailing => {
                let ratio = count as f64 / steps as f64;
                let time = |step: usize| round_half_even((count as f64 - step as f64 * ratio) as f32) - 1.0;
                (0..steps).map(time).collect()
            }
        };
        let mut kept = schedule.kept().to_vec();
        if (is_euler || more == 1)
            && let Some(last) = kept.last_mut().filter(|last| **last == 0.0)
        {
            // The reference's smallest share, so that the first sigma is finite.
            *last = 2.0_f32.powi(-24);
        }
        let sigma = |time: f32| {
            let of = |index: usize| f64::from(((1.0 - kept[index]) / kept[index]).sqrt());
            let below = (time.max(0.0) as usize).min(count - 1);
            let above = (below + 1).min(count - 1);
            (of(below) + (of(above) - of(below)) * f64::from(time - below as f32)) as f32
        };
        let sigmas = times.iter().map(|time| sigma(*time)).chain([0.0]).collect();
        if let (Method::Pndm { .. }, true) = (config.method, times.len() > 1) {
            // The second time comes twice: the first step is made again from what the second tells.
            times.insert(1, times[1]);
        }
        Self {
            method: config.method,
            target: schedule.target,
            stride: (count / steps) as i64,
            kept,
            times,
            sigmas,
            told: vec![],
            first: vec![],
        }
    }

    /// The time of each step, at which the network is asked.
    pub fn times(&self) -> &[f32] {
        &self.times
    }

    /// The deviation of the noise at which the run starts.
    pub fn deviation(&self, spacing: Spacing) -> f32 {
        let largest = self.sigmas.iter().copied().fold(0.0, f32::max);
        match (self.method, spacing) {
            (Method::Ddim { .. } | Method::Pndm { .. } | Method::DpmSolver, _) => 1.0,
            (Method::Euler, Spacing::Linspace | Spacing::Trailing) => largest,
            (Method::Euler, Spacing::Leading) => (largest * largest + 1.0).sqrt(),
        }
    }

    /// What the network is shown of a sample before a step.
    pub fn shown(&self, step: usize, sample: &[f32]) -> Vec<f32> {
        let factor = match self.method {
            Method::Ddim { .. } | Method::Pndm { .. } | Method::DpmSolver => 1.0,
            Method::Euler => 1.0 / (self.sigmas[step] * self.sigmas[step] + 1.0).sqrt(),
        };
        sample.iter().map(|value| value * factor).collect()
    }

    /// The sample after a step, given what the network told of what it was shown.
    pub fn step(&mut self, step: usize, told: &[f32], sample: &[f32]) -> Vec<f32> {
        match self.method {
            Method::Ddim { clip, to_one } => {
                let time = self.times[step] as i64;
                let (now, next) = (self.left(time, to_one), self.left(time - self.stride, to_one));
                let both = sample.iter().zip(told);
                both.map(|(sample, told)| {
                    let (root, rest) = (now.sqrt(), (1.0 - now).sqrt());
                    let picture = match self.target {
                        Target::Noise => (sample - rest * told) / root,
                        Target::Velocity => root * sample - rest * told,
                    };
                    let noise = match self.target {
                        Target::Noise => *told,
                        Target::Velocity => root * told + rest * sample,
                    };
                    let picture = clip.map_or(picture, |bound| picture.clamp(-(bound as f32), bound as f32));
                    next.sqrt() * picture + (1.0 - next).sqrt() * noise
                })
                .collect()
            }
            Method::DpmSolver => self.dpm_solver_step(step, told, sample),
            Method::Pndm { to_one } => self.linear_multi_step(step, told, sample, to_one),
            Method::Euler => {
                let (now, next) = (self.sigmas[step], self.sigmas[step + 1]);
                let both = sample.iter().zip(told);
                both.map(|(sample, told)| {
                    let picture = match self.target {
                        Target::Noise => sample - now * told,
                        Target::Velocity => told * (-now / (now * now + 1.0).sqrt()) + sample / (now * now + 1.0),
                    };
                    sample + (sample - picture) / now * (next - now)
                })
                .collect()
            }
        }
    }

    /// A step of PLMS, whose first is made twice.
    fn linear_multi_step(&mut self, step: usize, told: &[f32], sample: &[f32], to_one: bool) -> Vec<f32> {
        let time = self.times[step] as i64;
        let (from, to) = if step == 1 { (time + self.stride, time) } else { (time, time - self.stride) };
        if step != 1 {
            if self.told.len() == 4 {
                self.told.remove(0);
            }
            self.told.push(told.to_vec());
        }
        if step == 0 {
            self.first = sample.to_vec();
        }
        let factors: &[f32] = match self.told.len() {
            1 => &[1.0],
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let mixed: Vec<f32> = match step {
            1 => told.iter().zip(&self.told[0]).map(|(told, before)| (told + before) / 2.0).collect(),
            _ => {
                let at =
                    |index: usize| self.told.iter().rev().zip(factors).map(|(told, factor)| told[index] * factor).sum();
                (0..told.len()).map(at).collect()
            }
        };
        let sample = if step == 1 { std::mem::take(&mut self.first) } else { sample.to_vec() };
        let (now, next) = (self.left(from, to_one), self.left(to, to_one));
        let denominator = now * (1.0 - next).sqrt() + (now * (1.0 - now) * next).sqrt();
        let both = sample.iter().zip(mixed);
        both.map(|(sample, told)| {
            let noise = match self.target {
                Target::Noise => told,
                Target::Velocity => now.sqrt() * told + (1.0 - now).sqrt() * sample,
            };
            (next / now).sqrt() * sample - (next - now) * noise / denominator
        })
        .collect()
    }

    /// A step of DPM-Solver++ (2M). The last, after which no noise is left, is of first order.
    fn dpm_solver_step(&mut self, step: usize, told: &[f32], sample: &[f32]) -> Vec<f32> {
        let both = |sigma: f32| {
            let picture = 1.0 / (sigma * sigma + 1.0).sqrt();
            (picture, sigma * picture)
        };
        let (left, noise) = both(self.sigmas[step]);
        let picture: Vec<f32> = sample
            .iter()
            .zip(told)
            .map(|(sample, told)| match self.target {
                Target::Noise => (sample - noise * told) / left,
                Target::Velocity => left * sample - noise * told,
            })
            .collect();
        let (left_after, noise_after) = both(self.sigmas[step + 1]);
        // The logarithm of the ratio of picture and noise, which grows to infinity where no noise is left.
        let ratio = |index: usize| -self.sigmas[index].ln();
        let length = ratio(step + 1) - ratio(step);
        let factor = left_after * ((-length).exp() - 1.0);
        let is_last = step + 1 == self.times.len();
        let before = self.told.pop().filter(|_| !is_last);
        let after = |at: usize| {
            let first = noise_after / noise * sample[at] - factor * picture[at];
            match &before {
                None => first,
                Some(before) => {
                    let relative = (ratio(step) - ratio(step - 1)) / length;
                    first - 0.5 * factor * ((picture[at] - before[at]) / relative)
                }
            }
        };
        let next = (0..sample.len()).map(after).collect();
        self.told.push(picture);
        next
    }

    /// What is left of a picture's variance at a time; before the first, all of it or what the first leaves.
    fn left(&self, time: i64, to_one: bool) -> f32 {
        match usize::try_from(time) {
            Ok(time) => self.kept[time.min(self.kept.len() - 1)],
            Err(_) if to_one => 1.0,
            Err(_) => self.kept[0],
        }
    }
}

/// Rounded to the nearest whole number, halves to an even one.
fn round_half_even(value: f32) -> f32 {
    value.round_ties_even()
}
