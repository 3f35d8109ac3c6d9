//! [`Probe`]: the rows on which two models are compared.

use firebrand_datasets::{Batch, BatchContent, Dataset, NamedArrays, RowKind, Tokenizer};
use firebrand_models::image::Pixels;
use firebrand_models::parts::PatchesConfig;
use firebrand_models::towers::{TextInputs, Towers};
use firebrand_models::{Model, TokenLimits};

use crate::error::Error;
use crate::objective::{Draw, Images, LabelledImages, NoisyRow, Pairs};

/// The number of probe rows and their largest length, in tokens.
const ROWS: usize = 8;
const LENGTH: usize = 128;
/// Noisy pictures among the built-in rows.
const PICTURES: usize = 3;

/// The inputs on which two models are compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// Rows of token ids.
    Tokens(Vec<Vec<u32>>),
    /// Pairs of an image and a text.
    Pairs(Pairs),
    /// Images, those of one size together.
    Images(Vec<Pixels>),
    /// Noisy pictures.
    Pictures(Vec<NoisyRow>),
}

impl Probe {
    /// The first rows of `dataset`, which `model` can read. Rows of tokens are not empty and are cut to a bounded
    /// length.
    ///
    /// # Errors
    /// A row that is not on disk as it was prepared.
    pub fn from_dataset(dataset: &Dataset, model: &Model) -> Result<Self, Error> {
        let network = model.network();
        if let (RowKind::Tensors, Some(denoiser)) = (dataset.kind(), network.denoiser()) {
            let rows = arrays(dataset)?;
            let row = |(row, arrays)| NoisyRow::of(arrays, denoiser, Draw::of(row));
            return Ok(Self::Pictures(rows.iter().enumerate().map(row).collect::<Result<_, _>>()?));
        }
        match (dataset.kind(), network.towers(), network.image()) {
            (RowKind::Tensors, Some(towers), _) => {
                let content = BatchContent::Tensors(arrays(dataset)?);
                Ok(Self::Pairs(Pairs::of(&Batch { examples: vec![], parts: vec![], content }, towers.config())?))
            }
            (RowKind::Tensors, None, Some(image)) => {
                let groups = LabelledImages::of_rows(&arrays(dataset)?, image.config())?;
                Ok(Self::Images(groups.into_iter().map(|group| group.pixels).collect()))
            }
            (RowKind::Tensors, None, None) | (RowKind::Tokens, ..) => {
                let ids = dataset.examples().map(|example| Ok(example?.tokens()?.input_ids.clone()));
                let filled =
                    ids.filter(|ids: &Result<Vec<u32>, Error>| ids.as_ref().map_or(true, |ids| !ids.is_empty()));
                Ok(Self::from_rows(filled.take(ROWS).collect::<Result<Vec<_>, _>>()?.into_iter()))
            }
        }
    }

    /// The first of these rows that are not empty, cut to a bounded length.
    pub fn from_rows(rows: impl Iterator<Item = Vec<u32>>) -> Self {
        let rows = rows.filter(|row| !row.is_empty()).take(ROWS);
        let cut = |mut row: Vec<u32>| {
            row.truncate(LENGTH);
            row
        };
        Self::Tokens(rows.map(cut).collect())
    }

    /// Built-in rows, for when there is no data.
    ///
    /// # Errors
    /// A tokenizer that cannot encode them.
    pub fn built_in(tokenizer: Option<&Tokenizer>, model: &Model) -> Result<Self, Error> {
        let network = model.network();
        if let Some(denoiser) = network.denoiser() {
            return Ok(Self::Pictures((0..PICTURES).map(|row| NoisyRow::pattern(denoiser, row)).collect()));
        }
        match (network.token_limits(), network.towers(), network.image()) {
            (Some(limits), ..) => Self::sentences(tokenizer, limits),
            (None, Some(towers), _) => Ok(Self::Pairs(patterns(towers))),
            (None, None, Some(image)) => {
                let PatchesConfig { channels, image, .. } = image.config().patches;
                let shape = [ROWS, channels, image, image];
                Ok(Self::Images(vec![Pixels { values: waves(shape), shape }]))
            }
            (None, None, None) => Ok(Self::Tokens(vec![])),
        }
    }

    /// Built-in sentences, or token ids where there is no tokenizer.
    fn sentences(tokenizer: Option<&Tokenizer>, limits: TokenLimits) -> Result<Self, Error> {
        const SENTENCES: [&str; 4] = [
            "The lighthouse keeper writes down the weather every morning before breakfast.",
            "What is the capital of France? The capital of France is Paris.",
            "fn main() { println!(\"{}\", (1..=10).sum::<i32>()); }",
            "Once upon a time there was a river that forgot the way to the sea.",
        ];
        let rows = match tokenizer {
            Some(tokenizer) => {
                SENTENCES.iter().map(|text| tokenizer.encode(text, true)).collect::<Result<Vec<_>, _>>()?
            }
            None => (0..4).map(|row| strided(row, 64, limits.vocab_size)).collect(),
        };
        Ok(Self::Tokens(rows))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Tokens(rows) => rows.len(),
            Self::Pairs(pairs) => pairs.len(),
            Self::Images(groups) => groups.iter().map(|pixels| pixels.shape[0]).sum(),
            Self::Pictures(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first rows of a dataset of tensors.
fn arrays(dataset: &Dataset) -> Result<Vec<NamedArrays>, Error> {
    dataset.examples().take(ROWS).map(|example| Ok(dataset.arrays(&example?)?)).collect()
}

/// Token ids spread over a vocabulary, by a stride that is coprime to most sizes.
fn strided(row: usize, length: usize, vocabulary: usize) -> Vec<u32> {
    (0..length).map(|index| ((row * length + index) * 7919 % vocabulary) as u32).collect()
}

/// Waves as images of `[images, channels, height, width]`, of another length in each.
fn waves(shape: [usize; 4]) -> Vec<f32> {
    let values: usize = shape[1..].iter().product();
    let wave = |index: usize| (index as f32 * 0.37 / (1 + index / values) as f32).sin();
    (0..shape[0] * values).map(wave).collect()
}

/// Waves as images, and ids spread over the vocabulary as texts.
fn patterns(towers: &Towers) -> Pairs {
    let config = towers.config();
    let patches = config.vision.patches;
    let shape = [patches.channels, patches.image, patches.image];
    let images = Images { count: ROWS, pixels: waves([ROWS, shape[0], shape[1], shape[2]]), shape };
    let length = config.text.max_positions.min(LENGTH);
    let ids = (0..ROWS).flat_map(|row| strided(row, length, config.text.vocab_size)).collect();
    Pairs { images, texts: TextInputs { ids, texts: ROWS, mask: None } }
}
