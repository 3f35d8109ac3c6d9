//! Folders in 4 bits: what transformers and bitsandbytes saved is read, trained on and written as they do it.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use firebrand::export::{Comparison, Distributions, Probe, Receipt, merge_into};
use firebrand::plan::{Text, TextFolder};
use firebrand::recipe::WrittenDtype;
use firebrand_adapters::Mode;
use firebrand_datasets::TemplateChoice;
use firebrand_kernels::QuantizationScheme;
use firebrand_models::parts::Inputs;
use firebrand_models::weights::{Checkpoint, CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};
use firebrand_models::{Hold, Model, ModelError, WriteAs, adapter_folder};
use firebrand_tests::golden;
use firebrand_tests::tensors::largest_difference;
use firebrand_tests::training::train;
use serde_json::Value;
use tempfile::TempDir;

use crate::workshop::assert_says;

/// Folder and what it was quantized from.
const CASES: [(&str, &str); 5] = [
    ("model", "llama-gqa-tied"),
    ("gpt2", "gpt2"),
    ("gpt-neox", "gpt-neox"),
    ("opt-350m", "opt-350m"),
    ("mixtral", "mixtral"),
];

fn load(folder: &Path) -> Model {
    Model::load(folder, Hold::F32, &Device::flex()).unwrap()
}

fn quantized(case: &str) -> String {
    format!("quantized/{case}")
}

fn logits(model: &Model, row: &[u32]) -> Vec<f32> {
    golden::host(
        golden::decoder(model).head().logits(golden::decoder(model).forward(&Inputs::row(row, 0), Mode::Inference)),
    )
}

/// Rows of token ids, and what transformers makes of them.
fn reference(case: &str) -> (Vec<Vec<u32>>, Vec<f32>) {
    let file = SafetensorsFile::open(golden::path(&quantized(case)).join("logits.safetensors")).unwrap();
    let ids = file.get("input_ids").unwrap();
    let values: Vec<u32> = ids.bytes().as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect();
    let rows = values.chunks(ids.shape[1]).map(<[u32]>::to_vec).collect();
    (rows, file.get("logits").unwrap().to_f32().unwrap())
}

/// Tokenizer and template of a folder, where it has them.
fn text(folder: &Path) -> Text {
    Text::load(&TextFolder::of_model(folder), &TemplateChoice::Model, None).unwrap()
}

#[test]
fn logits_equal_those_of_transformers() {
    for (case, base) in CASES {
        let (model, base) = (load(&golden::path(&quantized(case))), golden::load(base));
        let (rows, expected) = reference(case);
        let ours: Vec<f32> = rows.iter().flat_map(|row| logits(&model, row)).collect();
        let apart = largest_difference(&ours, &expected);
        // As for models that are not quantized (`forward.rs`): the weights are the same numbers.
        assert!(apart < 5e-5, "{case}: {apart:e}");
        let dequantized: Vec<f32> = rows.iter().flat_map(|row| logits(&base, row)).collect();
        assert!(largest_difference(&ours, &dequantized) > 1e-2, "{case}");
        assert_eq!(model.parameter_counts(), base.parameter_counts(), "{case}");
        let dense = if case == "mixtral" { 2 * (4 * 3 + 1) } else { 0 };
        let maps = model.network().linears().len();
        assert_eq!(model.quantized_weights().len(), maps - dense, "{case}");
    }
}

fn same_weights(left: &Path, right: &Path) -> bool {
    let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    bytes(left) == bytes(right)
}

#[test]
fn saving_what_was_loaded_gives_the_same_bytes() {
    for (case, _) in CASES {
        let (source, folder) = (golden::path(&quantized(case)), tempfile::tempdir().unwrap());
        let model = load(&source);
        model.save_weights(folder.path(), WriteAs::Stored, Some(&Checkpoint::open(&source).unwrap())).unwrap();
        assert!(same_weights(folder.path(), &source), "{case}");
        assert_eq!(model.config_json(WriteAs::Stored), fs::read_to_string(source.join("config.json")).unwrap());
        // And without a layout to repeat.
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), WriteAs::Stored, None).unwrap();
        assert!(same_weights(folder.path(), &source), "{case}");
    }
}

