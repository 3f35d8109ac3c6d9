//! From pictures to the numbers that a model reads: [`Processor`].
//!
//! The steps are those of the image processors of transformers (`image_processing_backends.py`) and of the transforms of
//! torchvision that open_clip and the training scripts of diffusers use: resize, crop, scale, normalise.

use serde::Serialize;

use super::decode::Picture;
use super::resize::{Filter, resize};
use crate::array::{Array, ArrayValues};

/// What is done with a picture before a model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    /// The size that it is given first; absent: it keeps its own.
    pub resize: Option<Resize>,
    /// The part of it that is kept then; absent: all of it.
    pub crop: Option<Crop>,
    /// Factor on the samples, which are from 0 to 255.
    pub scale: f32,
    /// What is subtracted from the scaled samples of red, green and blue.
    pub mean: [f32; 3],
    /// What the differences are divided by.
    pub std: [f32; 3],
}

/// A resize.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resize {
    /// The new size.
    pub to: Target,
    /// How pixels are computed.
    pub filter: Filter,
}

/// The size that a resize gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The shorter side has this many pixels, and the longer as many as keep the proportions, rounded down.
    Shorter(u32),
    /// Height and width, whatever the proportions.
    Exactly(u32, u32),
}

/// A crop in the middle. Where the picture is smaller it is padded with black on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// Height of what is kept, in pixels.
    pub height: u32,
    /// Width of what is kept, in pixels.
    pub width: u32,
    /// Where it begins if what is left over is odd.
    pub odd: Odd,
}

/// Where a crop begins if the sides left over are odd together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// At the half rounded down, as transformers has it.
    Down,
    /// At the half rounded to the even neighbour, as torchvision has it.
    Even,
}

/// The part of a resized picture that is kept: what a contact sheet tells and Stable Diffusion XL is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Rows above it; negative where black rows were added.
    pub top: i64,
    /// Columns left of it.
    pub left: i64,
}

