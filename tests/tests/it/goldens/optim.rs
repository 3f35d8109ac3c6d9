//! Optimisers equal to torch's, schedules equal to transformers', step by step.

use burn::tensor::{Device, Tensor};
use firebrand::optim::OptimizerState;
use firebrand::recipe::{AdamwRecipe, Curve, Optimizer, SgdRecipe};
use firebrand_tests::golden::{self, host};
use serde_json::Value;

fn floats(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn optimizer(case: &Value) -> (Optimizer, f64) {
    let settings = &case["settings"];
    let number = |key: &str| settings[key].as_f64().unwrap_or(0.0);
    let learning_rate = number("lr");
    let optimizer = match case["kind"].as_str().unwrap() {
        "adamw" => Optimizer::Adamw(AdamwRecipe {
            learning_rate,
            betas: [0, 1].map(|index| settings["betas"][index].as_f64().unwrap()),
            eps: number("eps"),
            weight_decay: number("weight_decay"),
        }),
        "sgd" => Optimizer::Sgd(SgdRecipe {
            learning_rate,
            momentum: number("momentum"),
            nesterov: settings["nesterov"].as_bool().unwrap_or(false),
            weight_decay: number("weight_decay"),
        }),
        other => panic!("no optimiser {other}"),
    };
    (optimizer, learning_rate)
}

#[test]
fn optimizers_equal_torchs_after_every_step() {
    let golden = golden::json("optimizers.json");
    let device = Device::flex();
    for case in golden["cases"].as_array().unwrap() {
        let (optimizer, learning_rate) = optimizer(case);
        let mut state = OptimizerState::default();
        let mut value = Tensor::<1>::from_floats(floats(&golden["start"]).as_slice(), &device);
        let gradients = golden["gradients"].as_array().unwrap();
        for (step, gradient) in gradients.iter().enumerate() {
            let gradient = Tensor::from_floats(floats(gradient).as_slice(), &device);
            let rate = learning_rate * golden["learning_rate_factors"][step].as_f64().unwrap();
            state.begin_step();
            value = optimizer.update(&mut state, "p", value, gradient, rate);
            let expected = floats(&case["parameters_after_step"][step]);
            for (ours, theirs) in host(value.clone()).iter().zip(&expected) {
                let allowed = 2e-6 * theirs.abs().max(0.1);
                assert!((ours - theirs).abs() <= allowed, "{}: step {}: {ours} {theirs}", case["settings"], step + 1);
            }
        }
    }
}

#[test]
fn schedules_equal_transformers_at_every_step() {
    let golden = golden::json("schedules.json");
    let highest = golden["learning_rate"].as_f64().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let kind = case["kind"].as_str().unwrap();
        let curve = match kind {
            "constant" => Curve::Constant,
            "linear" => Curve::Linear,
            "cosine" => Curve::Cosine,
            "cosine_with_min_lr" => {
                Curve::CosineWithMinLr { min_ratio: case["settings"]["min_lr_rate"].as_f64().unwrap() }
            }
            other => panic!("no schedule {other}"),
        };
        let warmup = case["warmup_steps"].as_u64().unwrap();
        let total = case["total_steps"].as_u64().unwrap_or(40);
        for (step, rate) in case["rates"].as_array().unwrap().iter().enumerate() {
            let ours = highest * curve.factor(step as u64, warmup, total);
            let theirs = rate.as_f64().unwrap();
            let place = format!("{kind}, warm-up {warmup} of {total}, step {}", step + 1);
            assert!((ours - theirs).abs() < 1e-15, "{place}: {ours} instead of {theirs}");
        }
    }
}
