//! Adapters that were trained on a model with another number of tokens: [`fit`] gives the model the rows of the
//! adapter's file.
//!
//! Tokens were added and the embedding resized, so the file holds larger matrices: trained ones (`modules_to_save`), or
//! copies beside the factors, which PEFT writes whenever the sizes differ (`save_embedding_layers`). The tensors of the
//! file decide.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::AdapterError;
use firebrand_adapters::peft::{AdapterTensor, TensorNames};

use crate::error::ModelError;
use crate::model::{Model, VocabularyRows};
use crate::weights::WeightsFile;

/// Gives the model as many tokens as the adapter in `file` was trained with, with the file's matrices where it has them.
/// A file without a tensor over tokens changes nothing.
///
/// # Errors
/// Tensors over tokens of several sizes; more tokens than the model has, without the matrices that hold them.
pub(crate) fn fit(model: &mut Model, file: &WeightsFile, names: &TensorNames) -> Result<(), ModelError> {
    let (Some(ends), Some(old)) = (model.ends(), model.vocabulary()) else { return Ok(()) };
    let mismatch = |problem: String| ModelError::from(AdapterError::Mismatch { path: file.path().into(), problem });
    let mut sizes: BTreeMap<usize, String> = BTreeMap::new();
    let mut matrices: BTreeMap<&str, String> = BTreeMap::new();
    for ours in [ends.embedding, ends.head] {
        let theirs = model.name_for_peft(ours)?;
        let module = theirs.strip_suffix(".weight").unwrap_or(&theirs);
        if let Some(name) = names.base.get(&theirs) {
            sizes.insert(file.get(name)?.shape.first().copied().unwrap_or_default(), name.clone());
            matrices.insert(ours, name.clone());
        }
        for (tensor, name) in names.adapters.get(module).into_iter().flatten() {
            let rows = match tensor {
                AdapterTensor::EmbeddingA => file.get(name)?.shape.get(1).copied(),
                AdapterTensor::B => file.get(name)?.shape.first().copied(),
                AdapterTensor::A | AdapterTensor::EmbeddingB | AdapterTensor::Magnitude | AdapterTensor::Scale => None,
            };
            sizes.extend(rows.map(|rows| (rows, name.clone())));
        }
    }
    let mut sizes = sizes.into_iter();
    let (rows, name) = match (sizes.next(), sizes.next()) {
        (None, _) => return Ok(()),
        (Some(one), None) => one,
        (Some((rows, name)), Some((others, other))) => {
            return Err(mismatch(format!("`{name}` is for {rows} tokens, `{other}` for {others}")));
        }
    };
    if rows == old {
        return Ok(());
    }
    let missing = [ends.embedding, ends.head].into_iter().find(|ours| !matrices.contains_key(ours));
    if let Some(ours) = missing.filter(|_| rows > old && (!ends.tied || matrices.is_empty())) {
        return Err(mismatch(format!(
            "`{name}` is for {rows} tokens and the model has {old}; the rows of the added tokens are not in the file: it \
             has no `{}`. Enlarge the model as it was enlarged for training (`firebrand enlarge`), and give that model",
            model.name_for_peft(ours)?
        )));
    }
    let mut values = BTreeMap::new();
    for (ours, name) in &matrices {
        let view = file.get(name)?;
        view.check_finite()?;
        values.insert(*ours, (view.shape.to_vec(), view.to_f32()?));
    }
    if let Some((ours, (shape, _))) = values.iter().find(|(_, (shape, _))| shape.len() != 2) {
        return Err(mismatch(format!("`{}` is {shape:?}, expected a matrix", matrices[ours])));
    }
    model.resize_vocabulary(&VocabularyRows { rows, initial: vec![] })?;
    let mut problem = None;
    model.replace_vocabulary(rows, &mut |ours, matrix| {
        let tied = (ends.tied && ours == ends.embedding).then_some(ends.head);
        let Some((shape, values)) = values.remove(ours).or_else(|| values.remove(tied?)) else { return matrix };
        let [rows, width] = matrix.dims();
        if shape != [rows, width] {
            problem.get_or_insert(mismatch(format!("`{ours}` is {shape:?}, expected [{rows}, {width}]")));
            return matrix;
        }
        Tensor::from_data(TensorData::new(values, [rows, width]), &matrix.device())
    });
    problem.map_or(Ok(()), Err)
}
