//! Tensors by name, read from and written to safetensors files, and how far two sets of them are apart.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use firebrand_models::weights::{Checkpoint, CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};

/// Shape and values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Elements.
    pub values: Vec<f32>,
}

/// Float tensors by name.
pub type Tensors = BTreeMap<String, Values>;

/// All tensors of a file of float tensors.
pub fn read(path: &Path) -> Tensors {
    let file = SafetensorsFile::open(path).unwrap();
    file.tensors()
        .map(|view| {
            let values = Values { shape: view.shape.to_vec(), values: view.to_f32().unwrap() };
            (view.name.to_string(), values)
        })
        .collect()
}

/// All tensors of a model folder, sharded or not.
pub fn read_folder(folder: &Path) -> Tensors {
    let checkpoint = Checkpoint::open(folder).unwrap();
    checkpoint.files().iter().flat_map(|file| read(file.path())).collect()
}

/// Writes `{name}.safetensors` in f32.
pub fn write(folder: &Path, name: &str, tensors: &Tensors) {
    let specs = tensors
        .iter()
        .map(|(name, tensor)| TensorSpec { name: name.clone(), dtype: Dtype::F32, shape: tensor.shape.clone() })
        .collect();
    let options = PlanOptions { base_name: name.into(), ..PlanOptions::default() };
    let plan = CheckpointPlan::new(specs, &options).unwrap();
    plan.write(folder, |spec| Ok(Cow::Owned(spec.dtype.encode(&tensors[&spec.name].values).unwrap()))).unwrap();
}

/// The distance of two vectors by the length of the second; 0 where both are zero.
pub fn distance(left: &[f32], right: &[f32]) -> f64 {
    assert_eq!(left.len(), right.len(), "vectors of the same length");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let apart = square(&mut left.iter().zip(right).map(|(left, right)| f64::from(*left) - f64::from(*right)));
    let length = square(&mut right.iter().map(|value| f64::from(*value)));
    if apart == 0.0 { 0.0 } else { apart / length }
}

/// The distance of two sets of tensors with the same names and shapes, all of them together taken as one vector.
pub fn distance_of_sets(left: &Tensors, right: &Tensors) -> f64 {
    let shapes = |tensors: &Tensors| -> Vec<_> {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone())).collect()
    };
    assert_eq!(shapes(left), shapes(right), "the same tensors");
    let join = |tensors: &Tensors| tensors.values().flat_map(|tensor| tensor.values.clone()).collect::<Vec<_>>();
    distance(&join(left), &join(right))
}

/// The largest difference of two elements.
pub fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len(), "vectors of the same length");
    let differences = left.iter().zip(right).map(|(left, right)| (left - right).abs());
    // A NaN must not hide behind `max`.
    differences.fold(0.0, |most, next| if next.is_nan() || next > most { next } else { most })
}
