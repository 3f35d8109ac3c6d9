//! Names of the tensors in adapter files: [`tensor_name`] makes them, [`group_tensors`] reads them.
//!
//! PEFT leaves the adapter's own name out of them. Files made of a whole state dictionary have it (`lora_A.default.weight`,
//! `modules_to_save.default.weight`), and are read too, as long as they hold one adapter.

use std::collections::BTreeMap;
use std::path::Path;

use crate::AdapterError;

/// File name of the configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the tensors.
pub const TENSOR_FILE: &str = "adapter_model.safetensors";
/// File name of the tensors as PyTorch saves them: PEFT's own before 0.6, and later on request.
pub const PICKLE_FILE: &str = "adapter_model.bin";

const PREFIX: &str = "base_model.model.";
/// What stands after the path of a module of which rows are trained.
const ROWS: &str = ".token_adapter.trainable_tokens_delta";
/// PEFT's name for the original module inside an adapted one.
const BASE_LAYER: &str = "base_layer.";
/// PEFT's names inside a module that is trained whole: the module as it was, and as it is.
const ORIGINAL: &str = ".original_module.";
const TRAINED: &str = ".modules_to_save.";

/// The tensors that an adapter may have, with their names and shapes in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterTensor {
    /// `lora_A`, `[rank, in]`.
    A,
    /// `lora_B`, `[out, rank]`.
    B,
    /// `lora_embedding_A`, `[rank, rows]`.
    EmbeddingA,
    /// `lora_embedding_B`, `[width, rank]`.
    EmbeddingB,
    /// `lora_magnitude_vector` of DoRA, `[out]`.
    Magnitude,
    /// `ia3_l`, `[out, 1]` for outputs, `[1, in]` for inputs.
    Scale,
}

impl AdapterTensor {
    const ALL: [Self; 6] = [Self::A, Self::B, Self::EmbeddingA, Self::EmbeddingB, Self::Magnitude, Self::Scale];

    fn suffix(self) -> &'static str {
        match self {
            Self::A => ".lora_A.weight",
            Self::B => ".lora_B.weight",
            Self::EmbeddingA => ".lora_embedding_A",
            Self::EmbeddingB => ".lora_embedding_B",
            Self::Magnitude => ".lora_magnitude_vector",
            Self::Scale => ".ia3_l",
        }
    }

    /// The field of the adapter that holds it in memory.
    pub fn field(self) -> &'static str {
        match self {
            Self::A | Self::EmbeddingA => "a",
            Self::B | Self::EmbeddingB => "b",
            Self::Magnitude => "magnitude",
            Self::Scale => "scale",
        }
    }

    /// Whether it is `B`, the factor with the higher learning rate in LoRA+.
    pub fn is_b(self) -> bool {
        match self {
            Self::B | Self::EmbeddingB => true,
            Self::A | Self::EmbeddingA | Self::Magnitude | Self::Scale => false,
        }
    }
}

/// The name in files of a tensor of the adapter on the module at the Hugging Face path `module`.
pub fn tensor_name(module: &str, tensor: AdapterTensor) -> String {
    format!("{PREFIX}{module}{}", tensor.suffix())
}

/// The name in files of the base's tensor `name` (`model.norm.weight`), which is trained beside adapters on the modules
/// `adapted`.
pub fn base_tensor_name(name: &str, adapted: &[String]) -> String {
    match name.rsplit_once('.') {
        Some((module, last)) if adapted.iter().any(|path| path == module) => {
            format!("{PREFIX}{module}.{BASE_LAYER}{last}")
        }
        _ => format!("{PREFIX}{name}"),
    }
}

/// The names of the tensors in a file, grouped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorNames {
    /// For adapters: path of the module -> tensor -> name in the file.
    pub adapters: BTreeMap<String, BTreeMap<AdapterTensor, String>>,
    /// For the base: name in the base's files -> name in this file.
    pub base: BTreeMap<String, String>,
    /// For rows of the token table or of the head: path of the module -> name in the file.
    pub rows: BTreeMap<String, String>,
}