#[test]
fn what_is_quantized_here_is_what_transformers_quantizes() {
    for (case, base) in CASES {
        let (model, theirs) = (golden::load(base), golden::path(&quantized(case)));
        let scheme = load(&theirs).stored_scheme().unwrap().0;
        let folder = tempfile::tempdir().unwrap();
        let saved = model.save_weights(folder.path(), WriteAs::Quantized(scheme), None);
        if case == "mixtral" {
            assert_says!(saved.unwrap_err().to_string(), "the experts", "transformers reads no quantized experts");
            continue;
        }
        saved.unwrap();
        assert!(same_weights(folder.path(), &theirs), "{case}");
        let config = |text: &str| serde_json::from_str::<Value>(text).unwrap()["quantization_config"].clone();
        let expected = fs::read_to_string(theirs.join("config.json")).unwrap();
        assert_eq!(config(&model.config_json(WriteAs::Quantized(scheme))), config(&expected), "{case}");
    }
}

#[test]
fn eight_bits_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let error = golden::load("gpt2")
        .save_weights(folder.path(), WriteAs::Quantized(QuantizationScheme::INT8), None)
        .unwrap_err();
    assert_says!(error.to_string(), "bitsandbytes has no names in files for weights as int8");
}

fn adapted(folder: &Path, hold: Hold) -> Model {
    let mut model = Model::load(folder, hold, &Device::flex()).unwrap();
    adapter_folder::load(&mut model, &golden::path("lora-llama-gqa-tied")).unwrap();
    model
}

#[test]
fn an_adapter_on_a_quantized_folder_is_merged_into_a_dense_one_and_into_a_quantized_one() {
    let base = golden::path(&quantized("model"));
    let (rows, _) = reference("model");
    let probe = Probe::from_rows(rows.iter().cloned());
    let model = adapted(&base, Hold::F32);
    let merge = |name: &str, asked| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(name);
        (merge_into(&model, &base, &out, asked, &probe, &text(&base), false).unwrap(), load(&out), folder)
    };
    // In the precision that was quantized, which is f32 here.
    let (receipt, dense, _folder) = merge("dense", None);
    assert!(dense.quantized_weights().is_empty() && dense.config().map().get("quantization_config").is_none());
    assert!(
        distributions(&receipt).largest_logit_difference < 1e-4 && receipt.quantization_cost.is_none(),
        "{receipt}"
    );
    assert_eq!((receipt.limit, receipt.dtype.as_deref()), (0.05, Some("F32")));

    let (receipt, again, folder) = merge("quantized", Some(WrittenDtype::Nf4.write_as()));
    assert_eq!(again.stored_scheme(), Some((QuantizationScheme::NF4, Dtype::F32)));
    let (cost, kl) = (receipt.quantization_cost.unwrap(), distributions(&receipt).kl);
    assert!(cost > 0.0 && kl > 0.0 && kl < receipt.limit && receipt.limit == 0.05 + 2.0 * cost, "{receipt}");
    assert_says!(
        receipt.to_string(),
        "nf4 in blocks of 64, scales quantized; quantizing the base alone costs",
        "is allowed"
    );
    // What the adapter left alone keeps its codes. Here it is on q_proj and v_proj.
    let (before, after) =
        (Checkpoint::open(&base).unwrap(), Checkpoint::open(folder.path().join("quantized")).unwrap());
    let same = |name: &str| before.get(name).unwrap().bytes() == after.get(name).unwrap().bytes();
    let adapted_maps: Vec<&str> = before.names().filter(|name| !same(name)).collect();
    assert!(!adapted_maps.is_empty() && before.len() == after.len());
    let adapter = SafetensorsFile::open(golden::path("lora-llama-gqa-tied").join("adapter_model.safetensors")).unwrap();
    for name in adapted_maps {
        let module = name.split(".weight").next().unwrap();
        assert!(adapter.names().any(|factor| factor.contains(module)), "{name} changed");
    }
}

