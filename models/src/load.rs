//! Parameters from a checkpoint.

use std::sync::Arc;

use burn::module::Param;
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use firebrand_kernels::{PackedWeight, Packing};

use crate::causal_lm::Hold;
use crate::error::ModelError;
use crate::model_files::ModelFiles;
use crate::parameters::{LinearWeight, ParameterSource, Shapes};
use crate::weights::{Dtype, Form, Layout, TensorView, read_packed};

/// Reads each parameter once, in the order of the model. The first problem is kept and its place filled with zeros,
/// because building a model does not fail half-way; [`Self::finish`] reports it.
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

    /// Whether every parameter was read.
    pub fn finish(self) -> Result<(), ModelError> {
        self.problem.map_or(Ok(()), Err)
    }

    fn read<const D: usize>(&mut self, path: &str, shape: [usize; D], hold: Hold) -> Param<Tensor<D>> {
        let data = self.values(path, &shape, hold).unwrap_or_else(|problem| {
            self.problem.get_or_insert(problem);
            TensorData::zeros::<f32, _>(shape)
        });
        let dtype = data.dtype();
        let value = Tensor::from_data(data, (&self.device, dtype));
        Param::from_tensor(value)
    }

    fn values(&self, path: &str, shape: &[usize], hold: Hold) -> Result<TensorData, ModelError> {
        let (view, layout) = self.find(path)?;
        let values = held(view, shape, layout, hold);
        self.files.checkpoint().release(&view);
        values
    }

    /// A packed weight, as it is in the files.
    fn as_packed(&self, path: &str, shape: [usize; 2], found: Packing) -> Result<PackedWeight, ModelError> {
        match self.hold {
            Hold::Packed(asked) if asked != found => {
                let path = self.files.checkpoint().path().to_owned();
                return Err(ModelError::OtherPacking { path, asked: asked.to_string(), found: found.to_string() });
            }
            Hold::Packed(_) | Hold::F32 | Hold::Bf16 | Hold::F16 => {}
        }
        let (theirs, _) = self.place(path);
        let weight = read_packed(theirs, shape, |name| self.files.checkpoint().find(name))?;
        let codes = self.files.checkpoint().get(theirs)?;
        self.files.checkpoint().release(&codes);
        weight.ok_or_else(|| ModelError::tensor(codes.file, theirs, "a packed weight", "no state of one"))
    }

    /// Packs a tensor from the precision of its file.
    fn packed(&self, path: &str, shape: [usize; 2], packing: Packing) -> Result<PackedWeight, ModelError> {
        let (view, layout) = self.find(path)?;
        let stored = match view.dtype {
            Dtype::BF16 => Hold::Bf16,
            Dtype::F16 => Hold::F16,
            _ => Hold::F32,
        };
        let (file, name) = (view.file, view.name);
        let values = held(view, &shape, layout, stored)?;
        self.files.checkpoint().release(&view);
        PackedWeight::quantise(&values, packing)
            .map_err(|problem| ModelError::tensor(file, name, "a matrix that can be packed", problem.to_string()))
    }

    fn find(&self, path: &str) -> Result<(TensorView<'_>, Layout), ModelError> {
        let (theirs, form) = self.place(path);
        let layout = match form {
            Form::Dense(layout) => layout,
            // Of codes, which are no numbers: whoever reads them so gets an error.
            Form::Packed(_) => Layout::Same,
        };
        let view = self.files.checkpoint().get(theirs)?;
        view.check_finite()?;
        Ok((view, layout))
    }

    /// Name and form of a parameter in the files.
    fn place<'p>(&'p self, path: &'p str) -> (&'p str, Form) {
        let load = self.files.load(path);
        load.map_or((path, Form::Dense(Layout::Same)), |load| (load.theirs.as_str(), load.form))
    }
}

/// A tensor's values as they are held, of `shape` here: matrices in the wanted dtype, else f32.
fn held(view: TensorView<'_>, shape: &[usize], layout: Layout, hold: Hold) -> Result<TensorData, ModelError> {
    let stored = layout.shape(shape);
    let narrow = |dtype, kind: Dtype| {
        let bytes = match view.dtype == kind {
            true => view.bytes().into_owned(),
            false => kind.encode(&view.to_f32()?).unwrap_or_default(),
        };
        let bytes = pairs(layout, bytes, &stored);
        Ok(TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.to_vec(), dtype))
    };
    match hold {
        Hold::F32 | Hold::Packed(_) => Ok(TensorData::new(layout.convert(view.to_f32()?, &stored), shape.to_vec())),
        Hold::Bf16 => narrow(DType::BF16, Dtype::BF16),
        Hold::F16 => narrow(DType::F16, Dtype::F16),
    }
}

/// Values of two bytes each in the other layout.
fn pairs(layout: Layout, bytes: Vec<u8>, stored: &[usize]) -> Vec<u8> {
    match layout {
        Layout::Same => bytes,
        Layout::Transposed => {
            let values: Vec<[u8; 2]> = bytes.as_chunks::<2>().0.to_vec();
            layout.convert(values, stored).concat()
        }
    }
}

impl ParameterSource for FromCheckpoint<'_> {
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        // The embedding is looked up and serves as a tied head; only the linear maps of the blocks are held narrow.
        let hold = if path.starts_with("layers.") { self.hold } else { Hold::F32 };
        self.read(path, shape, hold)
    }

    fn weight(&mut self, path: &str, shape: [usize; 2]) -> LinearWeight {
        let packed = match (self.place(path).1, self.hold) {
            (Form::Packed(found), _) => self.as_packed(path, shape, found),
            (Form::Dense(_), Hold::Packed(packing)) if path.starts_with("layers.") => self.packed(path, shape, packing),
            (Form::Dense(_), _) => return LinearWeight::Dense(self.matrix(path, shape)),
        };
        match packed {
            Ok(weight) => LinearWeight::Packed(Arc::new(weight)),
            Err(problem) => {
                self.problem.get_or_insert(problem);
                LinearWeight::Dense(Shapes.matrix(path, shape))
            }
        }
    }

    fn vector(&mut self, path: &str, length: usize, _initial: f32) -> Param<Tensor<1>> {
        self.read(path, [length], Hold::F32)
    }
}