/// Groups the names of the tensors in a file.
///
/// # Errors
/// A name that belongs to no module, or one of two factors without the other.
pub fn group_tensors<'a>(path: &Path, names: impl Iterator<Item = &'a str>) -> Result<TensorNames, AdapterError> {
    let mismatch = |problem| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    let mut found = TensorNames::default();
    let mut of: Option<String> = None;
    let mut again = BTreeMap::new();
    for name in names {
        let Some(inner) = name.strip_prefix(PREFIX) else {
            return Err(mismatch(format!(
                "tensor `{name}` is not used; expected names like `{}`",
                tensor_name("model.layers.0.self_attn.q_proj", AdapterTensor::A)
            )));
        };
        let (inner, adapter) = without_adapter_name(inner);
        if let Some(adapter) = adapter
            && let Some(other) = of.replace(adapter.clone()).filter(|other| *other != adapter)
        {
            let problem =
                format!("it holds several adapters, `{other}` and `{adapter}`; save each in a folder of its own");
            return Err(mismatch(problem));
        }
        let parsed =
            AdapterTensor::ALL.into_iter().find_map(|tensor| Some((inner.strip_suffix(tensor.suffix())?, tensor)));
        let before = match parsed {
            Some((module, tensor)) => {
                found.adapters.entry(module.to_string()).or_default().insert(tensor, name.to_string())
            }
            None if inner.ends_with(ROWS) => {
                found.rows.insert(inner[..inner.len() - ROWS.len()].to_string(), name.to_string())
            }
            None => {
                // Where embeddings are written although they are trained whole, PEFT writes the wrapped module too: the
                // module before training, and the trained one a second time.
                if inner.contains(ORIGINAL) {
                    continue;
                }
                let in_base = inner.replacen(&format!(".{BASE_LAYER}"), ".", 1);
                match in_base.contains(TRAINED) {
                    true => again.insert(in_base.replacen(TRAINED, ".", 1), name.to_string()),
                    false => found.base.insert(in_base, name.to_string()),
                }
            }
        };
        if let Some(before) = before {
            return Err(mismatch(format!("`{before}` and `{name}` are one tensor")));
        }
    }
    for (module, name) in again {
        found.base.entry(module).or_insert(name);
    }
    let single = |tensors: &BTreeMap<AdapterTensor, String>| {
        let has = |tensor| tensors.contains_key(&tensor);
        has(AdapterTensor::A) != has(AdapterTensor::B)
            || has(AdapterTensor::EmbeddingA) != has(AdapterTensor::EmbeddingB)
    };
    match found.adapters.iter().find(|(_, tensors)| single(tensors)) {
        Some((module, _)) => Err(mismatch(format!("`{module}` has only one of lora_A and lora_B"))),
        None => Ok(found),
    }
}

