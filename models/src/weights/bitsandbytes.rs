//! Quantized weights in bitsandbytes' format: [`read_quantized`] and [`quantized_tensors`] convert from and to the
//! tensors that transformers and bitsandbytes save.
//!
//! `name` holds the codes, `[bytes, 1]`. Beside it are `name.absmax` and `name.quant_map`; where the scales are
//! quantized too, `name.nested_absmax` and `name.nested_quant_map`; and `name.quant_state.bitsandbytes__nf4` (or
//! `__fp4`), which is JSON in a tensor of bytes (`QuantState.as_dict`).
//!
//! Tensors from a file are checked against the shape that the model has, so nothing larger than them is allocated. The
//! map of the 4-bit codes must be the standard one, which bitsandbytes uses whatever the file says. Not here: 8-bit
//! weights, for which these tools have no such names, and codes stored in other types than bytes
//! (`bnb_4bit_quant_storage`).

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use burn::tensor::DType;
use firebrand_kernels::{DoubleScales, FourBit, QuantizationScheme, QuantizedWeight, Scales};
use serde::Deserialize;

use super::{checkpoint::Checkpoint, dtype::Dtype, plan::TensorSpec, view::TensorView};
use crate::error::ModelError;
use crate::wording::clip;

/// Number of scales that share a scale of the second level.
const NESTED_BLOCK: usize = 256;
/// How far a map may be from the standard one: the programs that write it round differently.
const MAP_TOLERANCE: f32 = 1e-6;
/// The longest state in bytes; real ones are much shorter.
const LONGEST_STATE: usize = 4096;
const STATE: &str = ".quant_state.bitsandbytes__";
const PARTS: [&str; 6] = [
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
];

/// The name of the weight to which the tensor of this name belongs, if it is part of a quantized weight.
pub fn quantized_part_of(name: &str) -> Option<&str> {
    PARTS.iter().find_map(|part| name.strip_suffix(part))
}

/// The content of a quantized weight's state that tells which tensors belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedHeader {
    /// `[out, in]`, whatever the number of code bytes.
    pub shape: Vec<usize>,
    pub scheme: QuantizationScheme,
}

/// The quantized weights of `checkpoint`, by name. Only their states are read.
///
/// # Errors
/// A state that is not valid JSON of this form; two states of one weight.
pub fn quantized_weights(checkpoint: &Checkpoint) -> Result<BTreeMap<&str, QuantizedHeader>, ModelError> {
    let mut found = BTreeMap::new();
    for view in checkpoint.tensors() {
        let state = [FourBit::Nf4, FourBit::Fp4].into_iter().find_map(|code| {
            let name = view.name.strip_suffix(kind(code))?.strip_suffix(STATE)?;
            Some((name, code))
        });
        let Some((name, code)) = state else { continue };
        let state = State::read(&view, code)?;
        let scheme =
            QuantizationScheme::FourBit { code, block: state.blocksize, double: state.nested_blocksize.is_some() };
        if found.insert(name, QuantizedHeader { shape: state.shape.to_vec(), scheme }).is_some() {
            return Err(wrong(&view, "one state of a weight", "two"));
        }
    }
    Ok(found)
}

impl QuantizedHeader {
    /// The names of all tensors of the weight called `name`, beginning with the codes.
    pub fn tensors(&self, name: &str) -> Vec<String> {
        let mut parts = vec!["", ".absmax", ".quant_map"];
        let state = match self.scheme {
            QuantizationScheme::FourBit { code, double, .. } => {
                if double {
                    parts.extend([".nested_absmax", ".nested_quant_map"]);
                }
                Some(format!("{name}{STATE}{}", kind(code)))
            }
            QuantizationScheme::Int8 { .. } => None,
        };
        parts.into_iter().map(|part| format!("{name}{part}")).chain(state).collect()
    }
}

