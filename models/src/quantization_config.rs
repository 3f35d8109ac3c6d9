//! `quantization_config` of a `config.json`: [`FourBitConfig`] reads it, and [`check_quantization`] compares it with
//! the tensors.
//!
//! Supported is bitsandbytes in 4 bits, as in transformers (`BitsAndBytesConfig`, `integrations/bitsandbytes.py`). It
//! quantizes every linear map except the head and what `llm_int8_skip_modules` names. Routers are no linear maps to it.
//! Experts are stacked tensors that it does not quantize, though older versions did, so they may be either. The number
//! of weights that share a scale is stored with each weight. Not here: GPTQ, AWQ, LLM.int8 and the like, which are
//! refused by name.

use firebrand_kernels::{FourBit, QuantizationScheme};
use serde_json::{Value, json};

use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parameters::{ParameterInfo, Role};
use crate::weights::{Checkpoint, Dtype, Form, LoadPlan, RuleSet, TensorView};
use crate::wording::clip;

/// The key in `config.json`.
pub(crate) const KEY: &str = "quantization_config";

/// The key of models that MLX quantized; it writes the same object under [`KEY`] too.
const OF_MLX: &str = "quantization";

const INSTEAD: &str = "take the folder with the weights in f32, f16 or bf16";

/// The keys that say in how many bits bitsandbytes quantizes.
const FLAGS: [&str; 4] = ["load_in_4bit", "_load_in_4bit", "load_in_8bit", "_load_in_8bit"];

fn says_flags(section: &HfConfig) -> bool {
    FLAGS.iter().any(|key| section.says(key))
}

/// Whether the section says of every number of bits that it is not used.
fn quantizes_nothing(section: &HfConfig) -> Result<bool, ModelError> {
    for key in FLAGS {
        if section.bool_or(key, false)? {
            return Ok(false);
        }
    }
    Ok(says_flags(section))
}

/// Checks that weights are not quantized, or by bitsandbytes.
///
/// # Errors
/// Another method, by its name.
pub(crate) fn check_method(config: &HfConfig) -> Result<(), ModelError> {
    let Some(section) = config.section(KEY)? else {
        let by_group = |section: &Value| section.get("group_size").is_some();
        return match config.map().get(OF_MLX).is_some_and(by_group) {
            true => Err(by_mlx(config, OF_MLX)),
            false => Ok(()),
        };
    };
    let name = match section.optional_string("quant_method")? {
        None if !says_flags(&section) && section.says("group_size") => return Err(by_mlx(config, KEY)),
        None | Some("bitsandbytes") => return Ok(()),
        Some("gptq") => "`gptq` (GPTQ)".to_owned(),
        Some("awq") => "`awq` (AWQ)".to_owned(),
        Some(method @ ("fp8" | "fbgemm_fp8")) => format!("`{method}` (floats of 8 bits)"),
        Some("mxfp4") => "`mxfp4` (floats of 4 bits)".to_owned(),
        Some("compressed-tensors") => "`compressed-tensors` (llm-compressor)".to_owned(),
        Some(other) => format!("`{}`", clip(other)),
    };
    Err(section.wrong("quant_method", format!("bitsandbytes in 4 bits and no other quantization; {INSTEAD}"), name))
}

fn by_mlx(config: &HfConfig, key: &str) -> ModelError {
    let expected = format!("weights that are not quantized, or by bitsandbytes in 4 bits; {INSTEAD}");
    config.wrong(key, expected, "a model that MLX quantized")
}

/// The configuration as the weights have it: a quantization by bitsandbytes is left out if no tensor is quantized, and
/// then there is a note about it. Such a section is what a merge of an adapter trained on a quantized base leaves over.
///
/// # Errors
/// Another method of quantization.
pub(crate) fn as_stored(config: HfConfig, checkpoint: &Checkpoint) -> Result<(HfConfig, Option<String>), ModelError> {
    let Some(section) = config.section(KEY)? else { return Ok((config, None)) };
    let ours = matches!(section.optional_string("quant_method")?, None | Some("bitsandbytes")) && says_flags(&section);
    // Names, shapes and dtypes of codes and of their scales.
    let quantized = |view: TensorView<'_>| {
        view.name.contains(".quant_state.")
            || view.name.ends_with(".SCB")
            || (view.name.ends_with(".weight") && matches!(view.dtype, Dtype::U8 | Dtype::I8))
    };
    if !ours || checkpoint.tensors().any(quantized) {
        return Ok((config, None));
    }
    let said = match quantizes_nothing(&section)? {
        true => "says of no number of bits that weights are quantized in it",
        false => "says that weights are quantized, and no tensor is",
    };
    let note = format!(
        "`{KEY}` of config.json {said}: the weights are read as they are, and the key is left out of what is written"
    );
    Ok((config.without(KEY), Some(note)))
}

