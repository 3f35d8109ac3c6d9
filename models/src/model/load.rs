//! Loading: [`FromCheckpoint`] is the source that reads parameters from a model folder.

use std::sync::Arc;

use burn::tensor::{Bytes, DType, Device, TensorData};
use firebrand_kernels::{QuantizationScheme, QuantizedWeight, has_fused};

use super::files::ModelFiles;
use super::hold::Hold;
use crate::error::ModelError;
use crate::parameters::{Given, ParameterSource, Role, Wanted};
use crate::weights::{Dtype, Form, Layout, TensorView, read_quantized};

/// Reads each parameter once, in the order of the model. Building a model cannot fail half-way, so the first problem is
/// kept and its parameter filled with zeros; [`Self::finish`] reports it.
pub(crate) struct FromCheckpoint<'a> {
    files: &'a ModelFiles,
    hold: Hold,
    device: Device,
    problem: Option<ModelError>,
}

impl<'a> FromCheckpoint<'a> {
    pub fn new(files: &'a ModelFiles, hold: Hold, device: &Device) -> Self {
        Self { files, hold, device: device.clone(), problem: None }
    }

    /// The first problem, if a parameter could not be read.
    pub fn finish(self) -> Result<(), ModelError> {
        self.problem.map_or(Ok(()), Err)
    }

    /// The parameter that `reading` gives; in case of an error, zeros, and the problem is kept.
    fn keep(&mut self, shape: &[usize], reading: Result<Given, ModelError>) -> Given {
        reading.unwrap_or_else(|problem| {
            self.problem.get_or_insert(problem);
            Given::Values(TensorData::zeros::<f32, _>(shape.to_vec()), self.device.clone())
        })
    }

    fn values(&self, path: &str, shape: &[usize], hold: Hold) -> Result<TensorData, ModelError> {
        let (view, layout) = self.find(path)?;
        let values = held(view, shape, layout, hold);
        self.files.checkpoint().release(&view);
        values
    }

    /// A quantized weight, as the files hold it.
    fn as_quantized(
        &self,
        path: &str,
        shape: [usize; 2],
        found: QuantizationScheme,
    ) -> Result<QuantizedWeight, ModelError> {
        match self.hold {
            Hold::Quantized(asked) if asked != found => {
                let path = self.files.checkpoint().path().to_owned();
                return Err(ModelError::OtherQuantization { path, asked: asked.to_string(), found: found.to_string() });
            }
            Hold::Quantized(_) | Hold::F32 | Hold::Bf16 | Hold::F16 => {}
        }
        let (theirs, _) = self.place(path);
        let weight = read_quantized(theirs, shape, |name| self.files.checkpoint().find(name))?;
        let codes = self.files.checkpoint().get(theirs)?;
        self.files.checkpoint().release(&codes);
        weight.ok_or_else(|| ModelError::tensor(codes.file, theirs, "a quantized weight", "no state of one"))
    }

    /// Quantizes a tensor from the precision of its file.
    fn quantized(
        &self,
        path: &str,
        shape: [usize; 2],
        scheme: QuantizationScheme,
    ) -> Result<QuantizedWeight, ModelError> {
        let (view, layout) = self.find(path)?;
        let stored = as_stored(view.dtype);
        let (file, name) = (view.file, view.name);
        let values = held(view, &shape, layout, stored)?;
        self.files.checkpoint().release(&view);
        QuantizedWeight::quantize(&values, scheme)
            .map_err(|problem| ModelError::tensor(file, name, "a matrix that can be quantized", problem.to_string()))
    }

    /// How a parameter outside of the blocks is held. Token table and head are the largest matrices: where others take fewer bits, they are
    /// held as the file stores them, which loses nothing, if the device reads them so.
    fn hold_outside(&self, path: &str, role: Role) -> Hold {
        let narrow = match (self.hold, role) {
            (Hold::F32, _) => false,
            (Hold::Bf16 | Hold::F16 | Hold::Quantized(_), role) => role.is_of_vocabulary(),
        };
        match self.files.checkpoint().get(self.place(path).0) {
            Ok(view) if narrow && has_fused(&self.device) => as_stored(view.dtype),
            // A tensor that is not there is reported where it is read.
            _ => Hold::F32,
        }
    }

    fn find(&self, path: &str) -> Result<(TensorView<'_>, Layout), ModelError> {
        let (theirs, form) = self.place(path);
        let layout = match form {
            Form::Dense(layout) => layout,
            // The parameter has codes, which are no numbers, so reading it as numbers is an error.
            Form::Quantized(_) => Layout::Same,
        };
        let view = self.files.checkpoint().get(theirs)?;
        view.check_finite()?;
        Ok((view, layout))
    }

    /// The name and form of a parameter in the files.
    fn place<'p>(&'p self, path: &'p str) -> (&'p str, Form) {
        let load = self.files.load(path);
        load.map_or((path, Form::Dense(Layout::Same)), |load| (load.theirs.as_str(), load.form))
    }
}

/// What loses nothing of numbers in a file.
fn as_stored(dtype: Dtype) -> Hold {
    match dtype {
        Dtype::BF16 => Hold::Bf16,
        Dtype::F16 => Hold::F16,
        _ => Hold::F32,
    }
}

/// The values of a tensor of `shape` as they are held: in 16 bits where `hold` says so, else in f32.
fn held(view: TensorView<'_>, shape: &[usize], layout: Layout, hold: Hold) -> Result<TensorData, ModelError> {
    let stored = layout.shape(shape);
    let narrow = |dtype, kind: Dtype| {
        let bytes = match view.dtype == kind {
            true => view.bytes().into_owned(),
            false => view.encoded(kind)?,
        };
        let bytes = pairs(layout, bytes, &stored);
        Ok(TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), dtype))
    };
    match hold {
        Hold::F32 | Hold::Quantized(_) => Ok(TensorData::new(layout.convert(view.to_f32()?, &stored), shape.to_vec())),
        Hold::Bf16 => narrow(DType::BF16, Dtype::BF16),
        Hold::F16 => narrow(DType::F16, Dtype::F16),
    }
}

/// Values of two bytes each, converted to our layout.
fn pairs(layout: Layout, bytes: Vec<u8>, stored: &[usize]) -> Vec<u8> {
    match layout {
        Layout::Same | Layout::Scalar | Layout::Ones(_) | Layout::Pointwise => bytes,
        Layout::Transposed => {
            let values: Vec<[u8; 2]> = bytes.as_chunks::<2>().0.to_vec();
            layout.convert(values, stored).concat()
        }
    }
}

impl ParameterSource for FromCheckpoint<'_> {
    fn give(&mut self, wanted: Wanted<'_>) -> Given {
        let Wanted { path, shape, role, .. } = wanted;
        let hold = if role.is_matrix_of_block() { self.hold } else { self.hold_outside(path, role) };
        let quantized = |weight| Given::Quantized(Arc::new(weight));
        let given = match (self.place(path).1, hold, shape) {
            (Form::Quantized(found), _, &[out, input]) if role.is_linear() => {
                self.as_quantized(path, [out, input], found).map(quantized)
            }
            (Form::Dense(_), Hold::Quantized(scheme), &[out, input]) if role.is_linear() => {
                self.quantized(path, [out, input], scheme).map(quantized)
            }
            _ => self.values(path, shape, hold).map(|data| Given::Values(data, self.device.clone())),
        };
        self.keep(shape, given)
    }
}
