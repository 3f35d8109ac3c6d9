//! Converts rows of tensors into labelled images: [`LabelledImages`].
//!
//! A row has `pixel_values` `[channels, height, width]` and `labels` `[]`, the number of its class. Images of several sizes may
//! stand in one batch: neighbours of one size go through the network together.

use firebrand_datasets::{
    Array, ArrayOutline, ArrayValues, Batch, BatchContent, NamedArrays, NamedOutlines, OutlineValues,
};
use firebrand_models::image::{ImageConfig, Pixels};

use crate::error::Error;

/// Neighbouring images of one size, each with its class.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledImages {
    /// The place of the first one in its batch.
    pub first: usize,
    /// The images.
    pub pixels: Pixels,
    /// The number of each one's class; absent where a row is only scored.
    pub labels: Vec<Option<usize>>,
}

const PIXELS: &str = "pixel_values";
const LABELS: &str = "labels";

impl LabelledImages {
    /// The images of `batch`, in order.
    ///
    /// # Errors
    /// Rows without tensors; a row that lacks a tensor, has one too many, or has one of a shape the network does not read.
    pub fn of(batch: &Batch, config: &ImageConfig) -> Result<Vec<Self>, Error> {
        let BatchContent::Tensors(rows) = &batch.content else {
            return Err(Error::Request {
                problem: "the rows are tokens, and a classifier of images reads pixels".into(),
                help: "give it rows of tensors: {\"tensors\": \"row.safetensors\"}".into(),
            });
        };
        Self::of_rows(rows, config)
    }

    /// As [`Self::of`], of rows outside a batch.
    ///
    /// # Errors
    /// As there.
    pub fn of_rows(rows: &[NamedArrays], config: &ImageConfig) -> Result<Vec<Self>, Error> {
        let mut groups: Vec<Self> = vec![];
        for (first, row) in rows.iter().enumerate() {
            let outline = row.iter().map(|(name, array)| (name.clone(), array.outline())).collect();
            check_image(&outline, config).map_err(wrong)?;
            let (shape, values) = match row.get(PIXELS) {
                Some(Array { shape, values: ArrayValues::F32(values) }) => (shape.as_slice(), values.as_slice()),
                Some(Array { values: ArrayValues::I64(_), .. }) | None => ([].as_slice(), [].as_slice()),
            };
            let label = label_of(&outline).map_err(wrong)?;
            match groups.last_mut().filter(|group| group.pixels.shape[1..] == *shape) {
                Some(group) => {
                    group.pixels.shape[0] += 1;
                    group.pixels.values.extend(values);
                    group.labels.push(label);
                }
                None => {
                    let &[channels, height, width] = shape else { continue };
                    let pixels = Pixels { values: values.to_vec(), shape: [1, channels, height, width] };
                    groups.push(Self { first, pixels, labels: vec![label] });
                }
            }
        }
        Ok(groups)
    }
}

/// Checks that a classifier of images can read a row of tensors.
///
/// # Errors
/// What is wrong with the row, without its location.
pub fn check_image(row: &NamedOutlines, config: &ImageConfig) -> Result<(), String> {
    if let Some(name) = row.keys().find(|name| ![PIXELS, LABELS].contains(&name.as_str())) {
        return Err(format!("its tensor `{name}` is not used: an image has `{PIXELS}` and `{LABELS}`"));
    }
    let (channels, patch) = (config.patches.channels, config.patches.patch);
    match row.get(PIXELS) {
        Some(ArrayOutline { shape, values: OutlineValues::F32 })
            if matches!(shape.as_slice(), &[found, height, width]
                if found == channels && height >= patch && width >= patch) => {}
        other => {
            let expected = format!("f32 [{channels}, height, width] with sides of {patch} pixels, a patch, or more");
            return Err(unlike(PIXELS, &expected, other));
        }
    }
    match (label_of(row)?, config.classes) {
        (Some(label), Some(classes)) if label >= classes => Err(format!(
            "its `{LABELS}` is {label}, and the head scores {classes} classes, 0 to {}",
            classes.saturating_sub(1)
        )),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Number of positions that a network has for the image of a row of tensors; absent where the row has none.
pub fn positions_of(row: &NamedOutlines, config: &ImageConfig) -> Option<usize> {
    match row.get(PIXELS)?.shape.as_slice() {
        &[_, height, width] => Some(config.patches.length_of(height, width)),
        _ => None,
    }
}

/// The number of the class that a row of tensors is labelled with, if it has a label.
///
/// # Errors
/// What is wrong with the label, without its location.
pub fn label_of(row: &NamedOutlines) -> Result<Option<usize>, String> {
    let expected = "i64 [], the number of a class";
    match row.get(LABELS) {
        None => Ok(None),
        Some(ArrayOutline { shape, values: OutlineValues::I64(values) }) if shape.is_empty() => {
            let number = values.first().and_then(|number| usize::try_from(*number).ok());
            number.map(Some).ok_or_else(|| format!("its tensor `{LABELS}` must be {expected}, found {values:?}"))
        }
        other => Err(unlike(LABELS, expected, other)),
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