/// The name as PEFT writes it, and the adapter's own name if it stood in it.
fn without_adapter_name(inner: &str) -> (String, Option<String>) {
    /// What stands before the adapter's name, and what stands in its place without it.
    const BEFORE: [(&str, &str); 8] = [
        (".trainable_tokens_delta.", ".trainable_tokens_delta"),
        (".lora_A.", ".lora_A."),
        (".lora_B.", ".lora_B."),
        (".lora_embedding_A.", ".lora_embedding_A"),
        (".lora_embedding_B.", ".lora_embedding_B"),
        (".lora_magnitude_vector.", ".lora_magnitude_vector"),
        (".ia3_l.", ".ia3_l"),
        (".modules_to_save.", "."),
    ];
    let plain = || (inner.to_string(), None);
    let split = BEFORE.iter().find_map(|(before, kept)| {
        let (module, rest) = inner.split_once(before)?;
        Some((module, rest, *kept))
    });
    let Some((module, rest, kept)) = split else { return plain() };
    match (kept.ends_with('.'), rest.split_once('.')) {
        (true, None) => plain(),
        (true, Some((adapter, last))) => (format!("{module}{kept}{last}"), Some(adapter.to_string())),
        // DoRA's magnitude is a module in memory.
        (false, None) if rest == "weight" => (format!("{module}{kept}"), None),
        (false, None) => (format!("{module}{kept}"), Some(rest.to_string())),
        (false, Some((adapter, "weight"))) => (format!("{module}{kept}"), Some(adapter.to_string())),
        (false, Some(_)) => plain(),
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
        assert_eq!((groups.adapters.len(), groups.base.len()), (1, 0));
        assert_eq!(groups.adapters["model.q"], all.into_iter().zip(names).collect());
    }

    #[test]
    fn a_module_that_is_trained_whole_counts_once() {
        let names = ["lm_head.modules_to_save.weight", "lm_head.original_module.weight", "lm_head.weight"];
        let names = names.map(|name| format!("base_model.model.{name}"));
        for order in [[0, 1, 2], [2, 1, 0]] {
            let groups = group_tensors(Path::new("x"), order.iter().map(|at| names[*at].as_str())).unwrap();
            assert_eq!(groups.base, BTreeMap::from([("lm_head.weight".to_string(), names[2].clone())]));
        }
        let groups = group_tensors(Path::new("x"), names[..2].iter().map(String::as_str)).unwrap();
        assert_eq!(groups.base["lm_head.weight"], names[0]);
    }

    #[test]
    fn tensors_of_the_base_have_the_names_of_the_base() {
        let adapted = ["model.q".to_string()];
        let names = ["model.q.bias", "model.norm.weight"];
        let ours = names.map(|name| base_tensor_name(name, &adapted));
        assert_eq!(ours, ["base_model.model.model.q.base_layer.bias", "base_model.model.model.norm.weight"]);
        let groups = group_tensors(Path::new("x"), ours.iter().map(String::as_str)).unwrap();
        assert_eq!(groups.base, names.map(String::from).into_iter().zip(ours).collect());
    }

    #[test]
    fn the_name_of_the_adapter_may_stand_in_the_names_of_its_tensors() {
        let names = [
            "base_model.model.model.q.lora_A.default.weight",
            "base_model.model.model.q.lora_B.default.weight",
            "base_model.model.model.q.lora_magnitude_vector.default.weight",
            "base_model.model.embed.lora_embedding_A.default",
            "base_model.model.embed.lora_embedding_B.default",
            "base_model.model.model.up.ia3_l.default",
            "base_model.model.lm_head.modules_to_save.default.weight",
        ];
        let groups = group_tensors(Path::new("x"), names.into_iter()).unwrap();
        assert_eq!(groups.adapters["model.q"][&AdapterTensor::A], names[0]);
        assert_eq!(groups.adapters["model.q"].len(), 3);
        assert_eq!(groups.adapters["embed"][&AdapterTensor::EmbeddingB], names[4]);
        assert_eq!(groups.adapters["model.up"][&AdapterTensor::Scale], names[5]);
        assert_eq!(groups.base["lm_head.weight"], names[6]);
        let old = ["base_model.model.model.q.lora_magnitude_vector.weight"];
        let groups = group_tensors(Path::new("x"), old.into_iter()).unwrap();
        assert_eq!(groups.adapters["model.q"][&AdapterTensor::Magnitude], old[0]);
    }

    #[test]
    fn two_adapters_in_one_file_are_an_error() {
        let names = ["default", "sql"].map(|name| format!("base_model.model.model.q.lora_A.{name}.weight"));
        let error = group_tensors(Path::new("x"), names.iter().map(String::as_str)).unwrap_err().to_string();
        assert!(error.contains("`default` and `sql`"), "{error}");
        let twice = ["base_model.model.model.q.lora_A.weight", "base_model.model.model.q.lora_A.a.weight"];
        let error = group_tensors(Path::new("x"), twice.into_iter()).unwrap_err().to_string();
        assert!(error.contains("are one tensor"), "{error}");
    }

    #[test]
    fn a_stray_or_single_factor_is_an_error_that_names_it() {
        let single = tensor_name("model.q", AdapterTensor::A);
        let error = group_tensors(Path::new("x"), [single.as_str()].into_iter()).unwrap_err().to_string();
        assert!(error.contains("model.q"), "{error}");
        let error = group_tensors(Path::new("x"), ["lm_head.weight"].into_iter()).unwrap_err();
        assert!(error.to_string().contains("lm_head"));
    }
}
