//! The same model in other files: shards, and narrower numbers.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use firebrand_models::weights::{Checkpoint, CheckpointPlan, Dtype, PlanOptions, TensorSpec};
use firebrand_models::{Hold, Model};
use firebrand_tests::golden::{self, Forward, logits};
use firebrand_tests::tensors::{distance, distance_of_sets, read};
use firebrand_tests::tiny::GOLDEN;
use firebrand_tests::training::train;
use serde_json::Value;
use tempfile::TempDir;

use crate::workshop::Workshop;

/// The golden's weights in another dtype, in shards of at most `largest` bytes.
fn written(dtype: Dtype, largest: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    rewrite(folder.path(), dtype, largest);
    fs::copy(golden::path(GOLDEN).join("config.json"), folder.path().join("config.json")).unwrap();
    folder
}

fn rewrite(folder: &Path, dtype: Dtype, largest: u64) {
    let weights = read(&golden::path(GOLDEN).join("model.safetensors"));
    let spec = |(name, tensor): (&String, &firebrand_tests::tensors::Values)| TensorSpec {
        name: name.clone(),
        dtype,
        shape: tensor.shape.clone(),
    };
    let options = PlanOptions { max_shard_bytes: largest, ..PlanOptions::default() };
    let plan = CheckpointPlan::new(weights.iter().map(spec).collect(), &options).unwrap();
    plan.write(folder, |spec| Ok(Cow::Owned(spec.dtype.encode(&weights[&spec.name].values).unwrap()))).unwrap();
}

fn load(folder: &Path, hold: Hold) -> Model {
    Model::load(folder, hold, &Device::flex()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("safetensors"));
    names.sort();
    names
}

#[test]
fn a_model_in_shards_is_the_same_model_and_is_written_as_it_was() {
    let folder = written(Dtype::F32, 20_000);
    let shards = names(folder.path());
    assert!(shards.len() > 3 && shards.contains(&"model.safetensors.index.json".to_string()), "{shards:?}");
    let (model, batch) = (load(folder.path(), Hold::F32), Forward::open(GOLDEN).batch(""));
    assert_eq!(logits(&model, &batch), logits(&golden::load(GOLDEN), &batch));
    let again = tempfile::tempdir().unwrap();
    model.save_weights(again.path(), None, Some(&Checkpoint::open(folder.path()).unwrap())).unwrap();
    assert_eq!(names(again.path()), shards);
    for name in shards {
        assert!(fs::read(again.path().join(&name)).unwrap() == fs::read(folder.path().join(&name)).unwrap(), "{name}");
    }
    // A shard that is missing, and an index that leads out of the folder.
    let shard = names(folder.path()).remove(0);
    fs::rename(folder.path().join(&shard), folder.path().join("elsewhere")).unwrap();
    let message = |folder: &Path| {
        Model::load(folder, Hold::F32, &Device::flex()).map(drop).expect_err("this must fail").to_string()
    };
    assert!(message(folder.path()).contains(&shard));
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap().replace(&shard, "../elsewhere");
    fs::write(&index, text).unwrap();
    assert!(message(folder.path()).contains("../elsewhere"));
}

#[test]
fn narrow_weights_keep_their_dtype_and_their_bytes() {
    for (dtype, hold) in [(Dtype::BF16, Hold::Bf16), (Dtype::F16, Hold::F16)] {
        let folder = written(dtype, u64::MAX);
        let batch = Forward::open(GOLDEN).batch("");
        let (wide, narrow) = (load(folder.path(), Hold::F32), load(folder.path(), hold));
        // The same values in less memory; products are f32 either way.
        let apart = distance(&logits(&narrow, &batch), &logits(&wide, &batch));
        assert!(apart < 1e-6, "{dtype:?} in memory is {apart:e} away");
        let apart = distance(&logits(&wide, &batch), &logits(&golden::load(GOLDEN), &batch));
        assert!((1e-5..0.05).contains(&apart), "{dtype:?} on disk is {apart:e} away");
        for model in [wide, narrow] {
            let again = tempfile::tempdir().unwrap();
            model.save_weights(again.path(), None, Some(&Checkpoint::open(folder.path()).unwrap())).unwrap();
            let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
            assert!(bytes(again.path()) == bytes(folder.path()), "{dtype:?} changes on the way");
        }
    }
}

#[test]
fn a_base_held_in_bf16_trains_the_same_adapter() {
    let workshop = Workshop::new();
    rewrite(&workshop.path("model"), Dtype::BF16, u64::MAX);
    let recipe = workshop.path("recipe.toml");
    let wide = train(&recipe, &["train.steps=6"]).unwrap();
    let narrow = train(&recipe, &["train.steps=6", "base_dtype=bf16"]).unwrap();
    let apart = distance_of_sets(&narrow.weights, &wide.weights);
    assert!(apart < 1e-4, "the file is bf16, so nothing is lost: {apart:e}");
    // What is merged without a dtype has the base's, with its config.
    workshop.succeed(&["train", "recipe.toml"]);
    workshop.succeed(&["merge", "--model", "model", "--adapter", "run/adapter", "--out", "merged"]);
    let dtypes = |name: &str| -> Vec<String> {
        let report = workshop.succeed(&["inspect", name, "--json"]).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        report["dtypes"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(dtypes("merged"), ["BF16"]);
    assert_eq!(dtypes("run/adapter"), ["F32"]);
}
