//! Diffusion pipelines against diffusers and PEFT (`tests/goldens/diffusion/`): blocks, answers, loss, gradients, schedules.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebrand::objective::{Gradients, denoising_error};
use firebrand::training::Outcome;
use firebrand_adapters::Mode;
use firebrand_adapters::peft::PeftConfig;
use firebrand_datasets::{Array, ArrayValues, NamedArrays};
use firebrand_models::diffusion::{AddedInputs, Asked, Diffusion, UNetInputs, sample};
use firebrand_models::families::sampler_of;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::weights::{Checkpoint, LoraFormat, SafetensorsFile};
use firebrand_models::{Conditioner, Kind, Model, adapter_folder, adapter_of_pipeline};
use firebrand_tests::golden;
use firebrand_tests::tensors::{self, distance, distance_of_sets, largest_difference};
use firebrand_tests::training::{Trained, train};
use serde_json::Value;

/// Outputs of blocks are a few units large, and the paths through them long.
const STATES: f32 = 5e-5;
/// By the norm of a gradient tensor.
const RELATIVE: f64 = 2e-5;

pub fn cases(prefix: &str) -> Vec<String> {
    let mut found = golden::folders_in("diffusion/", prefix);
    found.retain(|name| !prefix.is_empty() || !name.starts_with("lora-") && !name.starts_with("trajectory-"));
    assert!(!found.is_empty(), "{prefix}");
    found.into_iter().map(|name| format!("diffusion/{name}")).collect()
}

fn denoiser(model: &Model) -> &Diffusion {
    model.network().denoiser().unwrap()
}

/// `forward.safetensors` of a case.
pub struct Forward(SafetensorsFile);

impl Forward {
    pub fn open(case: &str) -> Self {
        Self(SafetensorsFile::open(golden::path(case).join("forward.safetensors")).unwrap())
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().to_f32().unwrap()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.0.get(name).unwrap().shape.to_vec()
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.floats(name), self.shape(name)), device)
    }

    /// The arguments of a batch.
    fn inputs(&self, prefix: &str, device: &Device) -> UNetInputs {
        let name = |name: &str| format!("{prefix}{name}");
        let words = self.0.get(&name("timestep")).unwrap().bytes();
        let times = words.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word) as f32).collect();
        let added = self.0.get(&name("text_embeds")).ok().map(|_| AddedInputs {
            pooled: self.tensor(&name("text_embeds"), device),
            numbers: self.floats(&name("time_ids")),
        });
        let text = self.tensor(&name("encoder_hidden_states"), device);
        UNetInputs { sample: self.tensor(&name("sample"), device), times, text, added }
    }
}

#[test]
fn every_block_and_the_answer_equal_the_reference() {
    golden::each(&cases(""), |case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        assert_eq!(model.kind(), Kind::Diffusion);
        let device = model.device();
        let inputs = forward.inputs("", &device);
        let mut blocks = 0;
        let answer = denoiser(&model).unet().forward_with(&inputs, Mode::Inference, &mut |name, x| {
            blocks += 1;
            let apart = largest_difference(&golden::host(x.clone()), &forward.floats(name));
            assert!(apart < STATES, "{case}: block {name} differs by {apart:e}");
        });
        assert_eq!(blocks, 2 * denoiser(&model).config().unet.down.len() + 1, "{case}");
        let apart = largest_difference(&golden::host(answer), &forward.floats("answer"));
        assert!(apart < STATES, "{case}: the answer differs by {apart:e}");
        let inputs = forward.inputs("odd.", &device);
        let answer = denoiser(&model).unet().forward(&inputs, Mode::Inference);
        let apart = largest_difference(&golden::host(answer), &forward.floats("odd.answer"));
        assert!(apart < STATES, "{case}: the answer of an odd size differs by {apart:e}");
    });
}

/// The mean squared error against the file's target, and its gradients by our paths.
pub fn loss_and_gradients(model: &Model, forward: &Forward) -> (f64, Vec<(String, Vec<f32>)>) {
    let inputs = forward.inputs("", &model.device());
    let answer = denoiser(model).unet().forward(&inputs, Mode::Training { key: 0, first_row: 0 });
    let apart = answer - forward.tensor("target", &model.device());
    let loss = (apart.clone() * apart).mean();
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let mut gradients = Gradients::default();
    gradients.collect(model.network(), "", &mut loss.backward());
    (value, gradients.iter().map(|(path, gradient)| (path.to_string(), golden::host(gradient.clone()))).collect())
}