/// The key that lists modules which are not quantized.
const SKIP: &str = "llm_int8_skip_modules";

/// `config` with what `rename` makes of each module that is not quantized; a module of which it makes nothing is left
/// out.
///
/// # Errors
/// A list that is none of names.
pub(crate) fn with_skipped(
    mut config: HfConfig,
    rename: impl Fn(&str) -> Option<String>,
) -> Result<HfConfig, ModelError> {
    let Some(mut section) = config.section(KEY)? else { return Ok(config) };
    let names = match section.map().get(SKIP) {
        Some(Value::Array(_)) => section.optional_strings(SKIP)?.unwrap_or_default(),
        Some(_) | None => return Ok(config),
    };
    let renamed: Vec<String> = names.iter().filter_map(|name| rename(name)).collect();
    if renamed != names {
        section.set(SKIP, renamed);
        config.set(KEY, section.map().clone());
    }
    Ok(config)
}

/// Linear maps in 4 bits, as bitsandbytes quantizes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FourBitConfig {
    code: FourBit,
    double: bool,
    /// Modules that are not quantized; absent: the head.
    skip: Option<Vec<String>>,
}

impl FourBitConfig {
    /// The quantization in `config`; `None` where it has none.
    ///
    /// # Errors
    /// Another method, 8 bits, or a key that is not supported.
    pub fn of(config: &HfConfig) -> Result<Option<Self>, ModelError> {
        check_method(config)?;
        let Some(section) = config.section(KEY)? else { return Ok(None) };
        if quantizes_nothing(&section)? {
            return Ok(None);
        }
        for key in ["load_in_8bit", "_load_in_8bit"] {
            if section.bool_or(key, false)? {
                let expected = format!(
                    "false: weights in 8 bits are not read; {INSTEAD}, which `[quantization]` quantizes in 8 bits while they are read"
                );
                return Err(section.wrong(key, expected, "true"));
            }
        }
        if !section.bool_or("load_in_4bit", section.bool_or("_load_in_4bit", false)?)? {
            return Err(section.wrong("load_in_4bit", format!("true; or {INSTEAD}"), "false"));
        }
        section.only("bnb_4bit_quant_storage", "uint8")?;
        let code = match section.optional_string("bnb_4bit_quant_type")? {
            None | Some("fp4") => FourBit::Fp4,
            Some("nf4") => FourBit::Nf4,
            Some(other) => {
                return Err(section.wrong("bnb_4bit_quant_type", "nf4 or fp4", format!("`{}`", clip(other))));
            }
        };
        // Some programs write an absent list as text.
        let none = section.map().get(SKIP).and_then(Value::as_str).is_some_and(|text| ["null", "None"].contains(&text));
        let skip = if none { None } else { section.optional_strings(SKIP)? };
        // The reference reads them as regular expressions. In plain names a dot is the only special character, and it
        // also matches a dot.
        let plain = |name: &&&str| name.chars().all(|letter| letter.is_alphanumeric() || "._-".contains(letter));
        if let Some(pattern) = skip.iter().flatten().find(|name| !plain(name)) {
            return Err(section.wrong(SKIP, "names of modules", format!("`{}`", clip(pattern))));
        }
        let skip = skip.map(|names| names.into_iter().map(str::to_owned).collect());
        Ok(Some(Self { code, double: section.bool_or("bnb_4bit_use_double_quant", false)?, skip }))
    }

    /// The configuration for weights of this scheme, with the default modules skipped; `None` for 8 bits, which have no
    /// names in files.
    pub fn new(scheme: QuantizationScheme) -> Option<Self> {
        match scheme {
            QuantizationScheme::FourBit { code, double, .. } => Some(Self { code, double, skip: None }),
            QuantizationScheme::Int8 { .. } => None,
        }
    }

