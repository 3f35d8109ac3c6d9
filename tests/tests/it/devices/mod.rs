//! What holds on the processor, on another device: `FIREBRAND_TEST_DEVICE` names it, and `tests/devices.sh` prints what these tests
//! measure. Without the variable they compare the processor's fused operations.

mod operations;

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use firebrand::optim::{global_norm, global_norm_beside};
use firebrand_tests::{device, golden, training};
use serde_json::Value;

use crate::goldens::trajectory::equals_the_reference;
use crate::workshop::{RECIPE, Workshop, assert_says};

/// Prints a row of the table that `tests/devices.sh` makes.
fn row(what: &str, distance: &str, start: Instant) {
    println!("device-row\t{what}\t{distance}\t{:.1}", start.elapsed().as_secs_f64());
}

/// One of each method, of each optimiser that does its own work on a device, and a preference.
const TRAJECTORIES: [&str; 13] = [
    "trajectory-lora",
    "trajectory-full",
    "trajectory-qlora-nf4",
    "trajectory-qlora-int8",
    "trajectory-dora",
    "trajectory-ia3",
    "trajectory-adamw-8bit",
    "trajectory-muon",
    "trajectory-adafactor",
    "trajectory-gemma2-lora",
    "trajectory-mixtral-lora",
    "trajectory-dpo-llama-lora",
    "trajectory-dpo-qlora",
];

#[test]
fn training_equals_the_reference() {
    let cases = TRAJECTORIES.map(String::from);
    golden::each(&cases, |case| {
        let start = Instant::now();
        let apart = equals_the_reference(case, &[]);
        let distance = format!("loss {:.1e}, norm {:.1e}, weights {:.1e}", apart.loss, apart.norm, apart.weights);
        row(case, &distance, start);
    });
}

/// Two runs of the same recipe: every loss, every norm and every weight, bit for bit.
#[test]
fn the_same_run_has_the_same_bits() {
    let start = Instant::now();
    for case in ["trajectory-lora", "trajectory-full", "trajectory-muon", "trajectory-dpo-llama-lora"] {
        let recipe = golden::path(case).join("recipe.toml");
        let run = || training::train(&recipe, &["log.tensorboard=false"]).unwrap_or_else(|error| panic!("{error}"));
        let (first, second) = (run(), run());
        for (first, second) in first.steps.iter().zip(&second.steps) {
            let bits = |loss: f64, norm: f64| (loss.to_bits(), norm.to_bits());
            assert_eq!(
                bits(first.loss, first.grad_norm),
                bits(second.loss, second.grad_norm),
                "{case}: {}",
                first.step
            );
        }
        assert!(first.weights == second.weights, "{case}: other weights");
    }
    row("four runs twice", "the same bits", start);
}

/// Sums that reach reports or weights do not depend on which thread is first.
#[test]
fn sums_have_one_order() {
    let start = Instant::now();
    let device = device::open();
    let values: Vec<f32> =
        (0..3_000_001_u64).map(|index| ((index * 7919 % 10_007) as f32 / 5003.0 - 1.0).powi(3)).collect();
    let exact: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let count = values.len();
    let large = Tensor::<1>::from_data(TensorData::new(values, [count]), &device);
    let norm = || global_norm([&large].into_iter());
    let first = norm();
    assert!((first / exact - 1.0).abs() < 1e-6, "{first} is not {exact}");
    let sum = || firebrand_kernels::sum(large.clone());
    let read = || global_norm_beside(vec![sum()], [&large].into_iter());
    let (values, beside) = read();
    assert_eq!(beside.to_bits(), first.to_bits());
    for _ in 0..8 {
        assert_eq!(norm().to_bits(), first.to_bits());
        assert_eq!(read().0[0].to_bits(), values[0].to_bits());
    }
    row("sum and norm of 3 million values, nine times", "the same bits", start);
}

#[test]
fn the_processor_is_listed_first_and_no_software_adapter_is_chosen() {
    let workshop = Workshop::new();
    let listing: Value = serde_json::from_str(&workshop.succeed(&["devices", "--json"]).stdout).unwrap();
    let devices = listing["devices"].as_array().unwrap();
    assert_eq!((devices[0]["device"].as_str(), devices[0]["kind"].as_str()), (Some("cpu"), Some("processor")));
    let chosen = devices.iter().find(|device| device["device"] == listing["auto"]).unwrap();
    assert_ne!(chosen["kind"], "software");
    assert_says!(workshop.succeed(&["devices"]).stdout, "auto means", "cpu");
}

/// A feature that is not compiled in, a driver that is missing, a number or a name that nothing has: one error each, and no panic.
#[test]
fn a_device_that_is_not_there_is_refused_with_a_way_out() {
    let workshop = Workshop::new();
    for device in ["cuda:77", "rocm:77", "vulkan:77", "metal:77", "wgpu:77", "wgpu:no such card", "vulkan:virtual:9"] {
        for arguments in [&["train", "recipe.toml", "--device", device][..], &["selftest", "--device", device]] {
            let said = workshop.fail(arguments);
            assert!(!said.contains("panicked"), "{device}: {said}");
            let ways = ["--device cpu", "`firebrand devices`", "--features"];
            assert!(ways.iter().any(|way| said.contains(way)), "{device}: {said}");
            assert_says!(said, "device");
        }
    }
}

/// Weights in numbers that a device does not have are refused at the key, before anything is read.
#[test]
fn numbers_that_a_device_lacks_are_refused_at_the_key() {
    let name = device::name();
    if firebrand::device::has(&device::open(), firebrand::device::Numbers::Bf16) {
        return;
    }
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &format!("base_dtype = \"bf16\"\n{RECIPE}"));
    std::fs::remove_file(workshop.path("data.jsonl")).unwrap();
    workshop.write("data.jsonl", "not json");
    let said = workshop.fail(&["train", "recipe.toml", "--device", &name.to_string()]);
    assert_says!(said, "has no bf16", "recipe.toml:1", "base_dtype", "nf4");
}
