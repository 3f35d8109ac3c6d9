//! Two towers against transformers and PEFT (`tests/goldens/towers/`): states, embeddings, loss, gradients, adapters, whole runs.

use std::fs;
use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebrand::objective::{Embeddings, Objective, Pairs, Recompute};
use firebrand::recipe::{Method, ObjectiveRecipe};
use firebrand::training::Outcome;
use firebrand_adapters::Mode;
use firebrand_adapters::peft::PeftConfig;
use firebrand_datasets::{Array, ArrayValues, Batch, BatchContent, NamedArrays};
use firebrand_models::towers::Towers;
use firebrand_models::weights::{Checkpoint, SafetensorsFile};
use firebrand_models::{Kind, Model, adapter_folder};
use firebrand_tests::golden;
use firebrand_tests::tensors::{self, Tensors, distance, distance_of_sets, largest_difference};
use firebrand_tests::training::{Trained, train};
use serde_json::Value;

use super::gradients::{self, assert_gradients};

/// States are a few units large; f32 rounding moves them by 2e-6.
const STATES: f32 = 2e-5;
/// Embeddings are of length one.
const EMBEDS: f32 = 2e-6;

fn cases(prefix: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(golden::path("towers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .map(|name| format!("towers/{name}"))
        .collect();
    found.sort();
    assert!(found.len() >= 2, "{prefix}: {found:?}");
    found
}

fn towers(model: &Model) -> &Towers {
    model.network().towers().unwrap()
}

/// `forward.safetensors` of a case.
struct Forward(SafetensorsFile);

impl Forward {
    fn open(case: &str) -> Self {
        Self(SafetensorsFile::open(golden::path(case).join("forward.safetensors")).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().to_f32().unwrap()
    }

    /// Row `row` of an array.
    fn row(&self, name: &str, row: usize) -> Array {
        let view = self.0.get(name).unwrap();
        let shape = view.shape[1..].to_vec();
        let count: usize = shape.iter().product();
        let values = match name.ends_with("pixel_values") {
            true => ArrayValues::F32(view.to_f32().unwrap()[row * count..][..count].to_vec()),
            false => {
                let numbers = view.bytes();
                let numbers: Vec<i64> =
                    numbers.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect();
                ArrayValues::I64(numbers[row * count..][..count].to_vec())
            }
        };
        Array { shape, values }
    }

    /// All rows, as a trainer lays them out; `mask` is the name of their masks.
    fn rows(&self, mask: &str) -> Vec<NamedArrays> {
        let count = self.0.get("input_ids").unwrap().shape[0];
        let row = |row| {
            NamedArrays::from([
                ("pixel_values".into(), self.row("pixel_values", row)),
                ("input_ids".into(), self.row("input_ids", row)),
                ("attention_mask".into(), self.row(mask, row)),
            ])
        };
        (0..count).map(row).collect()
    }
}

fn batch(rows: &[NamedArrays]) -> Batch {
    Batch { examples: vec![], parts: vec![], content: BatchContent::Tensors(rows.to_vec()) }
}

fn pairs(model: &Model, rows: &[NamedArrays]) -> Pairs {
    Pairs::of(&batch(rows), towers(model).config()).unwrap()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    golden::host(tensor)
}

#[test]
fn every_layer_of_both_towers_equals_the_reference() {
    golden::each(&cases("clip-"), |case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        assert_eq!(model.kind(), Kind::Towers);
        let pairs = pairs(&model, &forward.rows("attention_mask"));
        let towers = towers(&model);
        let pixels = TensorData::new(
            pairs.images.pixels.clone(),
            [pairs.len(), pairs.images.shape[0], pairs.images.shape[1], pairs.images.shape[2]],
        );
        let pixels = Tensor::from_data(pixels, &Device::flex());
        let context = towers.vision().context(Mode::Inference);
        let mut x = towers.vision().embed(pixels);
        for (index, block) in towers.vision().layers().iter().enumerate() {
            x = block.forward(x, &context, None);
            let apart = largest_difference(&host(x.clone()), &forward.floats(&format!("vision.hidden.{index}")));
            assert!(apart < STATES, "{case}: layer {index} of images differs by {apart:e}");
        }
        let inputs = &pairs.texts;
        let context = towers.text().context(inputs, Mode::Inference);
        let mut x = towers.text().embed(inputs, Mode::Inference);
        for (index, block) in towers.text().layers().iter().enumerate() {
            x = block.forward(x, &context, None);
            let apart = largest_difference(&host(x.clone()), &forward.floats(&format!("text.hidden.{index}")));
            assert!(apart < STATES, "{case}: layer {index} of texts differs by {apart:e}");
        }
    });
}

fn assert_embeddings(case: &str, model: &Model, forward: &Forward) {
    let rows = forward.rows("attention_mask");
    let all = |rows: &[NamedArrays]| Embeddings::of(towers(model), &pairs(model, rows), Mode::Inference).normalised();
    let near = |what: &str, ours: &[Vec<f32>], theirs: &str| {
        let apart = largest_difference(&ours.concat(), &forward.floats(theirs));
        assert!(apart < EMBEDS, "{case}: {what} differ by {apart:e}");
    };
    let [images, texts] = all(&rows);
    near("images", &images, "image_embeds");
    near("texts", &texts, "text_embeds");
    // One by one, and without what is masked at the end of a text: the same.
    let alone: Vec<[Vec<Vec<f32>>; 2]> = rows.iter().map(|row| all(std::slice::from_ref(&unpadded(row)))).collect();
    let part = |index: usize| alone.iter().flat_map(|pair| pair[index].clone()).collect::<Vec<_>>();
    near("images alone", &part(0), "image_embeds");
    near("texts alone", &part(1), "text_embeds");
    // Texts of several lengths, with and without a mask, in one batch: padded to the longest, and the same.
    let mixed: Vec<NamedArrays> =
        rows.iter().enumerate().map(|(row, it)| if row % 2 == 0 { unpadded(it) } else { it.clone() }).collect();
    let [_, mixed] = all(&mixed);
    near("texts of several lengths", &mixed, "text_embeds");
    let [_, short] = all(&rows.iter().map(unpadded).collect::<Vec<_>>());
    near("texts of several lengths without masks", &short, "text_embeds");
    // A mask with holes moves what stands behind them.
    let [_, holes] = all(&forward.rows("holes.attention_mask"));
    near("texts with holes", &holes, "holes.text_embeds");
    assert!(largest_difference(&holes.concat(), &texts.concat()) > 1e-3, "{case}: the mask is not looked at");
}

/// The row without the tokens that are masked at its end, and without a mask.
fn unpadded(row: &NamedArrays) -> NamedArrays {
    let (ArrayValues::I64(ids), ArrayValues::I64(mask)) = (&row["input_ids"].values, &row["attention_mask"].values)
    else {
        panic!("whole numbers")
    };
    let length = mask.iter().rposition(|value| *value == 1).unwrap() + 1;
    let ids = Array { shape: vec![length], values: ArrayValues::I64(ids[..length].to_vec()) };
    NamedArrays::from([("pixel_values".into(), row["pixel_values"].clone()), ("input_ids".into(), ids)])
}

#[test]
fn embeddings_equal_the_reference() {
    golden::each(&cases("clip-"), |case| assert_embeddings(case, &golden::load(case), &Forward::open(case)));
}

/// Loss and gradients of a step split into micro-batches, by our paths.
fn step(model: &Model, rows: &[NamedArrays], size: usize, recompute: Recompute) -> (f64, Vec<(String, Vec<f32>)>) {
    let objective = Objective::new(&ObjectiveRecipe::of_kind(Kind::Towers, &Method::Full), recompute, None).unwrap();
    gradients::step(model, &objective, rows, size, batch)
}

/// A loss is a difference of logits, each of which is rounded to a part in 2^24 of itself; the largest is the temperature.
fn rounding_of_loss(loss: f64, model: &Model) -> f64 {
    let temperature = f64::from(host(towers(&model.for_inference()).temperature())[0]).exp();
    1e-5 * loss.abs() + temperature * 2_f64.powi(-23)
}

#[test]
fn loss_and_every_gradient_equal_the_reference_however_a_step_is_split() {
    golden::each(&cases("clip-"), |case| {
        let (model, forward) = (golden::load(case).train_all(), Forward::open(case));
        let rows = forward.rows("attention_mask");
        let expected = f64::from(forward.floats("loss")[0]);
        for (size, recompute) in
            [(5, Recompute::Off), (5, Recompute::Blocks), (2, Recompute::Off), (1, Recompute::Blocks)]
        {
            let (loss, gradients) = step(&model, &rows, size, recompute);
            let near = rounding_of_loss(expected, &model);
            assert!((loss - expected).abs() < near, "{case}: loss {loss}, not {expected}");
            let name = |path: &str| model.rules().to_theirs(path).unwrap();
            assert_gradients(case, name, gradients, &forward.0);
        }
    });
}

fn adapted(case: &str) -> (Model, PeftConfig) {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    let base = config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string();
    let mut model = golden::load(&format!("towers/{base}"));
    let config = adapter_folder::load(&mut model, &golden::path(case)).unwrap();
    (model, config)
}

#[test]
fn adapters_equal_pefts() {
    golden::each(&cases("lora-"), |case| {
        let ((model, config), forward) = (adapted(case), Forward::open(case));
        assert_embeddings(case, &model, &forward);
        let folder = tempfile::tempdir().unwrap();
        adapter_folder::save(&model, &config.method, config.base_model.as_deref().unwrap(), folder.path()).unwrap();
        let file = |folder: PathBuf| fs::read(folder.join("adapter_model.safetensors")).unwrap();
        assert!(file(folder.path().into()) == file(golden::path(case)), "{case}: written again, it is another file");
        let written = adapter_folder::read_config(folder.path()).unwrap();
        assert_eq!(written.method, config.method, "{case}");
        for key in ["task_type", "auto_mapping", "base_model_name_or_path", "peft_type", "bias"] {
            assert_eq!(written.raw.get(key), config.raw.get(key), "{case}: {key}");
        }
        let names: Vec<String> =
            forward.0.names().filter_map(|name| name.strip_prefix("grad.")).map(String::from).collect();
        let model = model.train_active();
        let paths = model.trained_parameters();
        let theirs = tensors::read(&folder.path().join("adapter_model.safetensors"));
        for recompute in [Recompute::Off, Recompute::Blocks] {
            let (loss, gradients) = step(&model, &forward.rows("attention_mask"), 2, recompute);
            let expected = f64::from(forward.floats("loss")[0]);
            assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
            assert_eq!((gradients.len(), paths.len()), (names.len(), theirs.len()), "{case}");
            // By the module's name in files and the factor.
            let name = |path: &str| {
                let (module, factor) = path.split_once(".adapter.").unwrap();
                let weight = model.rules().to_theirs(&format!("{module}.weight")).unwrap();
                let factor = if factor == "a" { "lora_A" } else { "lora_B" };
                format!("base_model.model.{}.{factor}.weight", weight.strip_suffix(".weight").unwrap())
            };
            assert_gradients(case, name, gradients, &forward.0);
        }
    });
}

#[test]
fn merged_towers_equal_merge_and_unload() {
    golden::each(&cases("lora-"), |case| {
        let (mut model, config) = adapted(case);
        model.merge();
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None, None).unwrap();
        let base = config.base_model.unwrap().trim_start_matches("../").to_string();
        let base = Checkpoint::open(golden::path(&format!("towers/{base}"))).unwrap();
        let merged = tensors::read(&golden::path(case).join("merged.safetensors"));
        let ours = Checkpoint::open(folder.path()).unwrap();
        for view in ours.tensors() {
            let values = view.to_f32().unwrap();
            let expected = merged.get(view.name).cloned().unwrap_or_else(|| {
                let view = base.find(view.name).unwrap();
                tensors::Values { shape: view.shape.to_vec(), values: view.to_f32().unwrap() }
            });
            let apart = distance(&values, &expected.values);
            assert!(apart < 1e-6 && *view.shape == expected.shape, "{case}: {} is {apart:e} away", view.name);
        }
        assert!(merged.keys().all(|name| ours.find(name).is_some()), "{case}");
    });
}

#[test]
fn a_folder_of_towers_saved_again_is_the_same_bytes() {
    for case in cases("clip-") {
        let folder = tempfile::tempdir().unwrap();
        golden::load(&case).save_weights(folder.path(), None, None).unwrap();
        let written = tensors::read_folder(folder.path());
        let file = |folder: PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
        // The old folder has `position_ids`, which nobody reads and nobody writes.
        if case.ends_with("clip-gelu-eos") {
            assert!(written.values().zip(written.keys()).all(|(_, name)| !name.ends_with("position_ids")));
        } else {
            assert!(file(folder.path().into()) == file(golden::path(&case)), "{case}");
        }
    }
}

fn run(case: &str, overrides: &[&str]) -> Trained {
    let overrides: Vec<&str> = overrides.iter().copied().chain(["log.tensorboard=false"]).collect();
    train(&golden::path(case).join("recipe.toml"), &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn near(what: &str, ours: f64, theirs: &Value, relative: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= relative * theirs.abs(), "{what}: {ours} instead of {theirs}");
}

/// Without the key biases, whose gradient is rounding alone: Adam makes steps of it, and outputs do not see them.
fn comparable(weights: &Tensors) -> Tensors {
    weights
        .iter()
        .filter(|(name, _)| !name.ends_with("k_proj.bias"))
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect()
}

/// Embeddings of all rows of a trajectory.
fn outputs(case: &str, model: &Model) -> [Vec<f32>; 2] {
    let rows = golden::path(case).join("rows");
    let mut files: Vec<PathBuf> = fs::read_dir(&rows).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let model = model.for_inference();
    let mut all = Embeddings::default();
    for path in files {
        let file = SafetensorsFile::open(&path).unwrap();
        let row = file.tensors().map(|view| {
            let values = match view.name {
                "pixel_values" => ArrayValues::F32(view.to_f32().unwrap()),
                _ => {
                    ArrayValues::I64(view.bytes().as_chunks::<8>().0.iter().map(|it| i64::from_le_bytes(*it)).collect())
                }
            };
            (view.name.to_string(), Array { shape: view.shape.to_vec(), values })
        });
        all.extend(Embeddings::of(towers(&model), &pairs(&model, &[row.collect()]), Mode::Inference));
    }
    all.normalised().map(|embeddings| embeddings.concat())
}

#[test]
fn every_step_and_the_end_equal_the_reference() {
    golden::each(&cases("trajectory-clip-"), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &[]);
        assert_eq!(trained.outcome, Outcome::Finished);
        let steps = expected["steps"].as_array().unwrap();
        assert_eq!(trained.steps.len(), steps.len(), "{case}");
        for (ours, theirs) in trained.steps.iter().zip(steps) {
            let what = |name: &str| format!("{case}: step {}: {name}", ours.step);
            let (loss, rounding) = (theirs["loss"].as_f64().unwrap(), rounding_of_loss(ours.loss, &trained.model));
            assert!((ours.loss - loss).abs() < rounding, "{}: {} instead of {loss}", what("loss"), ours.loss);
            near(&what("gradient norm"), ours.grad_norm, &theirs["grad_norm"], 5e-5);
            assert_eq!(ours.tokens, theirs["rows"].as_u64().unwrap(), "{}", what("rows"));
            let rate = theirs["learning_rate"].as_f64().unwrap();
            assert!((ours.learning_rate - rate).abs() < 1e-15, "{}: {}", what("rate"), ours.learning_rate);
        }
        let rounding = |key: &str| expected["rounding"][key].as_f64().unwrap();
        let end = tensors::read(&golden::path(case).join("final.safetensors"));
        let apart = distance_of_sets(&comparable(&trained.weights), &comparable(&end));
        let way = rounding("way_travelled");
        assert!(apart < 1e-4 && apart < way / 500.0, "{case}: ends {apart:e} away after a way of {way:e}");
        let theirs = tensors::read(&golden::path(case).join("outputs.safetensors"));
        for (ours, name) in outputs(case, &trained.model).iter().zip(["image_embeds", "text_embeds"]) {
            let apart = largest_difference(ours, &theirs[name].values);
            let moved = rounding("outputs_moved_by") as f32;
            assert!(apart < 2e-5 && apart < moved / 500.0, "{case}: {name} end {apart:e} away after {moved:e}");
        }
    });
}

