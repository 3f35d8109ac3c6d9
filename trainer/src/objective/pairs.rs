//! Converts rows of tensors into pairs of an image and a text: [`Pairs::of`].

use firebrand_datasets::{
    Array, ArrayOutline, ArrayValues, Batch, BatchContent, NamedArrays, NamedOutlines, OutlineValues,
};
use firebrand_models::towers::{TextInputs, TowersConfig};

use crate::error::Error;

/// The images of rows, all of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    /// Number of images.
    pub count: usize,
    /// `[count, channels, height, width]`, row-major.
    pub pixels: Vec<f32>,
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
}

/// The pairs of a micro-batch. Texts are padded to the longest one.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The images, in the order of the rows.
    pub images: Images,
    /// The texts, in the order of the rows.
    pub texts: TextInputs,
}

const PIXELS: &str = "pixel_values";
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";

impl Pairs {
    /// The pairs of `batch`.
    ///
    /// # Errors
    /// Rows without tensors; a row that lacks a tensor, has one too many, or has one of a shape the towers do not read.
    pub fn of(batch: &Batch, config: &TowersConfig) -> Result<Self, Error> {
        let BatchContent::Tensors(rows) = &batch.content else {
            return Err(Error::Request {
                problem: "the rows are tokens, and this objective reads pairs of an image and a text".into(),
                help: "give it rows of tensors: {\"tensors\": \"row.safetensors\"}".into(),
            });
        };
        let rows: Result<Vec<Row>, String> = rows.iter().map(|row| Row::of(row, config)).collect();
        Ok(Self::together(rows.map_err(wrong)?, config))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.images.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn together(rows: Vec<Row>, config: &TowersConfig) -> Self {
        let patches = config.vision.patches;
        let shape = [patches.channels, patches.image, patches.image];
        let mut images = Images { count: rows.len(), pixels: vec![], shape };
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let is_masked = rows.iter().any(|row| row.mask.is_some());
        let (mut ids, mut mask) = (vec![], vec![]);
        for row in rows {
            images.pixels.extend(row.pixels);
            let length = row.ids.len();
            mask.extend(row.mask.unwrap_or_else(|| vec![1; length]));
            mask.resize(mask.len() + longest - length, 0);
            ids.extend(row.ids);
            ids.resize(ids.len() + longest - length, config.text.padding());
        }
        let texts = TextInputs { ids, texts: images.count, mask: is_masked.then_some(mask) };
        Self { images, texts }
    }
}

/// Checks that towers can read a row of tensors.
///
/// # Errors
/// What is wrong with the row, without its location.
pub fn check_row(row: &NamedOutlines, config: &TowersConfig) -> Result<(), String> {
    if let Some(name) = row.keys().find(|name| ![PIXELS, IDS, MASK].contains(&name.as_str())) {
        return Err(format!("its tensor `{name}` is not used: a pair has `{PIXELS}`, `{IDS}` and maybe `{MASK}`"));
    }
    let patches = config.vision.patches;
    let wanted = [patches.channels, patches.image, patches.image];
    match row.get(PIXELS) {
        Some(ArrayOutline { shape, values: OutlineValues::F32 }) if *shape == wanted => {}
        other => return Err(unlike(PIXELS, &format!("f32 {wanted:?}"), other)),
    }
    let ids = match row.get(IDS) {
        Some(ArrayOutline { shape, values: OutlineValues::I64(ids) }) if shape.len() == 1 && !ids.is_empty() => ids,
        other => return Err(unlike(IDS, "i64 [tokens]", other)),
    };
    let (rows, longest) = (config.text.vocab_size, config.text.max_positions);
    if ids.len() > longest {
        return Err(format!("`{IDS}` has {} tokens, and the model has positions for {longest}", ids.len()));
    }
    if let Some(id) = ids.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= rows)) {
        return Err(format!("`{IDS}` has the token id {id}, and the model's vocabulary has {rows} tokens"));
    }
    match row.get(MASK) {
        None => Ok(()),
        Some(ArrayOutline { shape, values: OutlineValues::I64(mask) })
            if *shape == [ids.len()] && mask.iter().all(|value| matches!(value, 0 | 1)) =>
        {
            Ok(())
        }
        other => Err(unlike(MASK, &format!("i64 [{}] of 0 and 1", ids.len()), other)),
    }
}

/// One pair.
struct Row {
    pixels: Vec<f32>,
    ids: Vec<u32>,
    mask: Option<Vec<i32>>,
}

impl Row {
    fn of(row: &NamedArrays, config: &TowersConfig) -> Result<Self, String> {
        check_row(&row.iter().map(|(name, array)| (name.clone(), array.outline())).collect(), config)?;
        let pixels = match row.get(PIXELS) {
            Some(Array { values: ArrayValues::F32(pixels), .. }) => pixels.clone(),
            Some(Array { values: ArrayValues::I64(_), .. }) | None => vec![],
        };
        let ids = whole(row, IDS).unwrap_or_default().iter().map(|&id| id as u32).collect();
        let mask = whole(row, MASK).map(|mask| mask.iter().map(|&value| value as i32).collect());
        Ok(Self { pixels, ids, mask })
    }
}

/// The whole numbers of that name.
fn whole<'a>(row: &'a NamedArrays, name: &str) -> Option<&'a [i64]> {
    match &row.get(name)?.values {
        ArrayValues::I64(values) => Some(values),
        ArrayValues::F32(_) => None,
    }
}

fn unlike(name: &str, expected: &str, found: Option<&ArrayOutline>) -> String {
    let found = match found {
        None => "nothing".into(),
        Some(array) => format!("{} {:?}", array.values.dtype(), array.shape),
    };
    format!("its tensor `{name}` must be {expected}, found {found}")
}

fn wrong(problem: String) -> Error {
    Error::Request {
        problem: format!("a row of tensors: {problem}"),
        help: "`firebrand data RECIPE` shows rows".into(),
    }
}
