//! Names of the tensors in `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::AdapterError;

/// File name of the configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the tensors.
pub const TENSOR_FILE: &str = "adapter_model.safetensors";

const PREFIX: &str = "base_model.model.";

/// Which factor a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoraTensor {
    /// `lora_A`, `[rank, in]`.
    A,
    /// `lora_B`, `[out, rank]`.
    B,
}

impl LoraTensor {
    fn suffix(self) -> &'static str {
        match self {
            Self::A => ".lora_A.weight",
            Self::B => ".lora_B.weight",
        }
    }
}

/// The file's name for a factor of the module at the Hugging Face path `module`.
pub fn tensor_name(module: &str, tensor: LoraTensor) -> String {
    format!("{PREFIX}{module}{}", tensor.suffix())
}

/// Groups the names of a file by module: path -> (name of A, name of B).
///
/// # Errors
/// A name that is no LoRA factor, or a factor without its partner.
pub fn pair_tensors<'a>(
    path: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, (String, String)>, AdapterError> {
    let mismatch = |problem| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    let mut found: BTreeMap<String, BTreeMap<LoraTensor, String>> = BTreeMap::new();
    for name in names {
        let inner = name.strip_prefix(PREFIX);
        let parsed = inner.and_then(|inner| {
            [LoraTensor::A, LoraTensor::B]
                .into_iter()
                .find_map(|tensor| Some((inner.strip_suffix(tensor.suffix())?, tensor)))
        });
        let Some((module, tensor)) = parsed else {
            return Err(mismatch(format!(
                "tensor `{name}` is not used; expected names like `{}`",
                tensor_name("model.layers.0.self_attn.q_proj", LoraTensor::A)
            )));
        };
        found.entry(module.to_string()).or_default().insert(tensor, name.to_string());
    }
    found
        .into_iter()
        .map(|(module, mut factors)| match (factors.remove(&LoraTensor::A), factors.remove(&LoraTensor::B)) {
            (Some(a), Some(b)) => Ok((module, (a, b))),
            _ => Err(mismatch(format!("`{module}` has only one of lora_A and lora_B"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_paired_by_module() {
        let names = [tensor_name("model.q", LoraTensor::B), tensor_name("model.q", LoraTensor::A)];
        let pairs = pair_tensors(Path::new("x"), names.iter().map(String::as_str)).unwrap();
        assert_eq!(pairs["model.q"], (names[1].clone(), names[0].clone()));
    }

    #[test]
    fn a_stray_or_single_factor_is_an_error_that_names_it() {
        let single = tensor_name("model.q", LoraTensor::A);
        let error = pair_tensors(Path::new("x"), [single.as_str()].into_iter()).unwrap_err().to_string();
        assert!(error.contains("model.q"), "{error}");
        let error = pair_tensors(Path::new("x"), ["base_model.model.lm_head.weight"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("lm_head"));
    }
}