pub fn assert_gradients(case: &str, name: impl Fn(&str) -> String, ours: Vec<(String, Vec<f32>)>, forward: &Forward) {
    let theirs = forward.0.names().filter_map(|name| name.strip_prefix("grad."));
    let mut theirs: Vec<String> = theirs.map(String::from).collect();
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let whole = norm(&theirs.iter().flat_map(|name| forward.floats(&format!("grad.{name}"))).collect::<Vec<_>>());
    for (path, gradient) in ours {
        let name = name(&path);
        let place = theirs.iter().position(|other| *other == name);
        theirs.remove(place.unwrap_or_else(|| panic!("{case}: the reference has no gradient of {name}")));
        let expected = forward.floats(&format!("grad.{name}"));
        // A gradient that is a small part of the whole has the rounding of the rest.
        let apart = distance(&gradient, &expected);
        let small = norm(&expected) < 1e-3 * whole && apart * norm(&expected) < 1e-6 * whole;
        assert!(apart < RELATIVE || small, "{case}: the gradient of {name} is {apart:e} away");
    }
    assert!(theirs.is_empty(), "{case}: no gradient of {theirs:?}");
}

#[test]
fn loss_and_every_gradient_equal_the_reference() {
    golden::each(&cases(""), |case| {
        let (model, forward) = (golden::load(case).train_all(), Forward::open(case));
        let (loss, gradients) = loss_and_gradients(&model, &forward);
        let expected = f64::from(forward.floats("loss")[0]);
        assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
        assert_gradients(case, |path| model.rules().to_theirs(path).unwrap(), gradients, &forward);
    });
}

#[test]
fn what_is_left_of_a_picture_at_each_time_is_what_the_reference_says() {
    golden::each(&cases(""), |case| {
        let model = Model::outline(&golden::path(case)).unwrap();
        let schedule = denoiser(&model).config().schedule.clone().unwrap();
        let file = SafetensorsFile::open(golden::path(case).join("schedule.safetensors")).unwrap();
        let expected = file.get("alphas_cumprod").unwrap().to_f32().unwrap();
        let apart = largest_difference(schedule.kept(), &expected);
        assert!(apart < 2e-7, "{case}: {apart:e}");
    });
}

#[test]
fn a_network_saved_again_is_the_same_bytes() {
    for case in cases("") {
        let folder = tempfile::tempdir().unwrap();
        let base = Checkpoint::open(golden::path(&case)).unwrap();
        golden::load(&case).save_weights(folder.path(), None, Some(&base)).unwrap();
        let file = "diffusion_pytorch_model.safetensors";
        let theirs = fs::read(golden::path(&case).join("unet").join(file)).unwrap();
        assert!(fs::read(folder.path().join(file)).unwrap() == theirs, "{case}");
    }
}

#[test]
fn frozen_parameters_have_no_gradient() {
    let model = golden::load("diffusion/sd1").train_all_but(&[]).with_network(|network| network.no_grad());
    assert!(model.trained_parameters().is_empty());
}

fn adapted(case: &str) -> (Model, PeftConfig) {
    let base = golden::json(&format!("{case}/base.json"))["base"].as_str().unwrap().to_string();
    let mut model = golden::load(&format!("diffusion/{base}"));
    let config = adapter_folder::load(&mut model, &golden::path(case).join("adapter")).unwrap();
    (model, config)
}

fn answer(model: &Model, forward: &Forward, prefix: &str) -> Vec<f32> {
    let inputs = forward.inputs(prefix, &model.device());
    golden::host(denoiser(model).unet().forward(&inputs, Mode::Inference))
}

