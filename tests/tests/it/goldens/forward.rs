//! Logits, losses, gradients, files and continuations of every model case.

use std::collections::HashMap;

use firebrand::inference::generate::{Finish, Sampling, Session};
use firebrand::objective::{Gradients, Recompute, Sft, StepScale, inputs};
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_models::Model;
use firebrand_models::parts::Inputs;
use firebrand_models::weights::Checkpoint;
use firebrand_tests::golden::{self, Forward, alone, at_tokens, host, logits, segments};
use firebrand_tests::tensors::{distance, largest_difference};
use serde_json::Value;

/// Logits are about 10, sums of a few hundred f32 products: rounding moves them by 6e-6. One position of
/// `llama-rope-dynamic` amplifies it seven times.
const LOGITS: f32 = 5e-5;
/// By the norm of a tensor. Usual are 3e-6, which is also how far the reference's f32 gradients are from its own f64 ones;
/// the same position makes 1e-5 of it.
const RELATIVE: f64 = 2e-5;

/// Loss and gradients of one batch, the gradients by their names in files.
pub fn loss_and_gradients(model: &Model, batch: &TokenBatch, recompute: Recompute) -> (f64, Vec<(String, Vec<f32>)>) {
    let mut gradients = Gradients::default();
    let scale = StepScale::new([batch].into_iter());
    let mode = Mode::Training { key: 0, first_row: 0 };
    let sft = Sft { recompute, ..Sft::default() };
    let loss = sft.accumulate(model.network(), batch, &scale, mode, &mut gradients);
    let rules = model.rules();
    let shapes: HashMap<String, Vec<usize>> =
        model.base_parameters().iter().map(|info| (info.path.clone(), info.shape.clone())).collect();
    let named = gradients.iter().map(|(path, gradient)| {
        let name = rules.to_theirs(path).unwrap_or_else(|| path.to_string());
        (name, rules.layout(path).convert(host(gradient.clone()), shapes.get(path).map_or(&[], Vec::as_slice)))
    });
    (loss, named.collect())
}

/// By the norm of a whole gradient tensor, where others are around 0.1.
const NOTHING: f64 = 5e-7;

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn there_are_cases() {
    let models = golden::models();
    for case in ["llama-gqa-tied", "llama-untied-biases", "llama-legacy-spelling", "llama-rope-yarn", "yi"] {
        assert!(models.iter().any(|model| model == case), "{case} is not among {models:?}");
    }
}

#[test]
fn every_layer_equals_the_reference() {
    golden::each_model(|case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        let batch = forward.batch("");
        let context = golden::decoder(&model).context(&inputs(&batch), Mode::Inference);
        let mut x = golden::decoder(&model).embed(&inputs(&batch), Mode::Inference);
        assert_eq!(forward.layers(), golden::decoder(&model).layers().len(), "{case}");
        for (index, layer) in golden::decoder(&model).layers().iter().enumerate() {
            x = layer.forward(x, &context, None);
            let ours = at_tokens(&batch, &host(x.clone()));
            let theirs = at_tokens(&batch, &forward.floats(&format!("hidden.{index}")));
            let apart = distance(&ours, &theirs);
            assert!(apart < RELATIVE, "{case}: layer {index} is {apart:e} away");
        }
    });
}

#[test]
fn logits_and_loss_equal_the_reference_in_every_batch() {
    golden::each_model(|case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        for prefix in forward.batches() {
            let batch = forward.batch(&prefix);
            let ours = at_tokens(&batch, &logits(&model, &batch));
            let theirs = at_tokens(&batch, &forward.floats(&format!("{prefix}logits")));
            let apart = largest_difference(&ours, &theirs);
            assert!(apart < LOGITS, "{case}: {prefix}logits differ by {apart:e}");
            let sums = Sft::evaluate(model.network().predictor().unwrap(), &batch);
            let (loss, expected) = (sums.mean_loss(), forward.loss(&prefix));
            assert!((loss - expected).abs() < 1e-5 * expected, "{case}: {prefix}loss {loss}, not {expected}");
        }
    });
}

#[test]
fn gradients_of_every_parameter_equal_the_reference() {
    golden::each_model(|case| {
        let forward = Forward::open(case);
        let batch = forward.batch("");
        for recompute in [Recompute::Off, Recompute::Blocks] {
            let model = golden::load(case).train_all();
            let (loss, ours) = loss_and_gradients(&model, &batch, recompute);
            let expected = forward.loss("");
            assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
            assert_gradients(case, ours, forward.gradients());
        }
    });
}

