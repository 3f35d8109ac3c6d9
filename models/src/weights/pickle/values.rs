//! Values of a pickle of tensors: [`Heap`] holds them within a memory limit.
//!
//! A pickle names every class and function it uses; [`Global`] lists those that a state dict needs, and each is only a
//! name here. Values refer to each other by index into the [`Heap`], so a pickle that contains itself needs no special
//! treatment.

use std::path::Path;

use super::super::dtype::Dtype;
use crate::error::ModelError;
use crate::wording::clip;

/// A value on the stack of the machine or in a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Integer(i64),
    /// The magic number of the older format: the only integer in a file that exceeds 64 bits.
    Magic,
    Float,
    Text(&'a str),
    /// Index into [`Heap::sequences`], as for the next two; a dictionary alternates keys and values.
    Tuple(u32),
    List(u32),
    Dict(u32),
    Global(Global),
    /// Index into [`Heap::storages`].
    Storage(u32),
    /// Index into [`Heap::tensors`].
    Tensor(u32),
}

impl Value<'_> {
    /// The name of the type, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Integer(_) | Value::Magic => "an integer",
            Value::Float => "a float",
            Value::Text(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Global(_) => "a class or function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// The classes and functions that a state dict needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    /// `_rebuild_tensor_v3`: a tensor with an explicit dtype, for dtypes that have no typed storage.
    RebuildTensorOfDtype,
    RebuildParameter,
    Size,
    /// A typed storage; `None` is a storage of bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
}

impl Global {
    /// The global of that name. Error: any other name.
    pub fn find(module: &str, name: &str) -> Result<Global, Problem> {
        let dtype = |dtype| Ok(Global::Dtype(dtype));
        let storage = |dtype| Ok(Global::Storage(Some(dtype)));
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Ok(Global::RebuildTensorOfDtype),
            ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
            ("torch", "Size") => Ok(Global::Size),
            ("torch" | "torch.storage", "UntypedStorage") => Ok(Global::Storage(None)),
            ("torch", "FloatStorage") => storage(Dtype::F32),
            ("torch", "HalfStorage") => storage(Dtype::F16),
            ("torch", "BFloat16Storage") => storage(Dtype::BF16),
            ("torch", "DoubleStorage") => storage(Dtype::F64),
            ("torch", "LongStorage") => storage(Dtype::I64),
            ("torch", "IntStorage") => storage(Dtype::I32),
            ("torch", "ShortStorage") => storage(Dtype::I16),
            ("torch", "CharStorage") => storage(Dtype::I8),
            ("torch", "ByteStorage") => storage(Dtype::U8),
            ("torch", "BoolStorage") => storage(Dtype::Bool),
            ("torch", "uint16") => dtype(Dtype::U16),
            ("torch", "uint32") => dtype(Dtype::U32),
            ("torch", "uint64") => dtype(Dtype::U64),
            ("torch", name) if name.ends_with("Storage") || name.starts_with("float8") => Err(Problem::malformed(
                "tensors of a dtype that is read (float32, bfloat16, float16, float64, an integer, bool)",
                format!("`torch.{}`", clip(name)),
            )),
            _ => Err(Problem::NotTensorsOnly(format!("asks for `{}.{}`", clip(module), clip(name)))),
        }
    }
}

/// A storage: a range of elements of one dtype that tensors view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// The dtype of its elements; `None` is bytes.
    pub dtype: Option<Dtype>,
    /// Its key: its name in the file.
    pub key: &'a str,
    pub elements: usize,
}

impl Storage<'_> {
    /// Its size in bytes; `None` when it overflows.
    pub fn bytes(&self) -> Option<usize> {
        self.elements.checked_mul(self.dtype.map_or(1, Dtype::size))
    }
}

/// A view of a storage, as the pickle describes it. Nothing has been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    /// Index into [`Heap::storages`].
    pub storage: u32,
    pub dtype: Dtype,
    /// Offset in elements.
    pub offset: i64,
    /// Index into [`Heap::sequences`], as for `strides`.
    pub shape: u32,
    pub strides: u32,
}