#[test]
fn lora_files_of_pipelines_equal_diffusers() {
    golden::each(&cases("lora-"), |case| {
        let ((model, config), forward) = (adapted(case), Forward::open(case));
        for prefix in ["", "odd."] {
            let apart =
                largest_difference(&answer(&model, &forward, prefix), &forward.floats(&format!("{prefix}answer")));
            assert!(apart < STATES, "{case}: the answer differs by {apart:e}");
        }
        // Written again in either format, it is read as the same adapter.
        for format in [LoraFormat::Diffusers, LoraFormat::Kohya] {
            let folder = tempfile::tempdir().unwrap();
            adapter_of_pipeline::save(&model, &config.method, "base", folder.path(), format).unwrap();
            let base = golden::json(&format!("{case}/base.json"))["base"].as_str().unwrap().to_string();
            let mut again = golden::load(&format!("diffusion/{base}"));
            adapter_folder::load(&mut again, folder.path()).unwrap();
            assert_eq!(answer(&again, &forward, ""), answer(&model, &forward, ""), "{case}: {format:?}");
        }
        let trained = model.train_active();
        let (loss, gradients) = loss_and_gradients(&trained, &forward);
        let expected = f64::from(forward.floats("loss")[0]);
        assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
        let name = |path: &str| {
            let (module, factor) = path.split_once(".adapter.").unwrap();
            let weight = trained.rules().to_theirs(&format!("{module}.weight")).unwrap();
            let factor = if factor == "a" { "lora_A" } else { "lora_B" };
            format!("{}.{factor}.weight", weight.strip_suffix(".weight").unwrap())
        };
        assert_gradients(case, name, gradients, &forward);
    });
}

#[test]
fn the_lora_file_of_diffusers_is_written_again_byte_for_byte_but_for_its_settings() {
    for case in ["diffusion/lora-sd1", "diffusion/lora-sdxl"] {
        let (model, config) = adapted(case);
        let folder = tempfile::tempdir().unwrap();
        adapter_of_pipeline::save(&model, &config.method, "", folder.path(), LoraFormat::Diffusers).unwrap();
        let file = |folder: &Path| SafetensorsFile::open(folder.join("pytorch_lora_weights.safetensors")).unwrap();
        let (ours, theirs) = (file(folder.path()), file(&golden::path(case).join("adapter")));
        let tensors = |file: &SafetensorsFile| -> Vec<(String, Vec<usize>, Vec<u8>)> {
            file.tensors().map(|view| (view.name.into(), view.shape.to_vec(), view.bytes().into_owned())).collect()
        };
        assert!(tensors(&ours) == tensors(&theirs), "{case}");
        let said = |file: &SafetensorsFile| -> Value {
            assert_eq!(file.metadata()["format"], "pt");
            serde_json::from_str(&file.metadata()["lora_adapter_metadata"]).unwrap()
        };
        let theirs = said(&theirs);
        for (key, value) in said(&ours).as_object().unwrap() {
            // diffusers' file is of an adapter in training.
            let fixed = ["unet.inference_mode", "unet.base_model_name_or_path"].contains(&key.as_str());
            let same = match (value.as_f64(), theirs[key].as_f64()) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => *value == theirs[key],
            };
            assert!(fixed || same, "{case}: {key}: {value}, not {}", theirs[key]);
        }
    }
}

#[test]
fn merged_networks_equal_fuse_lora() {
    golden::each(&cases("lora-"), |case| {
        let (mut model, _) = adapted(case);
        let base = golden::json(&format!("{case}/base.json"))["base"].as_str().unwrap().to_string();
        model.merge();
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None, None).unwrap();
        let before = Checkpoint::open(golden::path(&format!("diffusion/{base}"))).unwrap();
        let merged = tensors::read(&golden::path(case).join("merged.safetensors"));
        let ours = Checkpoint::open(folder.path()).unwrap();
        for view in ours.tensors() {
            let values = view.to_f32().unwrap();
            let expected = merged.get(view.name).cloned().unwrap_or_else(|| {
                let view = before.find(view.name).unwrap();
                tensors::Values { shape: view.shape.to_vec(), values: view.to_f32().unwrap() }
            });
            let apart = distance(&values, &expected.values);
            assert!(apart < 1e-6 && *view.shape == expected.shape, "{case}: {} is {apart:e} away", view.name);
        }
        assert!(!merged.is_empty() && merged.keys().all(|name| ours.find(name).is_some()), "{case}");
    });
}

