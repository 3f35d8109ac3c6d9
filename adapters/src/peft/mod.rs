//! PEFT's adapter folders: `adapter_config.json` ([`PeftConfig`]) and the names in `adapter_model.safetensors`.
//!
//! Reading keeps unknown keys, but refuses by name those that change what the adapter means and are not implemented.
//! Writing uses only keys that every PEFT since 0.6 reads, and `ensure_weight_tying` where it is asked for. The tensor
//! file itself is read and written where checkpoint files are; this module knows its names and shapes.

mod config;
mod tensors;

pub use config::{BaseModel, PeftConfig, Task, TokenRows};
pub use tensors::{
    AdapterTensor, CONFIG_FILE, PICKLE_FILE, TENSOR_FILE, TensorNames, base_tensor_name, group_tensors, tensor_name,
};