/// The tensors of a weight called `name`, with their little-endian bytes. `None` for 8 bits, which has no names in this
/// format.
pub fn quantized_tensors<'a>(name: &str, weight: &'a QuantizedWeight) -> Option<Vec<(TensorSpec, Cow<'a, [u8]>)>> {
    let QuantizationScheme::FourBit { code, block, .. } = weight.scheme() else { return None };
    let spec = |part: &str, dtype, shape| TensorSpec { name: format!("{name}{part}"), dtype, shape };
    let floats = |part: &str, values: &[f32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (spec(part, Dtype::F32, vec![values.len()]), Cow::Owned(bytes))
    };
    let mut tensors = vec![(spec("", Dtype::U8, vec![weight.codes().len(), 1]), Cow::Borrowed(weight.codes()))];
    let [out, input] = weight.shape();
    let dtype = match weight.dtype() {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    let kind = kind(code);
    let mut state =
        format!(r#"{{"quant_type": "{kind}", "blocksize": {block}, "dtype": "{dtype}", "shape": [{out}, {input}]"#);
    match weight.scales() {
        Scales::Plain(scales) => tensors.push(floats(".absmax", scales)),
        Scales::Double(DoubleScales { codes, absmax, map, offset }) => {
            tensors.push((spec(".absmax", Dtype::U8, vec![codes.len()]), Cow::Borrowed(codes)));
            tensors.push(floats(".nested_absmax", absmax));
            tensors.push(floats(".nested_quant_map", &**map));
            let offset = serde_json::Value::from(f64::from(*offset));
            let nested = format!(
                r#", "nested_blocksize": {NESTED_BLOCK}, "nested_dtype": "float32", "nested_offset": {offset}"#
            );
            state.push_str(&nested);
        }
    }
    state.push('}');
    tensors.push(floats(".quant_map", &code.values()));
    let part = format!("{STATE}{kind}");
    tensors.push((spec(&part, Dtype::U8, vec![state.len()]), Cow::Owned(state.into_bytes())));
    Some(tensors)
}

fn kind(code: FourBit) -> &'static str {
    match code {
        FourBit::Nf4 => "nf4",
        FourBit::Fp4 => "fp4",
    }
}

/// The JSON state of a weight: what its other tensors do not say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: [usize; 2],
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

/// Reads the weight called `name` with shape `[out, in]` from the tensors that `find` returns; `None` where it has no
/// state and so is not quantized.
///
/// # Errors
/// A tensor that is missing or has another dtype or size, an invalid state, a map that is not the standard one, a scale
/// that is not finite, another shape. The message names tensor and file.
pub fn read_quantized<'a>(
    name: &str,
    shape: [usize; 2],
    find: impl Fn(&str) -> Option<TensorView<'a>>,
) -> Result<Option<QuantizedWeight>, ModelError> {
    let states = [FourBit::Nf4, FourBit::Fp4].into_iter().filter_map(|code| {
        let state = find(&format!("{name}{STATE}{}", kind(code)))?;
        Some((code, state))
    });
    let mut states: Vec<_> = states.collect();
    let Some((code, view)) = states.pop() else { return Ok(None) };
    if let Some((_, other)) = states.pop() {
        return Err(wrong(&other, "one state of a weight", "two"));
    }
    let state = State::read(&view, code)?;
    if state.shape != shape {
        return Err(wrong(&view, format!("shape = {shape:?}"), format!("{:?}", state.shape)));
    }
    let parts = Parts { name, file: view.file, find };
    let double = state.nested_blocksize.is_some();
    let scheme = QuantizationScheme::FourBit { code, block: state.blocksize, double };
    let numbers = shape[0].checked_mul(shape[1]).ok_or_else(|| wrong(&view, "a shape that can be counted", "more"))?;
    let blocks = numbers.div_ceil(state.blocksize.max(1));
    let codes = parts.bytes("", scheme.code_bytes(numbers))?;
    parts.usual_map(".quant_map", &code.values())?;
    let scales = match state.nested_offset {
        None => Scales::Plain(parts.floats(".absmax", blocks)?),
        Some(offset) => {
            let map = DoubleScales::map();
            let found = parts.usual_map(".nested_quant_map", &*map)?;
            let map = match <Box<[f32; 256]>>::try_from(found.into_boxed_slice()) {
                // The standard map is shared by all weights.
                Ok(found) if *found != *map => found.into(),
                Ok(_) | Err(_) => map,
            };
            let (codes, absmax) =
                (parts.bytes(".absmax", blocks)?, parts.floats(".nested_absmax", blocks.div_ceil(NESTED_BLOCK))?);
            let offset = offset as f32;
            if let Some(scale) = absmax.iter().find(|scale| !(scale.abs() + offset.abs()).is_finite()) {
                return Err(wrong(&view, "scales that are finite with their offset", format!("{scale} and {offset}")));
            }
            Scales::Double(DoubleScales { codes, absmax, map, offset })
        }
    };
    let dtype = match state.dtype.as_str() {
        "bfloat16" => DType::BF16,
        "float16" => DType::F16,
        _ => DType::F32,
    };
    let weight = QuantizedWeight::from_parts(shape, scheme, dtype, codes, scales);
    weight.map(Some).map_err(|problem| wrong(&view, "a quantized weight", problem.to_string()))
}

