//! The number of a model's tokens: [`Model::resize_vocabulary`] gives its token table and output head other rows.

use burn::tensor::{DType, Tensor, TensorData};

use super::Model;
use crate::error::ModelError;

/// The rows of a vocabulary of another size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VocabularyRows {
    /// Number of rows. Fewer than before: the last ones are left out.
    pub rows: usize,
    /// Rows whose values are decided: the mean of the given old rows, or of all old rows where none are given. Rows
    /// beyond the old ones that are not named here start at the mean of all old rows, as in transformers
    /// (`resize_token_embeddings`, whose new rows deviate from the mean by a thousandth of the old rows' deviation).
    pub initial: Vec<(usize, Vec<u32>)>,
}

impl Model {
    /// Number of tokens that the model reads and predicts; absent where it has no output head over them.
    pub fn vocabulary(&self) -> Option<usize> {
        let ends = self.ends()?;
        let table = self.parameters.iter().find(|info| info.path == ends.embedding)?;
        table.shape.first().copied()
    }

    /// Gives token table, output head and its bias the rows of `wanted`, and `config.json` their number. What is new is
    /// frozen like the rest.
    ///
    /// # Errors
    /// A model without an output head over tokens; an adapter on one of the two; a row that `wanted` does not have.
    pub fn resize_vocabulary(&mut self, wanted: &VocabularyRows) -> Result<(), ModelError> {
        let old = self.vocabulary().ok_or_else(|| self.no_vocabulary())?;
        let outside = wanted.initial.iter().find_map(|(row, of)| {
            let of = of.iter().find(|id| **id as usize >= old).map(|id| *id as usize);
            of.or((*row >= wanted.rows).then_some(*row))
        });
        if let Some(row) = outside {
            let problem = format!("row {row} of a vocabulary that grows from {old} to {} rows", wanted.rows);
            return Err(ModelError::Vocabulary { problem });
        }
        self.replace_vocabulary(wanted.rows, &mut |_, matrix| resized(matrix, wanted));
        Ok(())
    }

    /// Gives token table, output head and its bias other rows: row `i` becomes what row `rows[i]` was.
    ///
    /// # Errors
    /// A model without an output head over tokens; a row that it does not have.
    pub fn select_vocabulary(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        let old = self.vocabulary().ok_or_else(|| self.no_vocabulary())?;
        if let Some(row) = rows.iter().find(|row| **row as usize >= old) {
            return Err(ModelError::Vocabulary { problem: format!("row {row} of a vocabulary of {old} rows") });
        }
        let numbers: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        self.replace_vocabulary(rows.len(), &mut |_, matrix| {
            let numbers = TensorData::new(numbers.clone(), [numbers.len()]);
            matrix.clone().select(0, Tensor::from_data(numbers, &matrix.device()))
        });
        Ok(())
    }

    /// Replaces token table, head and bias `[rows, 1]` by what `change` makes of each, given its path.
    pub(crate) fn replace_vocabulary(&mut self, rows: usize, change: &mut dyn FnMut(&str, Tensor<2>) -> Tensor<2>) {
        let mut changed = vec![];
        self.network.replace_vocabulary(rows, &mut |path, matrix| {
            changed.push(path.to_string());
            change(path, matrix)
        });
        for info in self.parameters.iter_mut().filter(|info| changed.contains(&info.path)) {
            info.shape[0] = rows;
        }
        self.component.config.set("vocab_size", rows);
    }

    /// Why the model's vocabulary cannot be changed.
    pub(crate) fn no_vocabulary(&self) -> ModelError {
        let problem = format!("a model of type {} predicts no tokens", self.family.name());
        ModelError::Vocabulary { problem }
    }
}

/// The rows of a matrix `[rows, width]` as `wanted` says. Means are taken in f64, row after row.
fn resized(matrix: Tensor<2>, wanted: &VocabularyRows) -> Tensor<2> {
    let [old, width] = matrix.dims();
    let device = matrix.device();
    let kept = matrix.clone().slice([0..old.min(wanted.rows), 0..width]);
    let new: Vec<usize> = (old..wanted.rows).collect();
    if new.is_empty() && wanted.initial.is_empty() {
        return kept;
    }
    let values: Vec<f32> = matrix.cast(DType::F32).into_data().try_to_vec().unwrap_or_default();
    let row = |index: usize| &values[index * width..(index + 1) * width];
    let mean = |of: &mut dyn Iterator<Item = usize>| {
        let (mut sums, mut count) = (vec![0.0f64; width], 0usize);
        for index in of {
            count += 1;
            sums.iter_mut().zip(row(index)).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect::<Vec<f32>>()
    };
    let of_all = mean(&mut (0..old));
    let mut all: Vec<f32> = values[..old.min(wanted.rows) * width].to_vec();
    new.iter().for_each(|_| all.extend_from_slice(&of_all));
    for (at, of) in &wanted.initial {
        let start = match of.is_empty() {
            true => of_all.clone(),
            false => mean(&mut of.iter().map(|id| *id as usize)),
        };
        all[at * width..(at + 1) * width].copy_from_slice(&start);
    }
    Tensor::from_data(TensorData::new(all, [wanted.rows, width]), &device)
}
