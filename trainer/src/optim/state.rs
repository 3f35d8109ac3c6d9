//! The state of an optimiser, [`OptimizerState`]: tensors by name, and the number of steps.
//!
//! Float tensors are on the device; codes of 8-bit optimisers are on the host, one byte each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use firebrand_models::weights::Dtype;

use super::parameter::Parameter;

/// A kind of tensor that an optimiser keeps for each parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// Its name. The tensor is called `{parameter}.{name}`.
    pub name: &'static str,
    /// The dtype of its values, in memory and in files.
    pub dtype: Dtype,
    /// Number of values.
    pub length: usize,
}

impl Quantity {
    pub(super) fn floats(name: &'static str, length: usize) -> Self {
        Self { name, dtype: Dtype::F32, length }
    }

    pub(super) fn codes(name: &'static str, length: usize) -> Self {
        Self { name, dtype: Dtype::U8, length }
    }

    /// Size in bytes, in memory and in files.
    pub fn bytes(&self) -> usize {
        self.length * self.dtype.size()
    }
}

/// The state of an optimiser: flat tensors by `{parameter}.{quantity}`, and the number of steps done.
#[derive(Debug, Clone, Default)]
pub struct OptimizerState {
    /// Steps done.
    pub steps: u64,
    floats: BTreeMap<String, Tensor<1>>,
    codes: BTreeMap<String, Vec<u8>>,
}

impl OptimizerState {
    /// The state after `steps` steps, without tensors; [`Self::import`] and [`Self::import_codes`] add them.
    pub fn after(steps: u64) -> Self {
        Self { steps, ..Self::default() }
    }

    /// Counts a step. Call it before the updates of that step.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Name, dtype and number of values of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Dtype, usize)> {
        let floats = self.floats.iter().map(|(name, tensor)| (name.as_str(), Dtype::F32, tensor.dims()[0]));
        floats.chain(self.codes.iter().map(|(name, codes)| (name.as_str(), Dtype::U8, codes.len())))
    }

    /// The bytes of a tensor in little-endian order, as files hold them; `None` if there is no tensor of that name.
    pub fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let codes = self.codes.get(name).map(|codes| Cow::Borrowed(codes.as_slice()));
        codes.or_else(|| {
            let values: Vec<f32> = self.floats.get(name)?.to_data().iter::<f32>().collect();
            Dtype::F32.encode(&values).map(Cow::Owned)
        })
    }

    /// Adds a float tensor with the values that [`Self::bytes`] returned as bytes.
    pub fn import(&mut self, name: String, values: Vec<f32>, device: &Device) {
        let length = values.len();
        self.floats.insert(name, Tensor::from_data(TensorData::new(values, [length]), device));
    }

    /// Adds the codes that [`Self::bytes`] returned.
    pub fn import_codes(&mut self, name: String, codes: Vec<u8>) {
        self.codes.insert(name, codes);
    }

    pub(super) fn take(&mut self, parameter: Parameter<'_>, quantity: &str) -> Option<Tensor<1>> {
        self.floats.remove(&format!("{}.{quantity}", parameter.path))
    }

    pub(super) fn put(&mut self, parameter: Parameter<'_>, quantity: &str, value: Tensor<1>) {
        self.floats.insert(format!("{}.{quantity}", parameter.path), value);
    }

    pub(super) fn take_codes(&mut self, parameter: Parameter<'_>, quantity: &str) -> Option<Vec<u8>> {
        self.codes.remove(&format!("{}.{quantity}", parameter.path))
    }

    pub(super) fn put_codes(&mut self, parameter: Parameter<'_>, quantity: &str, codes: Vec<u8>) {
        self.codes.insert(format!("{}.{quantity}", parameter.path), codes);
    }
}