impl Processor {
    /// What the training scripts of diffusers do: the shorter side becomes `side` by Lanczos, the square in the middle is kept,
    /// and samples are from -1 to 1.
    pub fn square(side: u32) -> Self {
        Self {
            resize: Some(Resize { to: Target::Shorter(side), filter: Filter::Lanczos }),
            crop: Some(Crop { height: side, width: side, odd: Odd::Even }),
            scale: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    /// What is kept of `picture`, in 8 bits, and where it was in the resized picture.
    pub fn fit(&self, picture: &Picture) -> (Picture, Place) {
        let resized = match self.resize {
            None => picture.clone(),
            Some(Resize { to, filter }) => {
                let (height, width) = to.of(picture.height, picture.width);
                resize(picture, width, height, filter)
            }
        };
        match self.crop {
            None => (resized, Place { top: 0, left: 0 }),
            Some(crop) => crop.of(&resized),
        }
    }

    /// The pixels that a model reads: f32 `[3, height, width]`.
    pub fn pixels(&self, fitted: &Picture) -> Array {
        let (height, width) = (fitted.height as usize, fitted.width as usize);
        // Mean and deviation in units of samples, as the reference's fused step has them.
        let units = 1.0 / self.scale;
        let values = (0..3).flat_map(|channel| {
            let (mean, std) = (self.mean[channel] * units, self.std[channel] * units);
            let table: Vec<f32> = (0..=u8::MAX).map(|sample| (f32::from(sample) - mean) / std).collect();
            fitted.rgb.iter().skip(channel).step_by(3).map(move |sample| table[usize::from(*sample)])
        });
        Array { shape: vec![3, height, width], values: ArrayValues::F32(values.collect()) }
    }

    /// Height and width of what is kept of a picture of `height` x `width` pixels.
    pub fn size(&self, height: u32, width: u32) -> (u32, u32) {
        match (self.crop, self.resize) {
            (Some(crop), _) => (crop.height, crop.width),
            (None, Some(resize)) => resize.to.of(height, width),
            (None, None) => (height, width),
        }
    }
}

impl Target {
    /// Height and width for a picture of `height` x `width` pixels.
    fn of(self, height: u32, width: u32) -> (u32, u32) {
        match self {
            Self::Exactly(height, width) => (height, width),
            Self::Shorter(short) => {
                // As the references: int(short * long / short), in floating point.
                let long = |longer: u32, shorter: u32| {
                    (f64::from(short) * f64::from(longer) / f64::from(shorter)).min(f64::from(u32::MAX)) as u32
                };
                match width <= height {
                    true => (long(height, width), short),
                    false => (short, long(width, height)),
                }
            }
        }
    }
}

impl Crop {
    fn of(self, picture: &Picture) -> (Picture, Place) {
        let start = |whole: u32, part: u32| {
            let left_over = i64::from(whole) - i64::from(part);
            // More is added behind than before.
            let (half, is_odd) = (left_over.div_euclid(2), left_over.rem_euclid(2) == 1);
            match self.odd {
                _ if left_over < 0 => -(-left_over).div_euclid(2),
                Odd::Even if is_odd && half % 2 == 1 => half + 1,
                Odd::Even | Odd::Down => half,
            }
        };
        let place = Place { top: start(picture.height, self.height), left: start(picture.width, self.width) };
        let mut rgb = Vec::with_capacity(self.height as usize * self.width as usize * 3);
        for row in place.top..place.top + i64::from(self.height) {
            for column in place.left..place.left + i64::from(self.width) {
                let is_inside =
                    (0..i64::from(picture.height)).contains(&row) && (0..i64::from(picture.width)).contains(&column);
                match is_inside {
                    true => {
                        let at = (row as usize * picture.width as usize + column as usize) * 3;
                        rgb.extend_from_slice(&picture.rgb[at..at + 3]);
                    }
                    false => rgb.extend([0; 3]),
                }
            }
        }
        (Picture { width: self.width, height: self.height, rgb }, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        let rgb = (0..width * height).flat_map(|index| [index as u8, 0, 255 - index as u8]).collect();
        Picture { width, height, rgb }
    }

    fn crop(size: u32, odd: Odd, of: (u32, u32)) -> Place {
        Crop { height: size, width: size, odd }.of(&picture(of.0, of.1)).1
    }

    #[test]
    fn an_odd_rest_is_parted_as_each_reference_parts_it() {
        // Rests of 1, 3 and 5: half down is 0, 1, 2; half to even is 0, 2, 2.
        for (rest, down, even) in [(1, 0, 0), (2, 1, 1), (3, 1, 2), (4, 2, 2), (5, 2, 2)] {
            assert_eq!(crop(8, Odd::Down, (8, 8 + rest)), Place { top: down, left: 0 });
            assert_eq!(crop(8, Odd::Even, (8 + rest, 8)), Place { top: 0, left: even });
        }
    }

    #[test]
    fn what_is_too_small_is_padded_with_black() {
        let (fitted, place) = Crop { height: 2, width: 5, odd: Odd::Down }.of(&picture(2, 4));
        assert_eq!(place, Place { top: 1, left: -1 });
        let red: Vec<u8> = fitted.rgb.iter().step_by(3).copied().collect();
        assert_eq!(red, [0, 2, 3, 0, 0, 0, 4, 5, 0, 0]);
    }

    #[test]
    fn the_shorter_side_decides_and_the_longer_is_rounded_down() {
        let target = Target::Shorter(224);
        assert_eq!(target.of(480, 640), (224, 298));
        assert_eq!(target.of(640, 480), (298, 224));
        assert_eq!(target.of(7, 7), (224, 224));
        assert_eq!(Target::Exactly(10, 20).of(5, 5), (10, 20));
    }

    #[test]
    fn samples_become_numbers_by_channel() {
        let processor =
            Processor { resize: None, crop: None, scale: 1.0 / 255.0, mean: [0.5, 0.0, 0.25], std: [0.5, 1.0, 0.5] };
        let (fitted, _) = processor.fit(&picture(2, 1));
        let Array { shape, values: ArrayValues::F32(values) } = processor.pixels(&fitted) else { panic!("f32") };
        assert_eq!(shape, [3, 1, 2]);
        let expected = [-1.0, 1.0 / 127.5 - 1.0, 0.0, 0.0, 1.5, (254.0 / 255.0 - 0.25) / 0.5];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
        assert_eq!(processor.size(3, 4), (3, 4));
    }
}