impl State {
    fn read(view: &TensorView<'_>, code: FourBit) -> Result<Self, ModelError> {
        if view.dtype != Dtype::U8 || view.shape.len() != 1 || view.elements() > LONGEST_STATE {
            let found = format!("{} elements of {}", view.elements(), view.dtype.name());
            return Err(wrong(view, format!("JSON in at most {LONGEST_STATE} bytes"), found));
        }
        let state: Self = serde_json::from_slice(&view.bytes())
            .map_err(|error| wrong(view, "the state of a 4-bit weight in JSON", error.to_string()))?;
        let expect = |key: &str, expected: &str, found: &str| {
            if expected == found { Ok(()) } else { Err(wrong(view, format!("{key} = {expected}"), clip(found))) }
        };
        expect("quant_type", kind(code), &state.quant_type)?;
        if !["float32", "bfloat16", "float16"].contains(&state.dtype.as_str()) {
            return Err(wrong(view, "dtype = float32, bfloat16 or float16", clip(&state.dtype)));
        }
        match (state.nested_blocksize, &state.nested_dtype, state.nested_offset) {
            (None, None, None) => Ok(state),
            (Some(NESTED_BLOCK), Some(dtype), Some(offset)) => {
                expect("nested_dtype", "float32", dtype)?;
                match (offset as f32).is_finite() {
                    true => Ok(state),
                    false => Err(wrong(view, "a finite nested_offset", offset.to_string())),
                }
            }
            (Some(block), Some(_), Some(_)) => {
                Err(wrong(view, format!("nested_blocksize = {NESTED_BLOCK}"), block.to_string()))
            }
            (_, _, _) => Err(wrong(view, "all of nested_blocksize, nested_dtype and nested_offset", "some of them")),
        }
    }
}

/// The tensors of one weight.
struct Parts<'n, F> {
    name: &'n str,
    file: &'n Path,
    find: F,
}

impl<'a, F: Fn(&str) -> Option<TensorView<'a>>> Parts<'_, F> {
    fn get(&self, part: &str, dtype: Dtype, expected: usize) -> Result<TensorView<'a>, ModelError> {
        let name = format!("{}{part}", self.name);
        let asked = format!("{expected} elements of {}", dtype.name());
        let Some(view) = (self.find)(&name) else {
            return Err(ModelError::tensor(self.file, &name, asked, "no such tensor"));
        };
        if view.dtype != dtype || view.elements() != expected {
            return Err(wrong(&view, asked, format!("{} of {}", view.elements(), view.dtype.name())));
        }
        Ok(view)
    }

    fn bytes(&self, part: &str, expected: usize) -> Result<Vec<u8>, ModelError> {
        Ok(self.get(part, Dtype::U8, expected)?.bytes().into_owned())
    }

    fn floats(&self, part: &str, expected: usize) -> Result<Vec<f32>, ModelError> {
        let view = self.get(part, Dtype::F32, expected)?;
        view.check_finite()?;
        view.to_f32()
    }

    fn usual_map(&self, part: &str, usual: &[f32]) -> Result<Vec<f32>, ModelError> {
        let found = self.floats(part, usual.len())?;
        match found.iter().zip(usual).find(|(found, usual)| (*found - *usual).abs() > MAP_TOLERANCE) {
            None => Ok(found),
            Some((found, usual)) => {
                let name = format!("{}{part}", self.name);
                Err(ModelError::tensor(self.file, &name, format!("the usual map, with {usual}"), found.to_string()))
            }
        }
    }
}

fn wrong(view: &TensorView<'_>, expected: impl Into<String>, found: impl Into<String>) -> ModelError {
    ModelError::tensor(view.file, view.name, expected, found)
}

#[cfg(test)]
mod tests;
