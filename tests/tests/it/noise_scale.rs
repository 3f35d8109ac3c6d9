//! The gradient noise scale in the metrics, and that measuring it changes nothing.

use firebrand::objective::{Gradients, NoiseSample, Sft, StepScale};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_tests::golden::{self, host};
use firebrand_tests::training::{prepare, train};

const GOLDEN: &str = "trajectory-lora";

fn squared_norm(gradients: &Gradients) -> f64 {
    gradients.values().flat_map(|gradient| host(gradient.clone())).map(|value| f64::from(value).powi(2)).sum()
}

#[test]
fn measuring_changes_no_byte_of_what_is_trained() {
    for case in [GOLDEN, "trajectory-full"] {
        for recompute in ["train.recompute=off", "train.recompute=blocks"] {
            let run = |measure: &str| {
                let overrides = [recompute, measure, "train.micro_batch_size=1", "log.tensorboard=false"];
                train(&golden::path(case).join("recipe.toml"), &overrides).unwrap()
            };
            let (plain, measured) = (run("log.noise_scale=false"), run("log.noise_scale=true"));
            assert!(plain.weights == measured.weights, "{case}, {recompute}");
            for (plain, measured) in plain.steps.iter().zip(&measured.steps) {
                assert_eq!((plain.loss, plain.grad_norm), (measured.loss, measured.grad_norm));
                assert_eq!(plain.parts.get("gradient_variance"), None);
                assert!(measured.parts.get("gradient_variance").is_some_and(f64::is_finite));
            }
            assert!(measured.steps.iter().any(|step| step.parts.get("noise_scale").is_some_and(|scale| scale > 0.0)));
        }
    }
}

/// The first step of the run, from the gradients of each micro-batch computed by themselves.
#[test]
fn the_numbers_of_a_step_are_those_of_its_micro_batches_alone() {
    let recipe = golden::path(GOLDEN).join("recipe.toml");
    let overrides = ["log.noise_scale=true", "train.micro_batch_size=1", "log.tensorboard=false"];
    let reported = train(&recipe, &overrides).unwrap().steps.remove(0).parts;
    let ready = prepare(&recipe, &overrides).unwrap();
    let packs: Vec<_> = ready.data.train.epoch(1, 0).packs.iter().take(4).collect();
    let batches: Vec<TokenBatch> =
        packs.chunks(1).map(|packs| ready.data.train.batch(packs).unwrap().into_tokens().unwrap()).collect();
    let mode = Mode::Training { key: 1, first_row: 0 };
    let scale = StepScale::new(batches.iter());
    let mut whole = Gradients::default();
    let parts: Vec<(f64, f64)> = batches
        .iter()
        .map(|batch| {
            let mut alone = Gradients::default();
            Sft::default().accumulate(ready.model.network(), batch, &scale, mode, &mut alone);
            Sft::default().accumulate(ready.model.network(), batch, &scale, mode, &mut whole);
            (batch.labelled_tokens() as f64 / scale.total_weight, squared_norm(&alone))
        })
        .collect();
    let expected = NoiseSample::of(&parts, squared_norm(&whole), 4).unwrap();
    let near = |name: &str, expected: f64| {
        let found = reported.get(name).unwrap();
        assert!((found - expected).abs() < 1e-5 * expected.abs(), "{name}: {found} instead of {expected}");
    };
    near("gradient_variance", expected.variance);
    near("gradient_squared_norm", expected.squared_norm);
}
