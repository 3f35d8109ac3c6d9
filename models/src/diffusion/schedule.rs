//! [`Schedule`]: how a picture becomes noise, step by step (Ho et al. 2020, arXiv:2006.11239), and what a network tells of it.

/// How much of a picture is left at each time.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The share of the picture's variance that is left at each time, from 0 on.
    kept: Vec<f32>,
    /// What the network tells of a noisy picture.
    pub target: Target,
}

/// What a network tells of a noisy picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The noise (`epsilon`).
    Noise,
    /// The velocity from noise to picture (`v_prediction`; Salimans & Ho 2022, arXiv:2202.00512).
    Velocity,
}

/// The variance that each step adds.
#[derive(Debug, Clone, PartialEq)]
pub enum Betas {
    /// From the first to the last in equal steps (`linear`).
    Linear {
        /// The first.
        first: f64,
        /// The last.
        last: f64,
    },
    /// The same of their square roots (`scaled_linear`).
    ScaledLinear {
        /// The first.
        first: f64,
        /// The last.
        last: f64,
    },
    /// So that what is left follows a squared cosine (`squaredcos_cap_v2`; Nichol & Dhariwal 2021, arXiv:2102.09672).
    SquaredCosine,
    /// Given one by one.
    Given(Vec<f32>),
}

impl Betas {
    /// The variances of `count` steps, rounded where the reference rounds.
    fn of(&self, count: usize) -> Vec<f32> {
        match self {
            Self::Linear { first, last } => evenly(*first as f32, *last as f32, count),
            Self::ScaledLinear { first, last } => {
                evenly(first.sqrt() as f32, last.sqrt() as f32, count).into_iter().map(|root| root * root).collect()
            }
            Self::SquaredCosine => {
                let left = |time: f64| ((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                let step = |index: usize| {
                    let (now, next) = (index as f64 / count as f64, (index + 1) as f64 / count as f64);
                    (1.0 - left(next) / left(now)).min(0.999) as f32
                };
                (0..count).map(step).collect()
            }
            Self::Given(betas) => betas.clone(),
        }
    }
}

/// `count` numbers in equal steps: from the first in the first half, from the last in the second.
pub(super) fn evenly(first: f32, last: f32, count: usize) -> Vec<f32> {
    let step = (last - first) / (count.max(2) - 1) as f32;
    let at = |index: usize| match index < count / 2 {
        true => first + step * index as f32,
        false => last - step * (count - 1 - index) as f32,
    };
    (0..count).map(at).collect()
}

impl Schedule {
    /// The schedule of `count` steps. With `to_nothing` the variances are changed so that nothing of the picture is left at
    /// the last time (Lin et al. 2023, arXiv:2305.08891).
    pub fn new(betas: &Betas, count: usize, to_nothing: bool, target: Target) -> Self {
        let alphas = betas.of(count).into_iter().map(|beta| 1.0 - beta);
        let kept = cumulated(alphas);
        let kept = if to_nothing { cumulated(rescaled(&kept)) } else { kept };
        Self { kept, target }
    }

    /// Number of times.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The share of the picture's variance that is left at each time.
    pub fn kept(&self) -> &[f32] {
        &self.kept
    }

    /// The factors of the picture and of the noise at a time below [`Self::len`].
    pub fn factors(&self, time: usize) -> [f32; 2] {
        [self.kept[time].sqrt(), (1.0 - self.kept[time]).sqrt()]
    }

    /// The ratio of the variances of picture and noise at a time.
    pub fn signal_to_noise(&self, time: usize) -> f32 {
        let [picture, noise] = self.factors(time);
        (picture / noise).powi(2)
    }
}

/// Products of the first numbers, of one more each time.
fn cumulated(factors: impl IntoIterator<Item = f32>) -> Vec<f32> {
    let product = factors.into_iter().scan(1.0_f64, |product, factor| {
        *product *= f64::from(factor);
        Some(*product as f32)
    });
    product.collect()
}

/// The factors whose products are these, moved so that the first stays and the last is zero.
fn rescaled(kept: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = kept.iter().map(|kept| kept.sqrt()).collect();
    let (first, last) = (roots.first().copied().unwrap_or(1.0), roots.last().copied().unwrap_or(0.0));
    let moved = roots.iter().map(|root| ((root - last) * (first / (first - last))).powi(2));
    let moved: Vec<f32> = moved.collect();
    let before = moved.first().copied().into_iter().map(|_| 1.0).chain(moved.iter().copied());
    // Through the variances of steps, as the reference goes.
    before.zip(&moved).map(|(before, now)| 1.0 - (1.0 - now / before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_falls_as_published() {
        let betas = Betas::ScaledLinear { first: 0.00085, last: 0.012 };
        let schedule = Schedule::new(&betas, 1000, false, Target::Noise);
        for (time, left) in [(0, 0.99915), (500, 0.27633), (999, 0.00466)] {
            assert!((schedule.kept()[time] - left).abs() < 1e-5, "{time}: {}", schedule.kept()[time]);
        }
        let nothing = Schedule::new(&betas, 1000, true, Target::Velocity);
        assert_eq!(nothing.kept()[999], 0.0);
        assert!((nothing.kept()[0] - 0.99915).abs() < 1e-5);
    }
}
