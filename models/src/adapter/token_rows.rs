//! Rows of the token table and of the head that an adapter replaces (PEFT's `trainable_token_indices`): [`apply`].
//!
//! The file holds the rows as they became, not a difference, so they are written into the base's matrix when the adapter
//! is loaded, and everything that reads or merges the model sees them. A tied head follows the table, except where other
//! rows are named for it: then it becomes a matrix of its own, as in PEFT (`utils/other.py`,
//! `tuners/trainable_tokens/layer.py`). Not here: training such rows.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::peft::{PeftConfig, TokenRows};
use firebrand_adapters::{AdapterError, Targets, Tying};

use crate::error::ModelError;
use crate::model::Model;
use crate::parameters::ModulePath;
use crate::weights::WeightsFile;

/// One of the two matrices that have a row for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matrix {
    Embedding,
    Head,
}

/// Writes the rows that `config` names into the model; `names` are the tensors of rows in `file`, by module.
///
/// # Errors
/// A module that is neither the token table nor the head, a row that it does not have, or tensors that do not match.
pub(crate) fn apply(
    model: &mut Model,
    config: &PeftConfig,
    file: &WeightsFile,
    names: &BTreeMap<String, String>,
) -> Result<(), ModelError> {
    let mismatch = |problem: String| ModelError::from(AdapterError::Mismatch { path: file.path().into(), problem });
    if config.rows.is_empty() {
        return match names.values().next() {
            Some(name) => Err(mismatch(format!("`{name}` is not used: no trainable_token_indices name its rows"))),
            None => Ok(()),
        };
    }
    let Some(ends) = model.ends() else {
        let problem = "trainable_token_indices are read for models with a token table and an output head";
        return Err(mismatch(problem.into()));
    };
    let module = |model: &Model, ours: &str| -> Result<String, ModelError> {
        let name = model.name_for_peft(ours)?;
        Ok(name.strip_suffix(".weight").unwrap_or(&name).to_string())
    };
    let modules = [
        (Matrix::Embedding, module(model, ends.embedding)?, ends.embedding),
        (Matrix::Head, module(model, ends.head)?, ends.head),
    ];
    let mut wanted: BTreeMap<Matrix, &TokenRows> = BTreeMap::new();
    for rows in &config.rows {
        let of = |(matrix, path, _): &(Matrix, String, &str)| match &rows.module {
            Some(end) => path.ends_with(end.as_str()),
            None => *matrix == Matrix::Embedding,
        };
        let Some((matrix, ..)) = modules.iter().find(|module| of(module)) else {
            let name = rows.module.clone().unwrap_or_default();
            let problem = format!(
                "trainable_token_indices name `{name}`, which is neither the token table (`{}`) nor the head (`{}`)",
                modules[0].1, modules[1].1
            );
            return Err(mismatch(problem));
        };
        if wanted.insert(*matrix, rows).is_some() {
            return Err(mismatch("trainable_token_indices name one matrix twice".into()));
        }
    }
    if ends.tied {
        let (embedding, head) = (wanted.get(&Matrix::Embedding), wanted.get(&Matrix::Head).copied());
        match (embedding, head) {
            (Some(table), Some(head)) if table.ids == head.ids => drop(wanted.remove(&Matrix::Head)),
            (_, Some(_)) if config.method.trained_base().tying == Tying::Kept => {
                let problem = "trainable_token_indices name other rows of the head than of the embedding, though \
                               ensure_weight_tying makes them one";
                return Err(mismatch(problem.into()));
            }
            (_, Some(_)) => model.untie(),
            (_, None) => {}
        }
    }
    let mut left = names.clone();
    for (matrix, path, ours) in &modules {
        let Some(rows) = wanted.get(matrix) else { continue };
        let both = |what: &str| {
            mismatch(format!("`{path}` has {what} beside trainable_token_indices; only one of them can be"))
        };
        if config.method.trained_base().trains(&format!("{path}.weight"), &[]) {
            return Err(both("modules_to_save"));
        }
        let named = matches!(config.method.targets(), Targets::Pattern(_));
        if named && config.method.matching(std::slice::from_ref(path), &[]).is_ok() {
            return Err(both("an adapter"));
        }
        let Some(name) = left.remove(path) else {
            return Err(mismatch(format!("it has no rows for `{path}`, which its trainable_token_indices name")));
        };
        let shape = model.base_parameters().iter().find(|info| info.path == *ours).map(|info| info.shape.clone());
        let Some(&[count, width]) = shape.as_deref() else {
            return Err(mismatch(format!("`{path}` is no matrix")));
        };
        if let Some(id) = rows.ids.iter().find(|id| **id >= count) {
            return Err(mismatch(format!("trainable_token_indices name token {id}, and `{path}` has {count} rows")));
        }
        let view = file.get(&name)?;
        if view.shape != [rows.ids.len(), width] {
            let expected = [rows.ids.len(), width];
            return Err(mismatch(format!("`{name}` is {:?}, expected {expected:?}", view.shape)));
        }
        view.check_finite()?;
        let values = view.to_f32()?;
        let network = model.network().clone();
        let mut write = Write { path: ModulePath::default(), ours, ids: &rows.ids, values: &values, width };
        model.replace_network(network.map(&mut write));
    }
    match left.into_values().next() {
        Some(name) => {
            Err(mismatch(format!("`{name}` is not used: its trainable_token_indices do not name its module")))
        }
        None => Ok(()),
    }
}

/// Whether an adapter's file holds rows; loading it for training would lose them.
pub(crate) fn refuse(path: &Path, names: &BTreeMap<String, String>) -> Result<(), ModelError> {
    match names.values().next() {
        Some(name) => {
            let problem = format!(
                "`{name}` holds rows of the token table (trainable_token_indices), which are not trained further here; \
                 merge the adapter into its base first"
            );
            Err(AdapterError::Mismatch { path: path.into(), problem }.into())
        }
        None => Ok(()),
    }
}

struct Write<'a> {
    path: ModulePath,
    ours: &'a str,
    ids: &'a [usize],
    values: &'a [f32],
    width: usize,
}

impl ModuleMapper for Write<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.join() != self.ours {
            return param;
        }
        param.map(|tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            let mut all: Vec<f32> = tensor.into_data().iter::<f32>().collect();
            for (id, row) in self.ids.iter().zip(self.values.chunks(self.width)) {
                all[id * self.width..(id + 1) * self.width].copy_from_slice(row);
            }
            Tensor::from_data(TensorData::new(all, shape), &device)
        })
    }
}
