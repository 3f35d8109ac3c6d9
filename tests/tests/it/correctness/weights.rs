//! Row 39: weights that a dtype cannot hold.

use burn::tensor::Device;
use firebrand_models::{Hold, Model};
use firebrand_tests::tensors;

use crate::workshop::{Workshop, assert_says};

const TENSOR: &str = "model.layers.0.mlp.down_proj.weight";

/// A workshop whose model has `value` at place 1 of [`TENSOR`].
fn workshop_with(value: f32) -> Workshop {
    let workshop = Workshop::new();
    set(&workshop, value);
    workshop
}

fn set(workshop: &Workshop, value: f32) {
    let folder = workshop.path("model");
    let mut weights = tensors::read(&folder.join("model.safetensors"));
    weights.get_mut(TENSOR).unwrap().values[1] = value;
    tensors::write(&folder, "model", &weights);
}

/// Row 39.
#[test]
fn a_weight_that_f16_cannot_hold_is_refused_by_name_where_it_is_read_and_where_it_is_written() {
    let workshop = workshop_with(1e5);
    let names = |said: &str| assert_says!(said, TENSOR, "element 1 is ", "f16", "65504", "take bf16");
    let said = workshop.fail(&["train", "recipe.toml", "--set", "base_dtype=f16"]);
    names(&said);
    assert_says!(said, "base_dtype", "element 1 is 100000");
    let said = workshop.fail(&["check", "recipe.toml", "--set", "export.merge=true", "--set", "export.dtype=f16"]);
    names(&said);
    assert_says!(said, "export.dtype");
    workshop.succeed(&["train", "recipe.toml", "--set", "base_dtype=bf16"]);
    let merge = ["merge", "--model", "model", "--adapter", "run/adapter", "--out", "merged", "--dtype"];
    names(&workshop.fail(&[&merge[..], &["f16"]].concat()));
    assert!(!workshop.path("merged").exists(), "nothing is written");
    workshop.succeed(&[&merge[..], &["f32"]].concat());
    // Just below the end of f16, everything may be f16.
    set(&workshop, 65_519.0);
    workshop.succeed(&["check", "recipe.toml", "--set", "base_dtype=f16"]);
}

/// Row 39: bf16 ends a little below f32.
#[test]
fn a_weight_that_bf16_cannot_hold_is_refused_by_name() {
    let workshop = workshop_with(f32::MAX);
    let load = |hold| Model::load(&workshop.path("model"), hold, &Device::flex()).map(drop);
    let said = load(Hold::Bf16).unwrap_err().to_string();
    assert_says!(said, TENSOR, "element 1", "bf16 cannot hold");
    load(Hold::F32).unwrap();
}

/// Row 39: a damaged file is not a matter of the learning rate.
#[test]
fn a_weight_that_is_no_number_in_the_file_is_named_when_it_is_read() {
    for (value, found) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let workshop = workshop_with(value);
        let said = workshop.fail(&["train", "recipe.toml"]);
        assert_says!(&said, TENSOR, "element 1 is", found, "the file itself holds this value");
        assert!(!said.contains("learning_rate"), "{said}");
    }
}