/// All values that have parts, and the memory that is left for more.
pub(super) struct Heap<'a> {
    pub sequences: Vec<Vec<Value<'a>>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<Tensor>,
    left: usize,
}

impl<'a> Heap<'a> {
    /// `budget` is in bytes and covers everything that is allocated while the file is opened.
    pub fn new(budget: usize) -> Self {
        Heap { sequences: Vec::new(), storages: Vec::new(), tensors: Vec::new(), left: budget }
    }

    /// Takes `bytes` from the budget. Error: fewer are left.
    pub fn spend(&mut self, bytes: usize) -> Result<(), Problem> {
        spend(&mut self.left, bytes)
    }

    /// Makes room for one more item in `items`.
    pub fn grow<T>(&mut self, items: &mut Vec<T>) -> Result<(), Problem> {
        grow(&mut self.left, items)
    }

    /// Adds a tuple, list or dictionary with these parts and returns its index.
    pub fn sequence(&mut self, parts: &[Value<'a>]) -> Result<u32, Problem> {
        spend(&mut self.left, size_of_val(parts))?;
        grow(&mut self.left, &mut self.sequences)?;
        self.sequences.push(parts.to_vec());
        Ok(self.sequences.len() as u32 - 1)
    }

    /// Appends parts to a list or dictionary.
    pub fn extend(&mut self, sequence: u32, parts: &[Value<'a>]) -> Result<(), Problem> {
        let items = &mut self.sequences[sequence as usize];
        for &part in parts {
            grow(&mut self.left, items)?;
            items.push(part);
        }
        Ok(())
    }

    pub fn storage(&mut self, storage: Storage<'a>) -> Result<Value<'a>, Problem> {
        grow(&mut self.left, &mut self.storages)?;
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() as u32 - 1))
    }

    pub fn tensor(&mut self, tensor: Tensor) -> Result<Value<'a>, Problem> {
        grow(&mut self.left, &mut self.tensors)?;
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() as u32 - 1))
    }

    pub fn parts(&self, sequence: u32) -> &[Value<'a>] {
        &self.sequences[sequence as usize]
    }
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Problem> {
    match left.checked_sub(bytes) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => Err(Problem::malformed("a pickle that needs no more memory than its file", "one that needs more")),
    }
}

fn grow<T>(left: &mut usize, items: &mut Vec<T>) -> Result<(), Problem> {
    if items.len() < items.capacity() {
        return Ok(());
    }
    let held = items.capacity();
    let more = held.max(4);
    // The old and the new buffer both exist while the items move.
    spend(left, (held + more) * size_of::<T>())?;
    items.reserve_exact(more);
    *left += held * size_of::<T>();
    Ok(())
}

/// Why a pickle cannot be read. The path is added by the caller.
#[derive(Debug)]
pub(super) enum Problem {
    /// The file holds more than tensors; the text is the beginning of a sentence.
    NotTensorsOnly(String),
    Malformed {
        expected: String,
        found: String,
    },
    Tensor {
        name: String,
        expected: String,
        found: String,
    },
}

impl Problem {
    pub fn malformed(expected: impl Into<String>, found: impl Into<String>) -> Problem {
        Problem::Malformed { expected: expected.into(), found: found.into() }
    }

    pub fn tensor(name: &str, expected: impl Into<String>, found: impl Into<String>) -> Problem {
        Problem::Tensor { name: clip(name), expected: expected.into(), found: found.into() }
    }

    pub fn at(self, path: &Path) -> ModelError {
        match self {
            Problem::NotTensorsOnly(found) => ModelError::NotTensorsOnly { path: path.to_owned(), found },
            Problem::Malformed { expected, found } => ModelError::malformed(path, expected, found),
            Problem::Tensor { name, expected, found } => ModelError::tensor(path, &name, expected, found),
        }
    }
}