    /// The value of `quantization_config` as transformers writes it. `compute` is the dtype of products.
    pub fn to_json(&self, compute: Dtype) -> Value {
        json!({
            "_load_in_4bit": true,
            "_load_in_8bit": false,
            "bnb_4bit_compute_dtype": compute.torch_name(),
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": self.code.to_string(),
            "bnb_4bit_use_double_quant": self.double,
            "llm_int8_enable_fp32_cpu_offload": false,
            "llm_int8_has_fp16_weight": false,
            "llm_int8_skip_modules": self.skip,
            "llm_int8_threshold": 6.0,
            "load_in_4bit": true,
            "load_in_8bit": false,
            "quant_method": "bitsandbytes",
        })
    }

    /// Whether the linear map with this name in files is quantized.
    pub(crate) fn quantizes(&self, module: &str) -> bool {
        let skips = |name: &String| {
            let below = module.strip_prefix(name.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || name.ends_with('.'))
                || module.ends_with(name.as_str())
        };
        !self.skip.iter().flatten().any(skips)
    }
}

/// Compares `config` with the tensors of `plan`, which was made for `parameters`; returns the scheme of the quantized
/// tensors, if there are any.
///
/// # Errors
/// Tensors that are quantized although the configuration does not say so, or in another way; a map that should be
/// quantized and is not; a quantized tensor that is no linear map. The message names the tensor.
pub(crate) fn check_quantization(
    config: &HfConfig,
    checkpoint: &Checkpoint,
    rules: &RuleSet,
    parameters: &[ParameterInfo],
    plan: &LoadPlan,
) -> Result<Option<QuantizationScheme>, ModelError> {
    let said = FourBitConfig::of(config)?;
    let mut common = None;
    for (load, info) in plan.loads.iter().zip(parameters) {
        let wrong = |expected: String, found: String| {
            let file = checkpoint.find(&load.theirs).map_or(checkpoint.path(), |view| view.file);
            Err(ModelError::tensor(file, &load.theirs, expected, found))
        };
        let module = rules.to_theirs(&load.ours).unwrap_or_else(|| load.theirs.clone());
        let module = module.strip_suffix(".weight").unwrap_or(&module);
        let may = info.role.is_linear();
        match (load.form, &said) {
            (Form::Dense(_), Some(said)) if may && said.quantizes(module) && info.role != Role::ExpertMap => {
                return wrong(
                    "4 bits, because `quantization_config` says so".into(),
                    "a tensor that is not quantized".into(),
                );
            }
            (Form::Dense(_), _) => {}
            (Form::Quantized(scheme), _) if !may => {
                return wrong(
                    "a tensor that is not quantized: only linear maps are read in 4 bits".into(),
                    scheme.to_string(),
                );
            }
            (Form::Quantized(scheme), None) => {
                let expected = "one that says how weights are quantized, as bitsandbytes and transformers write it";
                return Err(config.wrong(
                    KEY,
                    expected,
                    format!("nothing, and `{}` is quantized: {scheme}", clip(&load.theirs)),
                ));
            }
            (Form::Quantized(scheme), Some(said)) => {
                let first = *common.get_or_insert(scheme);
                if !said.agrees(scheme) || !said.quantizes(module) {
                    return wrong(
                        format!("{} as `quantization_config` says", said.describe(module)),
                        scheme.to_string(),
                    );
                }
                if scheme != first {
                    return wrong(format!("{first}, as the others"), scheme.to_string());
                }
            }
        }
    }
    Ok(common)
}

impl FourBitConfig {
    fn agrees(&self, scheme: QuantizationScheme) -> bool {
        matches!(scheme, QuantizationScheme::FourBit { code, double, .. } if code == self.code && double == self.double)
    }

