//! Resizing: [`resize`] gives a picture another size, with the bytes of Pillow (`Image.resize`,
//! `src/libImaging/Resample.c`), which transformers, torchvision and diffusers resize pictures with.
//!
//! A sample is a weighted mean of those below it, with a filter that widens as the picture shrinks. One direction is computed
//! first and rounded to 8 bits, then the other; which one, [`is_high_first`] says. Weights are whole numbers of 22 bits behind the point and sums are exact. That
//! decides the samples that lie halfway between two levels, and they are the same on every processor. Libraries that add up
//! floating-point numbers differ from it, and from themselves with other vector instructions.

use std::f64::consts::PI;

use super::decode::Picture;

/// Bits of a weight behind the point: those of 32 that neither a sample nor the overshoot of a filter needs.
const BITS: u32 = 32 - 8 - 2;

/// The filter of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel in the middle.
    Nearest,
    /// The mean of a box.
    Box,
    /// A triangle of width 2.
    Bilinear,
    /// A sinc in a Hamming window, of width 2.
    Hamming,
    /// Keys' cubic with a = -1/2, of width 4.
    Bicubic,
    /// A sinc in a window of itself, of width 6.
    Lanczos,
}

impl Filter {
    /// The filter with this number in Pillow (`PIL.Image.Resampling`) and in `preprocessor_config.json`.
    pub fn by_number(number: u64) -> Option<Self> {
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// Half of the filter's width.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance of `x`, not normalised.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let distance = x.abs();
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance >= 1.0 => 0.0,
            Self::Hamming => sinc(distance) * (0.54 + 0.46 * (distance * PI).cos()),
            Self::Bicubic if distance < 1.0 => ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0,
            Self::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A,
            Self::Bicubic => 0.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// The picture with `width` x `height` pixels; both are at least 1.
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    let to_width = |picture: &Picture| match width == picture.width {
        true => picture.clone(),
        false => columns(picture, &taps(picture.width, width, filter)),
    };
    let to_height = |picture: &Picture| match height == picture.height {
        true => picture.clone(),
        false => rows(picture, &taps(picture.height, height, filter)),
    };
    match is_high_first(picture, width, height) {
        true => to_width(&to_height(picture)),
        false => to_height(&to_width(picture)),
    }
}

/// Whether rows are computed before columns: where the picture loses more than twice as many rows as columns. Found by
/// comparison with Pillow 13, whose result depends on it; older versions compute columns first always.
fn is_high_first(picture: &Picture, width: u32, height: u32) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let rows = lost(picture.height, height);
    rows > 0 && rows > 2 * lost(picture.width, width)
}

/// The samples that a new one is the mean of: the first, and their weights.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

/// The taps of each of `to` samples in a line of `from`.
fn taps(from: u32, to: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let widened = scale.max(1.0);
    let support = filter.support() * widened;
    let taps = (0..to).map(|index| {
        let center = (f64::from(index) + 0.5) * scale;
        if filter == Filter::Nearest {
            return Taps { first: (center as usize).min(from as usize - 1), weights: vec![1 << BITS] };
        }
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from as usize);
        let weight = |place: usize| filter.weight((place as f64 - center + 0.5) * (1.0 / widened));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        // Half a unit away from zero, then cut: as C converts.
        let whole = |weight: f64| (weight / sum * f64::from(1_u32 << BITS) + 0.5_f64.copysign(weight / sum)) as i64;
        Taps { first, weights: weights.into_iter().map(whole).collect() }
    });
    taps.collect()
}

/// A sample from the sum of weighted ones.
fn level(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

fn columns(picture: &Picture, taps: &[Taps]) -> Picture {
    let mut rgb = Vec::with_capacity(picture.height as usize * taps.len() * 3);
    for line in picture.rgb.chunks_exact(picture.width as usize * 3) {
        for Taps { first, weights } in taps {
            let mut sums = [0_i64; 3];
            for (pixel, weight) in line[first * 3..].as_chunks::<3>().0.iter().zip(weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += i64::from(*sample) * weight);
            }
            rgb.extend(sums.map(level));
        }
    }
    Picture { width: taps.len() as u32, height: picture.height, rgb }
}

fn rows(picture: &Picture, taps: &[Taps]) -> Picture {
    let line = picture.width as usize * 3;
    let mut rgb = Vec::with_capacity(taps.len() * line);
    let mut sums = vec![0_i64; line];
    for Taps { first, weights } in taps {
        sums.fill(0);
        for (samples, weight) in picture.rgb[first * line..].chunks_exact(line).zip(weights) {
            sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += i64::from(*sample) * weight);
        }
        rgb.extend(sums.iter().map(|sum| level(*sum)));
    }
    Picture { width: picture.width, height: taps.len() as u32, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Filter; 6] =
        [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos];

    #[test]
    fn a_picture_of_one_colour_stays_so() {
        let picture = Picture { width: 17, height: 5, rgb: [3, 200, 255].repeat(17 * 5) };
        for filter in ALL {
            for (width, height) in [(17, 5), (1, 1), (40, 2), (9, 33)] {
                let resized = resize(&picture, width, height, filter);
                assert_eq!(resized.rgb, [3, 200, 255].repeat((width * height) as usize), "{filter:?}");
            }
        }
    }

    #[test]
    fn half_the_size_is_the_mean_of_boxes() {
        let picture = Picture { width: 2, height: 2, rgb: vec![0, 10, 20, 1, 10, 20, 0, 10, 21, 1, 10, 23] };
        // 0.5 is rounded up, in each direction for itself.
        assert_eq!(resize(&picture, 1, 1, Filter::Box).rgb, [1, 10, 21]);
        assert_eq!(resize(&picture, 4, 2, Filter::Nearest).rgb[..12], [0, 10, 20, 0, 10, 20, 1, 10, 20, 1, 10, 20]);
    }
}
