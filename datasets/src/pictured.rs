//! Examples with a picture: [`Pictured`] is a picture with a caption or a label, and [`Pictures`] says what a model reads
//! of it.
//!
//! An example holds the encoded picture or the path of its file. Pixels are made when a batch is laid out.

use sha2::{Digest, Sha256};

use crate::array::{Array, ArrayOutline, ArrayValues, NamedArrays, NamedOutlines, OutlineValues};
use crate::classes::{Classes, Target};
use crate::error::DataError;
use crate::label::RowLabel;
use crate::location::Location;
use crate::medium::Medium;
use crate::picture::{self, Picture, Place, Processor};
use crate::tokenizer::Tokenizer;

/// The names of arrays that models read, those of the references' arguments.
pub const PIXELS: &str = "pixel_values";
const LABELS: &str = "labels";
/// Height and width of the picture, rows above and columns left of the part that was cut out, height and width of that.
const SIZES: &str = "time_ids";
const DRAWN: &str = "vae_noise";

/// How a model reads pictures and what belongs to them.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// What is done with pixels.
    pub processor: Processor,
    /// The ways in which a caption is read: none for models without text, two for Stable Diffusion XL.
    pub captions: Vec<CaptionReader>,
    /// Whether the model is told the size of the picture and the place of what was cut out of it.
    pub told_sizes: bool,
    /// Whether its latents are drawn from what an autoencoder tells of the pixels: then the noise of the draw is an array of
    /// no number, which says that it is to be drawn.
    pub drawn_latents: bool,
    /// The most pixels that a picture may have.
    pub most_pixels: u64,
}

/// How a caption becomes tokens.
#[derive(Debug, Clone)]
pub struct CaptionReader {
    /// The name of the array (`input_ids`).
    pub name: String,
    /// The tokenizer, which also says what stands around a text.
    pub tokenizer: Tokenizer,
    /// The most tokens, those around the text included. Longer captions are cut before the end token.
    pub longest: usize,
    /// The id with which shorter captions are filled up to `longest`; absent: they stay as long as they are.
    pub padding: Option<u32>,
}

/// A picture with what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictured {
    /// The encoded picture.
    pub image: Medium,
    /// Height and width as it is to be looked at, in pixels.
    pub size: (u32, u32),
    /// SHA-256 of its size and its pixels, so that the same picture in another file is known again.
    pub pixels: [u8; 32],
    /// The caption, where the row has one.
    pub caption: Option<Caption>,
    /// The label of the row, where the row has one.
    pub label: Option<RowLabel>,
}

/// A caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// As it stands in the row.
    pub text: String,
    /// Its tokens, by each of [`Pictures::captions`].
    pub ids: Vec<Vec<u32>>,
}

impl CaptionReader {
    /// The tokens of a caption, and their number before they were cut.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn read(&self, text: &str) -> Result<(Vec<u32>, Option<usize>), DataError> {
        let (before, after) = (self.tokenizer.prefix(), self.tokenizer.suffix());
        let mut inner = self.tokenizer.encode(text, false)?;
        let whole = before.len() + inner.len() + after.len();
        inner.truncate(self.longest.saturating_sub(before.len() + after.len()));
        let mut ids = [before, &inner, after].concat();
        if let Some(padding) = self.padding {
            ids.resize(self.longest.max(ids.len()), padding);
        }
        Ok((ids, Some(whole).filter(|whole| *whole > self.longest)))
    }
}

impl Pictures {
    /// Reads the picture in `bytes`, which `image` stands for in the row at `location`.
    ///
    /// # Errors
    /// Bytes that are no picture, or one with too many pixels.
    pub(crate) fn decode(&self, image: &Medium, bytes: &[u8], location: &Location) -> Result<Picture, DataError> {
        picture::decode(bytes, self.most_pixels).map_err(|why| image.error(location, why))
    }
}