/// Every parameter's gradient, no more and no less.
pub fn assert_gradients(case: &str, mut ours: Vec<(String, Vec<f32>)>, theirs: Vec<(String, Vec<f32>)>) {
    let mut theirs = theirs;
    ours.sort_by(|left, right| left.0.cmp(&right.0));
    theirs.sort_by(|left, right| left.0.cmp(&right.0));
    let names = |all: &[(String, Vec<f32>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{case}");
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let apart = distance(ours, theirs);
        // Adding a number to all scores changes no softmax, so the gradient of a bias of k is zero, and both have noise there.
        let nothing = norm(theirs) < NOTHING && norm(ours) < NOTHING;
        let sizes = (norm(ours), norm(theirs));
        assert!(apart < RELATIVE || nothing, "{case}: gradient of {name} is {apart:e} away, by norm {sizes:?}");
    }
}

#[test]
fn packed_and_padded_rows_equal_rows_alone() {
    golden::each_model(|case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        for prefix in ["", "packed."] {
            let batch = forward.batch(prefix);
            let together = logits(&model, &batch);
            let width = together.len() / batch.segments.len();
            for (row, segment) in segments(&batch) {
                let by_itself = logits(&model, &alone(&batch, row, segment));
                let places = (row * batch.length..(row + 1) * batch.length)
                    .filter(|&index| batch.segments[index] == segment)
                    .flat_map(|index| together[index * width..(index + 1) * width].to_vec());
                let apart = largest_difference(&places.collect::<Vec<_>>(), &by_itself);
                assert!(apart < 1e-5, "{case}: {prefix} row {row} segment {segment} moves by {apart:e}");
            }
        }
    });
}

#[test]
fn saving_what_was_loaded_gives_the_same_bytes() {
    golden::each_model(|case| {
        let model = golden::load(case);
        let folder = tempfile::tempdir().unwrap();
        let source = golden::path(case);
        model.save_weights(folder.path(), None, Some(&Checkpoint::open(&source).unwrap())).unwrap();
        let files = |folder: &std::path::Path| {
            let entries =
                std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = entries.filter(|name| name.starts_with("model")).collect();
            names.sort();
            names
        };
        assert_eq!(files(folder.path()), files(&source), "{case}");
        for name in files(&source) {
            let bytes = |folder: &std::path::Path| std::fs::read(folder.join(&name)).unwrap();
            assert!(bytes(folder.path()) == bytes(&source), "{case}: other bytes in {name}");
        }
        let config = std::fs::read_to_string(source.join("config.json")).unwrap();
        assert_eq!(model.config_json(None), config, "{case}");
    });
}

#[test]
fn greedy_continuations_equal_the_reference_with_and_without_a_cache() {
    golden::each_model(|case| {
        let model = golden::load(case);
        let stop = eos(&golden::json(&format!("{case}/generation_config.json")));
        let expected = golden::json(&format!("{case}/generate.json"));
        let limit = expected["max_new_tokens"].as_u64().unwrap() as usize;
        for answer in expected["answers"].as_array().unwrap() {
            let prompt = ids(&answer["prompt"]);
            let mut continuation = ids(&answer["continuation"]);
            let (mut ours, finish) = without_cache(&model, &prompt, &stop, limit);
            let ended = if answer["stopped"] == "eos" { Finish::Stop } else { Finish::Length };
            assert_eq!(finish, ended, "{case}");
            assert_eq!(ours, continuation, "{case}: without a cache");
            // The end token is part of the reference's text, and not of ours.
            let reference = &answer["continuation_with_reference_cache"];
            if !reference.is_null() {
                continuation = ids(reference);
            }
            let mut sampler = Sampling::Greedy.start();
            (ours, _) = Session::new(model.network().predictor().unwrap()).generate(
                &prompt,
                &stop,
                limit,
                &mut sampler,
                |_| {},
            );
            continuation.retain(|id| !stop.contains(id));
            assert_eq!(ours, continuation, "{case}: with a cache");
        }
    });
}

fn without_cache(model: &Model, prompt: &[u32], stop: &[u32], limit: usize) -> (Vec<u32>, Finish) {
    let mut all = prompt.to_vec();
    while all.len() - prompt.len() < limit {
        let hidden = golden::decoder(model).forward(&Inputs::row(&all, 0), Mode::Inference);
        let logits = host(golden::decoder(model).head().logits(hidden));
        let last = &logits[logits.len() / all.len() * (all.len() - 1)..];
        let token = Sampling::Greedy.start().next(last);
        all.push(token);
        if stop.contains(&token) {
            return (all[prompt.len()..].to_vec(), Finish::Stop);
        }
    }
    (all[prompt.len()..].to_vec(), Finish::Length)
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn eos(generation: &Value) -> Vec<u32> {
    match &generation["eos_token_id"] {
        Value::Array(_) => ids(&generation["eos_token_id"]),
        id => id.as_u64().map(|id| id as u32).into_iter().collect(),
    }
}
