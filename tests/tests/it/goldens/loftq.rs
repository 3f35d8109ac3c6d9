//! LoftQ's start against PEFT's, on weights that bitsandbytes quantized.

use std::sync::Arc;

use burn::tensor::{Device, TensorData};
use firebrand_adapters::{Adapter, Linear, LoraConfig, LoraFactors, LoraInit, Targets};
use firebrand_kernels::{FourBit, QuantizationScheme, QuantizedWeight, Scales, svd};
use firebrand_models::weights::SafetensorsFile;
use firebrand_tests::golden;
use firebrand_tests::tensors::distance;

struct Case {
    shape: [usize; 2],
    rank: usize,
    input: Vec<f32>,
    quantized: QuantizedWeight,
    /// PEFT's.
    factors: LoraFactors,
}

fn open(name: &str) -> Case {
    let file = SafetensorsFile::open(golden::path("loftq").join(format!("{name}.safetensors"))).unwrap();
    let floats = |name: &str| file.get(name).unwrap().to_f32().unwrap();
    let shape = file.get("input").unwrap().shape;
    let (shape, rank, input) = ([shape[0], shape[1]], file.get("a").unwrap().shape[0], floats("input"));
    let scheme = QuantizationScheme::FourBit { code: FourBit::Nf4, block: 64, double: false };
    let data = TensorData::new(input.clone(), shape);
    let quantized = QuantizedWeight::quantize(&data, scheme).unwrap();
    let codes = file.get("codes").unwrap().bytes().into_owned();
    let theirs =
        QuantizedWeight::from_parts(shape, scheme, data.dtype(), codes, Scales::Plain(floats("absmax"))).unwrap();
    assert_eq!(quantized.values(), theirs.values(), "the same quantized weight");
    Case { shape, rank, input, quantized, factors: LoraFactors { a: floats("a"), b: floats("b") } }
}

/// The weight `base + s B A`, with `alpha` such that the scale is `scale`.
fn whole(base: Linear, case: &Case, factors: LoraFactors, scale: f64, init: LoraInit) -> Vec<f32> {
    let config = LoraConfig { init, ..LoraConfig::new(case.rank, case.rank as f64 * scale, Targets::AllLinear) };
    let factors = match init {
        LoraInit::Loftq => config.initial_loftq(1, "q", &base, case.input.clone()).unwrap(),
        _ => factors,
    };
    let adapter = config.build("q", case.shape, factors, &Device::flex()).unwrap();
    let weight = base.quantized_weight().unwrap().dequantize(&Device::flex());
    Adapter::Lora(adapter).apply(weight).into_data().iter::<f32>().collect()
}

#[test]
fn the_start_equals_pefts_where_the_scale_is_one_and_approximates_as_well_at_any_other() {
    for (name, tolerance) in [("tall", 1e-5), ("wide", 1e-5)] {
        let case = open(name);
        let base = || Linear::quantized(Arc::new(case.quantized.clone()), None);
        let theirs = whole(base(), &case, case.factors.clone(), 1.0, LoraInit::Kaiming);
        // Taken by what they add: the quantized weight is common to both.
        let quantized = case.quantized.values();
        let added = |weight: &[f32]| {
            weight.iter().zip(&quantized).map(|(whole, quantized)| whole - quantized).collect::<Vec<_>>()
        };
        for scale in [1.0, 2.5] {
            let ours = whole(base(), &case, case.factors.clone(), scale, LoraInit::Loftq);
            let apart = distance(&added(&ours), &added(&theirs));
            assert!(apart < tolerance, "{name}, scale {scale}: {apart:e}");
        }
    }
}

#[test]
fn a_start_that_is_searched_for_leaves_as_little_as_pefts() {
    let case = open("many");
    let base = || Linear::quantized(Arc::new(case.quantized.clone()), None);
    let left = |weight: Vec<f32>| distance(&weight, &case.input);
    let theirs = left(whole(base(), &case, case.factors.clone(), 1.0, LoraInit::Kaiming));
    let ours = left(whole(base(), &case, case.factors.clone(), 1.0, LoraInit::Loftq));
    let quantized = left(case.quantized.values());
    assert!(theirs < 0.97 * quantized, "{theirs} {quantized}");
    assert!(ours < theirs * (1.0 + 1e-5), "{ours} {theirs}");
    let lost: Vec<f32> =
        case.input.iter().zip(case.quantized.values()).map(|(input, quantized)| input - quantized).collect();
    let values = svd(&lost, case.shape[0], case.shape[1]).unwrap().values;
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((ours - norm(&values[case.rank..]) / norm(&case.input)).abs() < 1e-6);
}