#[test]
fn frozen_parts_equal_the_reference() {
    golden::each(&cases(""), |case| {
        let device = Device::flex();
        let parts = Conditioner::open(&golden::path(case), &device).unwrap();
        let file = Forward(SafetensorsFile::open(golden::path(case).join("parts.safetensors")).unwrap());
        let near = |what: &str, ours: Vec<f32>| {
            let apart = largest_difference(&ours, &file.floats(what));
            assert!(apart < STATES, "{case}: {what} differ by {apart:e}");
        };
        let latents = parts.vae().encode(file.tensor("pixel_values", &device));
        near("mean", golden::host(latents.mean));
        near("log_variance", golden::host(latents.log_variance));
        near("decoded", golden::host(parts.vae().decode(file.tensor("latents", &device))));
        let ids = ["input_ids", "input_ids_2"].into_iter().filter_map(|name| {
            let words = file.0.get(name).ok()?.bytes();
            Some(words.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word) as u32).collect::<Vec<_>>())
        });
        let told = parts.texts_as_told(&ids.collect::<Vec<_>>(), 3);
        near("encoder_hidden_states", golden::host(told.states));
        if let Some(pooled) = told.pooled {
            near("text_embeds", golden::host(pooled));
        }
    });
}

fn run(case: &str, overrides: &[&str]) -> Trained {
    let overrides: Vec<&str> = overrides.iter().copied().chain(["log.tensorboard=false"]).collect();
    train(&golden::path(case).join("recipe.toml"), &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

#[test]
fn every_step_and_the_end_equal_the_reference() {
    golden::each(&cases("trajectory-"), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &[]);
        assert_eq!(trained.outcome, Outcome::Finished);
        let steps = expected["steps"].as_array().unwrap();
        assert_eq!(trained.steps.len(), steps.len(), "{case}");
        for (ours, theirs) in trained.steps.iter().zip(steps) {
            let number = |name: &str| theirs[name].as_f64().unwrap();
            let near = |what: &str, ours: f64, relative: f64| {
                let theirs = number(what);
                assert!((ours - theirs).abs() <= relative * theirs, "{case}: {what}: {ours} instead of {theirs}");
            };
            near("loss", ours.loss, 1e-5);
            near("grad_norm", ours.grad_norm, 5e-5);
            assert_eq!(ours.tokens, theirs["rows"].as_u64().unwrap(), "{case}: rows");
            assert!((ours.learning_rate - number("learning_rate")).abs() < 1e-15, "{case}: rate");
        }
        let end = tensors::read(&golden::path(case).join("final.safetensors"));
        let apart = distance_of_sets(&trained.weights, &end);
        let way = expected["rounding"]["way_travelled"].as_f64().unwrap();
        assert!(apart < 1e-4 && apart < way / 500.0, "{case}: ends {apart:e} away after a way of {way:e}");
    });
}

#[test]
fn no_split_into_micro_batches_changes_a_run() {
    for case in cases("trajectory-") {
        let whole = run(&case, &["train.micro_batch_size=4"]);
        let split = run(&case, &["train.micro_batch_size=1"]);
        for (left, right) in whole.steps.iter().zip(&split.steps) {
            assert!((left.loss - right.loss).abs() < 1e-5 * left.loss, "{case}: step {}", left.step);
        }
        let apart = distance_of_sets(&split.weights, &whole.weights);
        assert!(apart < 1e-5, "{case}: ends {apart:e} away");
    }
}

#[test]
fn samplers_make_the_pictures_of_the_reference() {
    golden::each(&["diffusion/sd1", "diffusion/sd2", "diffusion/sdxl"].map(String::from), |case| {
        let model = golden::load(case);
        let device = model.device();
        let file = Forward(SafetensorsFile::open(golden::path(case).join("sampling.safetensors")).unwrap());
        let [_, channels, height, width] = <[usize; 4]>::try_from(file.shape("latents")).unwrap();
        let both = |name: &str| [format!("negative_{name}"), name.to_string()];
        let added = file.0.get("pooled_prompt_embeds").ok().map(|_| {
            let pooled = both("pooled_prompt_embeds").map(|name| file.tensor::<2>(&name, &device));
            // Of the picture as it was, of the crop, and as it is wanted; the autoencoder halves once.
            let size = [2.0 * height as f32, 2.0 * width as f32];
            let numbers = [size[0], size[1], 0.0, 0.0, size[0], size[1]].repeat(2);
            AddedInputs { pooled: Tensor::cat(pooled.to_vec(), 0), numbers }
        });
        let text = both("prompt_embeds").map(|name| file.tensor::<3>(&name, &device));
        let asked = Asked { text: Tensor::cat(text.to_vec(), 0), added, guidance: 3.5, steps: 7 };
        for name in ["ddim", "ddim-trailing", "pndm", "euler", "euler-leading", "dpm", "dpm-leading", "dpm-trailing"] {
            let path = golden::path(case).join("samplers").join(name).join("scheduler_config.json");
            let config = sampler_of(&HfConfig::open_with_words(path).unwrap()).unwrap();
            let schedule = denoiser(&model).config().schedule.clone().unwrap();
            let shape = [channels, height, width];
            let ours =
                sample(denoiser(&model).unet(), &config, &schedule, &asked, &file.floats("latents"), shape, || {});
            let theirs = file.floats(name);
            let size = theirs.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
            let apart = largest_difference(&ours, &theirs);
            // The first steps divide by what is left of a picture at late times, a fifteenth, and bounds hide or show the rounding.
            assert!(apart < 1e-3 * size.max(1.0), "{case}: {name} ends {apart:e} away, of {size}");
        }
    });
}

