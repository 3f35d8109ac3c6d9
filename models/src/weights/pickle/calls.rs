//! Calls in the pickle of a state dict: what each function and each persistent identity stands for, as descriptions of
//! storages and tensors. No function is called.
//!
//! Arguments are as in torch's `torch/_utils.py` and `torch/serialization.py`.

use super::values::{self, Global, Heap, Problem, Value};
use crate::wording::clip;

impl<'a> Heap<'a> {
    /// The value of `global(*arguments)`.
    pub fn call(&mut self, global: Global, arguments: u32) -> Result<Value<'a>, Problem> {
        use Value::{Bool, Dict, Integer, Storage, Tensor, Tuple};
        match (global, self.parts(arguments)) {
            (Global::OrderedDict, []) => self.sequence(&[]).map(Dict),
            (Global::Size, [Tuple(size)]) => Ok(Tuple(*size)),
            // Hooks are functions, and their names would have been refused.
            (Global::RebuildParameter, [Tensor(tensor), Bool(_), Dict(_)]) => Ok(Tensor(*tensor)),
            (
                Global::RebuildTensor | Global::RebuildTensorOfDtype,
                [Storage(storage), Integer(offset), Tuple(shape), Tuple(strides), Bool(_), Dict(_), rest @ ..],
            ) => {
                let (dtype, metadata) = match (global, rest) {
                    (Global::RebuildTensor, metadata) => (self.storages[*storage as usize].dtype, metadata),
                    (_, [Value::Global(Global::Dtype(dtype)), metadata @ ..]) => (Some(*dtype), metadata),
                    _ => return Err(other_arguments(global)),
                };
                self.check_metadata(metadata)?;
                let dtype = dtype.ok_or_else(|| Problem::malformed("a tensor with a dtype", "one of bare bytes"))?;
                let tensor =
                    values::Tensor { storage: *storage, dtype, offset: *offset, shape: *shape, strides: *strides };
                self.tensor(tensor)
            }
            _ => Err(other_arguments(global)),
        }
    }

    /// The storage of a persistent identity: `("storage", class, key, device, elements)`, and in the older format also
    /// a view, which no torch since 0.3 has written.
    pub fn persistent(&mut self, identity: Value<'a>) -> Result<Value<'a>, Problem> {
        let expected = "the identity of a storage";
        let Value::Tuple(parts) = identity else { return Err(Problem::malformed(expected, identity.describe())) };
        match *self.parts(parts) {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                Value::Integer(elements),
                ref view @ ..,
            ] if matches!(view, [] | [Value::None]) => {
                let elements = usize::try_from(elements)
                    .map_err(|_| Problem::malformed("a storage with a number of elements", elements.to_string()))?;
                self.storage(values::Storage { dtype, key, elements })
            }
            [Value::Text(kind), ..] if kind != "storage" => {
                Err(Problem::NotTensorsOnly(format!("asks for a `{}`", clip(kind))))
            }
            _ => Err(Problem::malformed(expected, "another tuple")),
        }
    }

    /// Metadata are flags such as "to be negated", which would change values.
    fn check_metadata(&self, metadata: &[Value<'a>]) -> Result<(), Problem> {
        match metadata {
            [] | [Value::None] => Ok(()),
            [Value::Dict(dict)] if self.parts(*dict).is_empty() => Ok(()),
            _ => Err(Problem::malformed("tensors that are what is stored", "one with metadata")),
        }
    }
}

fn other_arguments(global: Global) -> Problem {
    let function = match global {
        Global::OrderedDict => "OrderedDict",
        Global::RebuildTensor => "_rebuild_tensor_v2",
        Global::RebuildTensorOfDtype => "_rebuild_tensor_v3",
        Global::RebuildParameter => "_rebuild_parameter",
        Global::Size => "Size",
        Global::Storage(_) => "a storage's class",
        Global::Dtype(_) => "a dtype",
    };
    Problem::malformed(format!("`{function}` with its usual arguments"), "others")
}