impl Pictured {
    /// The hash of a picture's size and pixels.
    pub(crate) fn hash(picture: &Picture) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(picture.width.to_le_bytes());
        hash.update(picture.height.to_le_bytes());
        hash.update(&picture.rgb);
        hash.finalize().into()
    }

    /// What training sees of the picture, in 8 bits.
    ///
    /// # Errors
    /// The picture cannot be read again as it was.
    pub fn fitted(&self, location: &Location, pictures: &Pictures) -> Result<Picture, DataError> {
        Ok(self.fit(location, pictures)?.0)
    }

    fn fit(&self, location: &Location, pictures: &Pictures) -> Result<(Picture, Place), DataError> {
        let bytes = self.image.read(location)?;
        let picture = pictures.decode(&self.image, &bytes, location)?;
        Ok(pictures.processor.fit(&picture))
    }

    /// What the model is given for the row at `location`; `classes` say what its label is to be learned as.
    ///
    /// # Errors
    /// The picture cannot be read again as it was; a label that none of `classes` has.
    pub(crate) fn arrays(
        &self,
        location: &Location,
        pictures: &Pictures,
        classes: Option<&Classes>,
    ) -> Result<NamedArrays, DataError> {
        let (fitted, place) = self.fit(location, pictures)?;
        let mut arrays = self.texts(pictures);
        arrays.insert(PIXELS.into(), pictures.processor.pixels(&fitted));
        if pictures.told_sizes {
            arrays.insert(SIZES.into(), self.sizes((fitted.height, fitted.width), place));
        }
        if pictures.drawn_latents {
            arrays.insert(DRAWN.into(), to_be_drawn());
        }
        arrays.extend(self.target(location, classes)?.map(|target| (LABELS.into(), target)));
        Ok(arrays)
    }

    /// The same without pixels.
    ///
    /// # Errors
    /// A label that none of `classes` has.
    pub(crate) fn outline(
        &self,
        location: &Location,
        pictures: &Pictures,
        classes: Option<&Classes>,
    ) -> Result<NamedOutlines, DataError> {
        let mut outlines: NamedOutlines =
            self.texts(pictures).into_iter().map(|(name, array)| (name, array.outline())).collect();
        if pictures.drawn_latents {
            outlines.insert(DRAWN.into(), to_be_drawn().outline());
        }
        let (height, width) = pictures.processor.size(self.size.0, self.size.1);
        let shape = vec![3, height as usize, width as usize];
        outlines.insert(PIXELS.into(), ArrayOutline { shape, values: OutlineValues::F32 });
        if pictures.told_sizes {
            // What is said about the place has no bearing on whether a model reads it.
            outlines.insert(SIZES.into(), self.sizes((height, width), Place { top: 0, left: 0 }).outline());
        }
        outlines.extend(self.target(location, classes)?.map(|target| (LABELS.into(), target.outline())));
        Ok(outlines)
    }

    /// The sizes and the place, f32 `[6]`.
    fn sizes(&self, fitted: (u32, u32), place: Place) -> Array {
        let (height, width) = self.size;
        let numbers =
            [height as f32, width as f32, place.top as f32, place.left as f32, fitted.0 as f32, fitted.1 as f32];
        Array { shape: vec![numbers.len()], values: ArrayValues::F32(numbers.to_vec()) }
    }

    fn texts(&self, pictures: &Pictures) -> NamedArrays {
        let ids = self.caption.iter().flat_map(|caption| &caption.ids);
        let array = |ids: &Vec<u32>| Array {
            shape: vec![ids.len()],
            values: ArrayValues::I64(ids.iter().map(|id| i64::from(*id)).collect()),
        };
        pictures.captions.iter().zip(ids).map(|(reader, ids)| (reader.name.clone(), array(ids))).collect()
    }

    fn target(&self, location: &Location, classes: Option<&Classes>) -> Result<Option<Array>, DataError> {
        let label = self.label.as_ref().and_then(|row| row.label.as_ref());
        let (Some(classes), Some(label)) = (classes, label) else { return Ok(None) };
        let target = classes.target(label).map_err(|misfit| misfit.at(location))?;
        let (shape, values) = match target {
            Target::Class(class) => (vec![], ArrayValues::I64(vec![class as i64])),
            Target::Classes(of) => {
                (vec![of.len()], ArrayValues::F32(of.into_iter().map(|of| f32::from(u8::from(of))).collect()))
            }
            Target::Value(value) => (vec![], ArrayValues::F32(vec![value as f32])),
        };
        Ok(Some(Array { shape, values }))
    }
}

/// An array of no number in the place of random ones.
fn to_be_drawn() -> Array {
    Array { shape: vec![0], values: ArrayValues::F32(vec![]) }
}