#[test]
fn a_trained_temperature_stays_within_its_bounds_and_a_frozen_one_stays() {
    let temperature = |trained: &Trained| host(towers(&trained.model.for_inference()).temperature())[0];
    assert_eq!(temperature(&run("towers/trajectory-clip-clamped", &[])), 100_f32.ln());
    let start = host(towers(&golden::load("towers/clip-clamped")).temperature())[0];
    let frozen = run("towers/trajectory-clip-clamped", &["objective.learn_temperature=false"]);
    assert_eq!(temperature(&frozen), start, "a temperature that is not trained is not put into bounds either");
    let towers = golden::load("towers/clip-clamped").train_all();
    let firebrand_models::Network::Towers(towers) = towers.network().clone() else { panic!("towers") };
    let low = towers.with_temperature(|temperature| (temperature - 10.0).clamp(0.0, 4.0));
    assert_eq!(host(low.valid().temperature()), [0.0]);
}

#[test]
fn no_split_into_micro_batches_and_no_recomputation_changes_a_run() {
    for case in cases("trajectory-clip-") {
        let whole = run(&case, &["train.micro_batch_size=4"]);
        for overrides in [
            ["train.micro_batch_size=1", "train.recompute=off"],
            ["train.micro_batch_size=2", "train.recompute=blocks"],
        ] {
            let other = run(&case, &overrides);
            for (left, right) in whole.steps.iter().zip(&other.steps) {
                let near = rounding_of_loss(left.loss, &whole.model);
                assert!((left.loss - right.loss).abs() < near, "{case}: {overrides:?}: step {}", left.step);
            }
            let apart = distance_of_sets(&comparable(&other.weights), &comparable(&whole.weights));
            assert!(apart < 1e-5, "{case}: {overrides:?} end {apart:e} away");
        }
    }
}