fn distributions(receipt: &Receipt) -> &Distributions {
    match &receipt.comparison {
        Comparison::Distributions(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_original_base_is_quantized_when_the_merge_is_written_in_four_bits() {
    let base = golden::path("llama-gqa-tied");
    let probe = Probe::from_rows(reference("model").0.into_iter());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let fp4 = Some(WrittenDtype::Fp4.write_as());
    let receipt = merge_into(&adapted(&base, Hold::F32), &base, &out, fp4, &probe, &text(&base), false).unwrap();
    assert!(distributions(&receipt).kl > 0.0 && receipt.quantization_cost.unwrap() > 0.0, "{receipt}");
    assert_says!(fs::read_to_string(out.join("config.json")).unwrap(), r#""bnb_4bit_quant_type": "fp4""#);
    assert!(load(&out).quantized_weights().len() == 14);
}

#[test]
fn training_on_a_quantized_folder_is_training_on_the_base_quantized_while_it_is_read() {
    let recipe = golden::path("trajectory-qlora-nf4").join("recipe.toml");
    let folder = format!("model={}", golden::path(&quantized("model")).display());
    let quiet = "log.tensorboard=false";
    let text = fs::read_to_string(&recipe).unwrap();
    let section = "[quantization]\nkind = \"nf4\"\nblock = 64\ndouble = true\n";
    assert!(text.contains(section));
    // A recipe without the section, beside what it names.
    let copy = tempfile::tempdir().unwrap();
    let without = copy.path().join("recipe.toml");
    let here = golden::path("trajectory-qlora-nf4");
    let text = text
        .replace(section, "")
        .replace("init_from = \"adapter\"", &format!("init_from = {:?}", here.join("adapter")));
    fs::write(&without, text.replace("path = \"data.jsonl\"", &format!("path = {:?}", here.join("data.jsonl"))))
        .unwrap();

    let expected = train(&recipe, &[quiet]).unwrap();
    for trained in [train(&recipe, &[quiet, &folder]).unwrap(), train(&without, &[quiet, &folder]).unwrap()] {
        assert_eq!(trained.weights, expected.weights);
        assert!(trained.steps.iter().zip(&expected.steps).all(|(left, right)| left.loss == right.loss));
    }
    let refused = |recipe: &Path, change: &str| {
        let error = train(recipe, &[quiet, &folder, change]).err().map(miette::Report::new);
        format!("{error:?}")
    };
    assert_says!(refused(&recipe, "quantization.double=false"), "asked for is nf4 in blocks of 64");
    assert_says!(refused(&without, "base_dtype=bf16"), "are held so");
}

/// A copy of `quantized/model` with other texts in `config.json` and other tensors.
fn changed(from: &str, to: &str, tensors: impl Fn(&str) -> Option<String>) -> (TempDir, ModelError) {
    let (source, folder) = (golden::path(&quantized("model")), tempfile::tempdir().unwrap());
    let config = fs::read_to_string(source.join("config.json")).unwrap();
    assert!(config.contains(from), "{from}");
    fs::write(folder.path().join("config.json"), config.replace(from, to)).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let named: Vec<(String, &str)> = checkpoint.names().filter_map(|name| Some((tensors(name)?, name))).collect();
    let spec = |(name, old): &(String, &str)| {
        let view = checkpoint.get(old).unwrap();
        TensorSpec { name: name.clone(), dtype: view.dtype, shape: view.shape.to_vec() }
    };
    let plan = CheckpointPlan::new(named.iter().map(spec).collect(), &PlanOptions::default()).unwrap();
    let old = |name: &str| named.iter().find(|(new, _)| new == name).unwrap().1;
    plan.write(folder.path(), |spec| Ok(Cow::Owned(checkpoint.get(old(&spec.name)).unwrap().bytes().into_owned())))
        .unwrap();
    let error = Model::load(folder.path(), Hold::F32, &Device::flex()).expect_err("an error");
    (folder, error)
}

#[test]
fn a_folder_that_contradicts_itself_is_refused_by_the_tensor_or_key() {
    const UP: &str = "model.layers.0.mlp.up_proj.weight";
    for (from, to, says) in [
        (r#""nf4""#, r#""fp4""#, "expected fp4 with quantized scales, as `quantization_config` says"),
        (r#"double_quant": true"#, r#"double_quant": false"#, "expected nf4 with scales as they are"),
        (r#""quantization_config""#, r#""another_config""#, "`quantization_config`: expected one that says how"),
        (r#"skip_modules": null"#, r#"skip_modules": ["up_proj"]"#, "expected no quantized tensor"),
        (r#""uint8""#, r#""bfloat16""#, "bnb_4bit_quant_storage"),
        (r#""bitsandbytes""#, r#""awq""#, "found `awq`"),
    ] {
        assert_says!(changed(from, to, |name| Some(name.to_owned())).1.to_string(), says);
    }
    for (part, says) in [
        (".nested_absmax", "missing: `model.layers.0.mlp.up_proj.weight.nested_absmax`"),
        ("", "missing: `model.layers.0.mlp.up_proj.weight`"),
        (".quant_state.bitsandbytes__nf4", "unused: `model.layers.0.mlp.up_proj.weight.absmax`"),
    ] {
        let (_, error) = changed("{", "{", |name| (name != format!("{UP}{part}")).then(|| name.to_owned()));
        assert_says!(error.to_string(), says);
    }
    // The codes of another weight of another shape.
    let swap = |name: &str| {
        Some(match name.strip_prefix(UP) {
            Some(part) => format!("model.layers.0.mlp.down_proj.weight{part}"),
            None => name.replace("layers.0.mlp.down_proj", "layers.0.mlp.up_proj"),
        })
    };
    assert_says!(
        changed("{", "{", swap).1.to_string(),
        "shape: `model.layers.0.mlp.down_proj.weight`: expected [30, 34], found [34, 30]"
    );
}

#[test]
fn a_scheme_is_not_changed_while_it_is_read() {
    let other = QuantizationScheme::FourBit { code: firebrand_kernels::FourBit::Nf4, block: 128, double: true };
    let error = Model::load(&golden::path(&quantized("model")), Hold::Quantized(other), &Device::flex()).unwrap_err();
    assert_says!(
        error.to_string(),
        "quantized as nf4 in blocks of 64, scales quantized, asked for is nf4 in blocks of 128"
    );
    let error = Model::random(&golden::path(&quantized("model")), 1, &Device::flex()).unwrap_err();
    assert_says!(error.to_string(), "fresh values are not quantized");
}

#[test]
fn shards_may_end_within_a_weight() {
    let (source, folder) = (golden::path(&quantized("model")), tempfile::tempdir().unwrap());
    fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let spec = |name: &str| {
        let view = checkpoint.get(name).unwrap();
        TensorSpec { name: name.into(), dtype: view.dtype, shape: view.shape.to_vec() }
    };
    let options = PlanOptions { max_shard_bytes: 3_000, ..PlanOptions::default() };
    let plan = CheckpointPlan::new(checkpoint.names().map(spec).collect(), &options).unwrap();
    plan.write(folder.path(), |spec| Ok(checkpoint.get(&spec.name).unwrap().bytes())).unwrap();
    let sharded = Checkpoint::open(folder.path()).unwrap();
    assert!(sharded.files().len() > 5);
    let (model, row) = (load(folder.path()), &reference("model").0[0]);
    assert_eq!(logits(&model, row), logits(&load(&source), row));
    let again = tempfile::tempdir().unwrap();
    model.save_weights(again.path(), WriteAs::Stored, Some(&sharded)).unwrap();
    for file in sharded.files() {
        let name = file.path().file_name().unwrap();
        assert!(fs::read(file.path()).unwrap() == fs::read(again.path().join(name)).unwrap(), "{name:?}");
    }
}