/// The same row in two forms: as latents and states, and as the pixels and token ids that these are made of.
#[test]
fn rows_of_pixels_and_token_ids_are_those_of_their_latents_and_states() {
    for case in ["diffusion/sd1", "diffusion/sdxl"] {
        let model = golden::load(case);
        let file = Forward(SafetensorsFile::open(golden::path(case).join("parts.safetensors")).unwrap());
        let scaling = denoiser(&model).config().parts.as_ref().unwrap().vae.scaling as f32;
        let row = |name: &str, of: usize| {
            let shape = file.shape(name)[1..].to_vec();
            let count: usize = shape.iter().product();
            (shape, file.floats(name)[of * count..][..count].to_vec())
        };
        let array = |(shape, values): (Vec<usize>, Vec<f32>)| Array { shape, values: ArrayValues::F32(values) };
        let ids = |name: &str| {
            let words = file.0.get(name).unwrap().bytes();
            let all: Vec<i64> = words.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect();
            let length = file.shape(name)[1];
            Array { shape: vec![length], values: ArrayValues::I64(all[length..2 * length].to_vec()) }
        };
        let (shape, mean) = row("mean", 1);
        let drawn: Vec<f32> = (0..mean.len()).map(|index| (index as f32).cos()).collect();
        let deviation = row("log_variance", 1).1.into_iter().map(|value| (0.5 * value).exp());
        let latents = mean.iter().zip(deviation).zip(&drawn);
        let latents = latents.map(|((mean, deviation), noise)| (mean + deviation * noise) * scaling).collect();
        let mut encoded = NamedArrays::from([
            ("latents".into(), array((shape.clone(), latents))),
            ("encoder_hidden_states".into(), array(row("encoder_hidden_states", 1))),
        ]);
        let mut raw = NamedArrays::from([
            ("pixel_values".into(), array(row("pixel_values", 1))),
            ("vae_noise".into(), array((shape.clone(), drawn))),
            ("input_ids".into(), ids("input_ids")),
        ]);
        if file.0.get("text_embeds").is_ok() {
            encoded.insert("text_embeds".into(), array(row("text_embeds", 1)));
            raw.insert("input_ids_2".into(), ids("input_ids_2"));
        }
        for row in [&mut encoded, &mut raw] {
            let noise = (0..shape.iter().product()).map(|index: usize| (index as f32 * 0.7).sin()).collect();
            row.insert("noise".into(), array((shape.clone(), noise)));
            row.insert("timestep".into(), Array { shape: vec![], values: ArrayValues::I64(vec![400]) });
            if case.ends_with("xl") {
                row.insert("time_ids".into(), array((vec![6], vec![12.0, 20.0, 0.0, 0.0, 12.0, 20.0])));
            }
        }
        let [left, right] = [&encoded, &raw].map(|row| denoising_error(denoiser(&model), row).unwrap());
        assert!((left - right).abs() < 1e-5 * left, "{case}: {left} and {right}");
        raw.remove("vae_noise");
        let mode = denoising_error(denoiser(&model), &raw).unwrap();
        assert!((left - mode).abs() > 1e-4 * left, "{case}: the noise is not looked at");
        raw.insert("latents".into(), encoded["latents"].clone());
        let refused = denoising_error(denoiser(&model), &raw).unwrap_err().to_string();
        assert!(refused.contains("both `latents` and `pixel_values`"), "{refused}");
    }
}