    fn describe(&self, module: &str) -> String {
        match (self.quantizes(module), self.double) {
            (false, _) => "no quantized tensor,".to_owned(),
            (true, true) => format!("{} with quantized scales,", self.code),
            (true, false) => format!("{} with scales as they are,", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &str) -> Result<Option<FourBitConfig>, ModelError> {
        let text = format!(r#"{{"model_type": "llama", "quantization_config": {section}}}"#);
        FourBitConfig::of(&HfConfig::from_json("m/config.json", text).unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read("null").unwrap(), None);
        let left_over = r#"{"load_in_4bit": false, "load_in_8bit": false, "llm_int8_skip_modules": "null", "quant_method": "bitsandbytes"}"#;
        assert_eq!(read(left_over).unwrap(), None);
        assert_eq!(read(r#"{"load_in_4bit": false}"#).unwrap(), None);
        let skip = r#"{"load_in_4bit": true, "llm_int8_skip_modules": "null"}"#;
        assert_eq!(read(skip).unwrap(), read(r#"{"load_in_4bit": true}"#).unwrap());
        for double in [true, false] {
            for code in [FourBit::Nf4, FourBit::Fp4] {
                let config = FourBitConfig::new(QuantizationScheme::FourBit { code, block: 64, double }).unwrap();
                assert_eq!(read(&config.to_json(Dtype::BF16).to_string()).unwrap(), Some(config));
            }
        }
        assert_eq!(FourBitConfig::new(QuantizationScheme::INT8), None);
        // The defaults of the reference.
        let short = read(r#"{"load_in_4bit": true}"#).unwrap().unwrap();
        assert_eq!(short, FourBitConfig { code: FourBit::Fp4, double: false, skip: None });
    }

    #[test]
    fn skipped_modules_are_renamed_or_left_out() {
        let text = |names: &str| {
            format!(r#"{{"quantization_config": {{"load_in_4bit": true, "llm_int8_skip_modules": {names}}}}}"#)
        };
        let renamed = |names: &str| {
            let config = HfConfig::from_json("m/config.json", text(names)).unwrap();
            with_skipped(config, |name| (name != "h.0").then(|| name.replace("h.1", "h.0"))).unwrap().to_json()
        };
        for unchanged in ["null", "\"null\"", "[]", r#"["lm_head"]"#] {
            assert_eq!(renamed(unchanged), text(unchanged));
        }
        let changed: Value = serde_json::from_str(&renamed(r#"["lm_head", "h.0", "h.1"]"#)).unwrap();
        assert_eq!(changed[KEY], json!({"load_in_4bit": true, SKIP: ["lm_head", "h.0"]}));
    }

    #[test]
    fn what_is_not_read_is_refused_by_its_key() {
        for (section, says) in [
            (
                r#"{"quant_method": "gptq", "bits": 4}"#,
                "`quantization_config.quant_method`: expected bitsandbytes in 4 bits",
            ),
            (r#"{"quant_method": "awq"}"#, "found `awq`"),
            (r#"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#, "`quantization_config.load_in_8bit`"),
            (r#"{"quant_method": "bitsandbytes"}"#, "`quantization_config.load_in_4bit`"),
            (r#"{"quant_method": "fp8", "activation_scheme": "dynamic"}"#, "found `fp8` (floats of 8 bits)"),
            (r#"{"group_size": 64, "bits": 4}"#, "`quantization_config`: expected weights that are not quantized"),
            (r#"{"group_size": 64, "bits": 4, "mode": "affine"}"#, "a model that MLX quantized"),
            (r#"{"load_in_4bit": true, "bnb_4bit_quant_type": "int4"}"#, "nf4 or fp4, found `int4`"),
            (
                r#"{"load_in_4bit": true, "bnb_4bit_quant_storage": "bfloat16"}"#,
                "`quantization_config.bnb_4bit_quant_storage`",
            ),
            (r#"{"load_in_4bit": true, "llm_int8_skip_modules": ["layers.*"]}"#, "found `layers.*`"),
            (r#"{"load_in_4bit": "yes"}"#, "true or false"),
            (r#""nf4""#, "an object"),
        ] {
            let message = read(section).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn skipped_modules_are_those_the_reference_skips() {
        let section = r#"{"load_in_4bit": true, "llm_int8_skip_modules": ["lm_head", "model.layers.1", "down_proj"]}"#;
        let config = read(section).unwrap().unwrap();
        for (module, quantized) in [
            ("model.layers.1.mlp.up_proj", false),
            ("model.layers.11.mlp.up_proj", true),
            ("model.layers.0.mlp.down_proj", false),
            ("model.layers.0.mlp.up_proj", true),
            ("lm_head", false),
        ] {
            assert_eq!(config.quantizes(module), quantized, "{module}");
        }
    }
}
