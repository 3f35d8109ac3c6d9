//! What a teacher's cache will cost and lose, before it is written: [`CacheEstimate`].

use burn::tensor::Device;
use serde::Serialize;

use super::companion::{CompanionModel, teacher_key};
use super::data::Data;
use super::opened::Opened;
use crate::error::Error;
use crate::features::{Kept, bytes_of, kept_by};
use crate::recipe::{ObjectiveRecipe, TeacherRecipe};

/// The cache that a recipe names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheEstimate {
    /// Its folder.
    pub folder: String,
    /// Whether it is there.
    pub written: bool,
    /// Labelled positions of the training rows.
    pub positions: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// The share of the teacher's probability that `top_k` tokens hold, and fewer, on some rows; empty where the cache is there.
    pub kept: Vec<Kept>,
}

impl CacheEstimate {
    /// The estimate for a recipe that names a cache, which is `written` or not. Where it is not there, the teacher runs over a few rows.
    ///
    /// # Errors
    /// A teacher that cannot be read; rows that changed.
    pub fn new(opened: &Opened, data: &Data, written: bool, device: &Device) -> Result<Option<Self>, Error> {
        let Some(ObjectiveRecipe::Distill(distill)) = &opened.recipe().objective else { return Ok(None) };
        let TeacherRecipe::Cached { folder, model } = &distill.teacher else { return Ok(None) };
        let positions = data.train.labelled_tokens();
        let key = teacher_key(opened, None, None)?;
        let kept = match model {
            Some(model) if !written => {
                let (network, _) = CompanionModel::teacher(opened, model)?.load(&opened.loaded, device)?;
                kept_by(&network, &data.train, &key)?
            }
            Some(_) | None => vec![],
        };
        let bytes = bytes_of(positions, key.top_k, key.vocabulary);
        Ok(Some(Self { folder: folder.display().to_string(), written, positions, bytes, kept }))
    }
}
