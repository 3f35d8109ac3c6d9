//! Names of the tensors in `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::AdapterError;

/// File name of the configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the tensors.
pub const TENSOR_FILE: &str = "adapter_model.safetensors";

const PREFIX: &str = "base_model.model.";

/// What a tensor of an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterTensor {
    /// `lora_A`, `[rank, in]`.
    A,
    /// `lora_B`, `[out, rank]`.
    B,
    /// `lora_magnitude_vector` of DoRA, `[out]`.
    Magnitude,
    /// `ia3_l`, `[out, 1]` for outputs, `[1, in]` for inputs.
    Scale,
}

impl AdapterTensor {
    const ALL: [Self; 4] = [Self::A, Self::B, Self::Magnitude, Self::Scale];

    fn suffix(self) -> &'static str {
        match self {
            Self::A => ".lora_A.weight",
            Self::B => ".lora_B.weight",
            Self::Magnitude => ".lora_magnitude_vector",
            Self::Scale => ".ia3_l",
        }
    }
}

/// The file's name for a tensor of the adapter on the module at the Hugging Face path `module`.
pub fn tensor_name(module: &str, tensor: AdapterTensor) -> String {
    format!("{PREFIX}{module}{}", tensor.suffix())
}

/// Groups the names of a file by module: path -> what a tensor is -> its name.
///
/// # Errors
/// A name that is none of an adapter's, or one of two factors without the other.
pub fn group_tensors<'a>(
    path: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, BTreeMap<AdapterTensor, String>>, AdapterError> {
    let mismatch = |problem| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    let mut found: BTreeMap<String, BTreeMap<AdapterTensor, String>> = BTreeMap::new();
    for name in names {
        let inner = name.strip_prefix(PREFIX);
        let parsed = inner.and_then(|inner| {
            AdapterTensor::ALL.into_iter().find_map(|tensor| Some((inner.strip_suffix(tensor.suffix())?, tensor)))
        });
        let Some((module, tensor)) = parsed else {
            return Err(mismatch(format!(
                "tensor `{name}` is not used; expected names like `{}`",
                tensor_name("model.layers.0.self_attn.q_proj", AdapterTensor::A)
            )));
        };
        found.entry(module.to_string()).or_default().insert(tensor, name.to_string());
    }
    let single =
        |tensors: &BTreeMap<_, _>| tensors.contains_key(&AdapterTensor::A) != tensors.contains_key(&AdapterTensor::B);
    match found.iter().find(|(_, tensors)| single(tensors)) {
        Some((module, _)) => Err(mismatch(format!("`{module}` has only one of lora_A and lora_B"))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_grouped_by_module() {
        let all = [AdapterTensor::B, AdapterTensor::A, AdapterTensor::Magnitude];
        let names = all.map(|tensor| tensor_name("model.q", tensor));
        let groups = group_tensors(Path::new("x"), names.iter().map(String::as_str)).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups["model.q"], all.into_iter().zip(names).collect());
    }

    #[test]
    fn a_stray_or_single_factor_is_an_error_that_names_it() {
        let single = tensor_name("model.q", AdapterTensor::A);
        let error = group_tensors(Path::new("x"), [single.as_str()].into_iter()).unwrap_err().to_string();
        assert!(error.contains("model.q"), "{error}");
        let error = group_tensors(Path::new("x"), ["base_model.model.lm_head.weight"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("lm_head"));
    }
}
