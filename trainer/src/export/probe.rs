//! [`Probe`]: the rows on which two models are compared.

use firebrand_datasets::{Batch, BatchContent, Dataset, ExampleContent, NamedArrays, RowKind, Tokenizer};
use firebrand_models::towers::{TextInputs, Towers};
use firebrand_models::{Model, TokenLimits};

use crate::error::Error;
use crate::objective::{Draw, Images, NoisyRow, Pairs};

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
        if let (RowKind::Tensors, Some(denoiser)) = (dataset.kind(), model.network().denoiser()) {
            let rows = tensors(dataset)?;
            let row = |(row, arrays)| NoisyRow::of(arrays, denoiser, Draw { key: 0, row, noise_offset: 0.0 });
            return Ok(Self::Pictures(rows.iter().enumerate().map(row).collect::<Result<_, _>>()?));
        }
        match (dataset.kind(), model.network().towers()) {
            (RowKind::Tensors, Some(towers)) => {
                let content = BatchContent::Tensors(tensors(dataset)?);
                Ok(Self::Pairs(Pairs::of(&Batch { examples: vec![], parts: vec![], content }, towers.config())?))
            }
            (RowKind::Tensors, None) | (RowKind::Tokens, _) => {
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
        if let Some(denoiser) = model.network().denoiser() {
            return Ok(Self::Pictures((0..PICTURES).map(|row| NoisyRow::pattern(denoiser, row)).collect()));
        }
        match (model.network().token_limits(), model.network().towers()) {
            (Some(limits), _) => Self::sentences(tokenizer, limits),
            (None, Some(towers)) => Ok(Self::Pairs(patterns(towers))),
            (None, None) => Ok(Self::Tokens(vec![])),
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
            Self::Pictures(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tensors of the first rows.
fn tensors(dataset: &Dataset) -> Result<Vec<NamedArrays>, Error> {
    let rows = dataset.examples().take(ROWS).map(|example| {
        let example = example?;
        match &example.content {
            ExampleContent::Tensors(file) => Ok(file.read(&example.source)?),
            ExampleContent::Tokens(_) => Ok(Default::default()),
        }
    });
    rows.collect()
}

/// Token ids spread over a vocabulary, by a stride that is coprime to most sizes.
fn strided(row: usize, length: usize, vocabulary: usize) -> Vec<u32> {
    (0..length).map(|index| ((row * length + index) * 7919 % vocabulary) as u32).collect()
}

/// Waves as images, and ids spread over the vocabulary as texts.
fn patterns(towers: &Towers) -> Pairs {
    let config = towers.config();
    let patches = config.vision.patches;
    let shape = [patches.channels, patches.image, patches.image];
    let values: usize = shape.iter().product();
    let wave = |index: usize| (index as f32 * 0.37 / (1 + index / values) as f32).sin();
    let images = Images { count: ROWS, pixels: (0..ROWS * values).map(wave).collect(), shape };
    let length = config.text.max_positions.min(LENGTH);
    let ids = (0..ROWS).flat_map(|row| strided(row, length, config.text.vocab_size)).collect();
    Pairs { images, texts: TextInputs { ids, texts: ROWS, mask: None } }
}
