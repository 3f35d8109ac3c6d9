//! Quantized weights are bitsandbytes' (`tests/goldens/quantized.py`), bit for bit, and as small as they should be.

use super::{
    codebook::{FP4, NF4},
    mean::mean,
    *,
};
use crate::testing::{in_pools, numbers};
use burn::tensor::{Bytes, bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::{collections::BTreeMap, path::PathBuf};

fn goldens() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/quantized"))
}

/// A weight that bitsandbytes quantized.
struct Golden {
    name: String,
    input: TensorData,
    scheme: QuantizationScheme,
    tensors: BTreeMap<String, Vec<u8>>,
}

impl Golden {
    fn floats(&self, name: &str) -> Vec<f32> {
        self.tensors[name].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

fn all() -> Vec<Golden> {
    let mut found = vec![];
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "safetensors") || name.starts_with("keys-") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let about = header.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (code, block) = about["packing"].split_once(' ').unwrap();
        let block = block.parse().unwrap();
        let double = file.tensor("offset").is_ok();
        let scheme = match code {
            "nf4" => QuantizationScheme::FourBit { code: FourBit::Nf4, block, double },
            "fp4" => QuantizationScheme::FourBit { code: FourBit::Fp4, block, double },
            _ => QuantizationScheme::Int8 { block },
        };
        let input = file.tensor("input").unwrap();
        let dtype = match input.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            _ => DType::BF16,
        };
        let values = Bytes::from_bytes_vec(input.data().to_vec());
        let input = TensorData::from_bytes(values, input.shape().to_vec(), dtype);
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
        found.push(Golden { name, input, scheme, tensors });
    }
    assert_eq!(found.len(), 12, "goldens of quantized weights");
    found
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn codes_and_scales_are_those_of_bitsandbytes() {
    for golden in all() {
        let weight = QuantizedWeight::quantize(&golden.input, golden.scheme).unwrap();
        let name = &golden.name;
        assert!(weight.codes() == golden.tensors["codes"], "codes of {name}");
        match weight.scales() {
            Scales::Plain(scales) => assert_eq!(bits(scales), bits(&golden.floats("absmax")), "absmax of {name}"),
            Scales::Double(DoubleScales { codes, absmax, map, offset }) => {
                assert_eq!(bits(&[*offset]), bits(&golden.floats("offset")), "offset of {name}");
                assert_eq!(bits(&**map), bits(&golden.floats("nested_map")), "map of {name}");
                assert_eq!(bits(absmax), bits(&golden.floats("nested_absmax")), "nested absmax of {name}");
                assert!(*codes == golden.tensors["absmax"], "absmax of {name}");
            }
        }
    }
}

#[test]
fn maps_are_those_of_bitsandbytes() {
    for golden in all() {
        let map = match golden.scheme {
            QuantizationScheme::FourBit { code: FourBit::Nf4, .. } => NF4.values.to_vec(),
            QuantizationScheme::FourBit { code: FourBit::Fp4, .. } => FP4.values.to_vec(),
            QuantizationScheme::Int8 { .. } => DYNAMIC.to_vec(),
        };
        assert_eq!(bits(&map), bits(&golden.floats("map")), "map of {}", golden.name);
    }
}

#[test]
fn dequantized_numbers_are_those_of_bitsandbytes() {
    for golden in all() {
        let weight = QuantizedWeight::quantize(&golden.input, golden.scheme).unwrap();
        // Equal as numbers: a zero may have either sign.
        assert!(weight.values() == golden.floats("values"), "values of {}", golden.name);
    }
}

#[test]
fn means_are_those_of_torch() {
    let text = std::fs::read_to_string(goldens().join("means.json")).unwrap();
    let entries = text.trim().trim_matches(['{', '}']).split(", ");
    let mut checked = 0;
    for entry in entries {
        let (count, expected) = entry.split_once(": ").unwrap();
        let count: usize = count.trim_matches('"').parse().unwrap();
        let values: Vec<f32> = (0..count).map(|i| (i * 40503 % 65536) as f32 / 65536.0).collect();
        assert_eq!(mean(&values).to_bits(), expected.parse::<u32>().unwrap(), "{count} numbers");
        checked += 1;
    }
    assert_eq!(checked, 21);
}

#[test]
fn any_piece_widens_to_the_same_numbers() {
    for scheme in [QuantizationScheme::NF4, QuantizationScheme::INT8] {
        let weight = QuantizedWeight::quantize(&TensorData::new(numbers(7 * 45, 1), [7, 45]), scheme).unwrap();
        let all = weight.values();
        for (first, len) in [(0, 1), (1, 1), (63, 2), (5, 130), (64, 64), (127, 188), (314, 1)] {
            let mut piece = vec![f32::NAN; len];
            weight.widen(first, &mut piece);
            assert_eq!(piece, all[first..first + len], "{scheme:?} {first} {len}");
        }
    }
}

