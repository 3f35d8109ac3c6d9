//! Tensors saved by transformers and bitsandbytes (`tests/goldens/quantized.py`) are read and written; others give an
//! error that names the tensor.

use std::{collections::BTreeMap, path::PathBuf};

use burn::tensor::{Bytes, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::weights::{Checkpoint, SafetensorsFile};

fn golden(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens")).join(path)
}

/// Tensors by name.
#[derive(Clone)]
struct Tensors(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    fn of<'a>(views: impl Iterator<Item = TensorView<'a>>) -> Self {
        Self(views.map(|view| (view.name.into(), (view.dtype, view.shape.to_vec(), view.bytes().into()))).collect())
    }

    fn find(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, (dtype, shape, bytes)) = self.0.get_key_value(name)?;
        let data = crate::weights::view::Data::RowMajor(bytes);
        Some(TensorView { file: Path::new("model.safetensors"), name, dtype: *dtype, shape, data })
    }

    /// The tensors of one weight only.
    fn only(&self, name: &str) -> Self {
        let belongs = |key: &str| key == name || quantized_part_of(key) == Some(name);
        Self(self.0.iter().filter(|(key, _)| belongs(key)).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

fn data(view: TensorView<'_>) -> TensorData {
    let dtype = if view.dtype == Dtype::BF16 { DType::BF16 } else { DType::F32 };
    TensorData::from_bytes(Bytes::from_bytes_vec(view.bytes().into()), view.shape.to_vec(), dtype)
}

/// Reads a weight, quantizes `original` again and writes it: all three agree.
#[track_caller]
fn assert_same(name: &str, file: &Tensors, original: TensorView<'_>, scheme: QuantizationScheme) {
    let shape = [original.shape[0], original.shape[1]];
    let read = read_quantized(name, shape, |name| file.find(name)).unwrap().unwrap();
    assert_eq!(read.scheme(), scheme);
    assert!(read == QuantizedWeight::quantize(&data(original), scheme).unwrap(), "{name}");
    let expected = file.only(name);
    let mut written = BTreeMap::new();
    for (spec, bytes) in quantized_tensors(name, &read).unwrap() {
        written.insert(spec.name, (spec.dtype, spec.shape, bytes.into_owned()));
    }
    assert_eq!(written.keys().collect::<Vec<_>>(), expected.0.keys().collect::<Vec<_>>());
    for (name, expected) in &expected.0 {
        assert_eq!(written[name], *expected, "{name}");
    }
}

#[test]
fn what_transformers_saved_is_what_we_would_save() {
    let quantized = Checkpoint::open(golden("quantized/model")).unwrap();
    let base = Checkpoint::open(golden("llama-gqa-tied")).unwrap();
    let names: Vec<&str> = quantized.names().collect();
    let file = Tensors::of(names.iter().map(|name| quantized.get(name).unwrap()));
    let mut weights = 0;
    for name in base.names() {
        let original = base.get(name).unwrap();
        if names.iter().any(|part| quantized_part_of(part) == Some(name)) {
            assert_same(name, &file, original, QuantizationScheme::NF4);
            weights += 1;
        } else {
            assert_eq!(quantized.get(name).unwrap().bytes(), original.bytes());
            assert!(read_quantized(name, [1, 1], |name| file.find(name)).unwrap().is_none());
        }
    }
    assert_eq!(weights, 14);
}

fn keys(name: &str) -> Tensors {
    let file = SafetensorsFile::open(golden("quantized").join(name)).unwrap();
    Tensors::of(file.tensors())
}

#[test]
fn plain_scales_and_bfloat16_are_saved_alike_too() {
    let plain = keys("keys-plain.safetensors");
    let scheme = QuantizationScheme::FourBit { code: FourBit::Nf4, block: 64, double: false };
    assert_same("layer.weight", &plain, plain.find("input").unwrap(), scheme);
    let brain = keys("keys-bf16.safetensors");
    assert_same("layer.weight", &brain, brain.find("input").unwrap(), QuantizationScheme::NF4);
}

#[test]
fn fp4_comes_back() {
    let values = TensorData::new((0..35).map(|i| (i as f32).sin()).collect::<Vec<_>>(), [5, 7]);
    let scheme = QuantizationScheme::FourBit { code: FourBit::Fp4, block: 32, double: true };
    let weight = QuantizedWeight::quantize(&values, scheme).unwrap();
    let tensors = quantized_tensors("w", &weight).unwrap().into_iter();
    let file = Tensors(tensors.map(|(spec, bytes)| (spec.name, (spec.dtype, spec.shape, bytes.into()))).collect());
    assert!(read_quantized("w", [5, 7], |name| file.find(name)).unwrap().unwrap() == weight);
    let eight = QuantizedWeight::quantize(&values, QuantizationScheme::INT8).unwrap();
    assert!(quantized_tensors("w", &eight).is_none());
}

fn read(file: &Tensors) -> Result<Option<QuantizedWeight>, ModelError> {
    read_quantized("layer.weight", [6, 128], |name| file.find(name))
}

#[test]
fn other_tensors_are_refused_by_name() {
    let whole = keys("keys-bf16.safetensors").only("layer.weight");
    assert!(read(&whole).unwrap().is_some());
    for part in whole.0.keys() {
        let mut without = whole.clone();
        without.0.remove(part);
        match read(&without) {
            Ok(found) => assert!(found.is_none() && part.contains("quant_state"), "{part} is not missed"),
            Err(error) => assert!(error.to_string().contains(&format!("`{part}`: expected")), "{error}"),
        }
        for (dtype, shape, bytes) in [(Dtype::U8, vec![3], vec![0; 3]), (Dtype::F32, vec![0], vec![])] {
            let mut other = whole.clone();
            other.0.insert(part.clone(), (dtype, shape, bytes));
            let error = read(&other).unwrap_err().to_string();
            assert!(error.contains(&format!("`{part}`: expected")), "{error}");
        }
    }
    for (part, value) in [("nested_quant_map", 0.5), ("quant_map", 0.5), ("nested_absmax", f32::NAN)] {
        let mut other = whole.clone();
        let (_, _, bytes) = other.0.get_mut(&format!("layer.weight.{part}")).unwrap();
        bytes[..4].copy_from_slice(&value.to_le_bytes());
        let error = read(&other).unwrap_err().to_string();
        assert!(error.contains(&format!("`layer.weight.{part}`")), "{error}");
    }
}

#[test]
fn other_states_are_refused() {
    const STATE: &str = "layer.weight.quant_state.bitsandbytes__nf4";
    let whole = keys("keys-bf16.safetensors").only("layer.weight");
    let text = String::from_utf8(whole.0[STATE].2.clone()).unwrap();
    let with = |text: &[u8]| {
        let mut other = whole.clone();
        other.0.insert(STATE.into(), (Dtype::U8, vec![text.len()], text.to_vec()));
        read(&other)
    };
    let changes = [
        ("\"nf4\"", "\"fp4\""),
        ("64", "63"),
        ("64", "0"),
        ("64", "128"),
        ("bfloat16", "float64"),
        ("[6, 128]", "[128, 6]"),
        ("[6, 128]", "[18446744073709551615, 128]"),
        ("[6, 128]", "null"),
        ("256", "64"),
        ("\"nested_offset\": 0", "\"nested_offset\": 1e300, \"x\": 0"),
        ("\"nested_offset\": 0.", "\"nested_offset\": 9e307"),
        ("\"nested_blocksize\": 256, ", ""),
        ("{", "{{"),
    ];
    for (from, to) in changes {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        let error = with(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("`layer.weight"), "{from} -> {to}: {error}");
    }
    assert!(with(&vec![b' '; 5000]).is_err());
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..2000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..bytes.len());
            bytes[place] = random.random();
        }
        // A value or an error.
        let _ = with(&bytes);
    }
}