#[test]
fn a_quantized_weight_is_small() {
    let values = TensorData::new(numbers(576 * 1536, 1), [576, 1536]);
    let size = |scheme| {
        let weight = QuantizedWeight::quantize(&values, scheme).unwrap();
        assert_eq!(weight.codes.capacity(), weight.codes.len());
        weight.bytes() as f64 / weight.len() as f64
    };
    assert!(size(QuantizationScheme::NF4) < 0.517);
    assert!(size(QuantizationScheme::INT8) < 1.063);
}

#[test]
fn bits_do_not_depend_on_threads() {
    for scheme in [QuantizationScheme::NF4, QuantizationScheme::INT8] {
        let values = TensorData::new(numbers(300 * 170, 1), [300, 170]);
        in_pools(|| {
            let weight = QuantizedWeight::quantize(&values, scheme).unwrap();
            let values = bits(&weight.values());
            (weight, values)
        });
    }
}

#[test]
fn sixteen_bit_values_quantize_as_their_wide_copy() {
    let wide = numbers(70 * 9, 1);
    let brain: Vec<bf16> = wide.iter().map(|value| bf16::from_f32(*value)).collect();
    let half: Vec<f16> = wide.iter().map(|value| f16::from_f32(*value)).collect();
    let quantize = |data| QuantizedWeight::quantize(&data, QuantizationScheme::NF4).unwrap();
    let widened: Vec<f32> = brain.iter().map(|value| value.to_f32()).collect();
    assert_eq!(
        quantize(TensorData::new(brain, [9, 70])).values(),
        quantize(TensorData::new(widened, [9, 70])).values()
    );
    let widened: Vec<f32> = half.iter().map(|value| value.to_f32()).collect();
    assert_eq!(quantize(TensorData::new(half, [9, 70])).values(), quantize(TensorData::new(widened, [9, 70])).values());
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let quantize = |values: Vec<f32>, scheme| {
        let len = values.len();
        QuantizedWeight::quantize(&TensorData::new(values, [1, len]), scheme)
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for scheme in [QuantizationScheme::NF4, QuantizationScheme::INT8] {
            let mut values = numbers(200, 1);
            values[130] = value;
            assert!(matches!(quantize(values, scheme), Err(QuantizationError::NotFinite { index: 130, .. })));
        }
    }
    assert_eq!(quantize(vec![1.0], QuantizationScheme::Int8 { block: 63 }), Err(QuantizationError::Block(63)));
    let vector = QuantizedWeight::quantize(&TensorData::new(vec![1.0f32], [1]), QuantizationScheme::NF4);
    assert_eq!(vector, Err(QuantizationError::Shape(vec![1])));
    let integers = QuantizedWeight::quantize(&TensorData::new(vec![1i64], [1, 1]), QuantizationScheme::NF4);
    assert_eq!(integers, Err(QuantizationError::Dtype(DType::I64)));
}

#[test]
fn parts_of_other_sizes_are_refused() {
    let parts = |codes, scales| {
        QuantizedWeight::from_parts([3, 45], QuantizationScheme::NF4, DType::F32, vec![0; codes], scales)
            .map(|weight| weight.values())
    };
    let double = |codes, absmax| {
        let map = DoubleScales::map();
        Scales::Double(DoubleScales { codes: vec![0; codes], absmax: vec![0.0; absmax], map, offset: 0.0 })
    };
    assert_eq!(parts(68, double(3, 1)).unwrap().len(), 135);
    assert_eq!(parts(67, double(3, 1)), Err(QuantizationError::Size { part: "codes", expected: 68, found: 67 }));
    assert!(matches!(parts(68, double(2, 1)), Err(QuantizationError::Size { part: "scales", .. })));
    assert!(matches!(parts(68, double(3, 0)), Err(QuantizationError::Size { part: "scales of scales", .. })));
    let huge = QuantizedWeight::from_parts([usize::MAX, 2], QuantizationScheme::NF4, DType::F32, vec![], double(0, 0));
    assert!(matches!(huge, Err(QuantizationError::Shape(_))));
}

#[test]
fn no_parameters_are_a_weight_too() {
    let weight =
        QuantizedWeight::quantize(&TensorData::new(Vec::<f32>::new(), [0, 5]), QuantizationScheme::NF4).unwrap();
    assert!(weight.is_empty() && weight.values().is_empty());
}
