//! Diffusion pipelines on the command line: what a run leaves is the whole pipeline, and everything can be used.

use std::fs;
use std::path::{Path, PathBuf};

use firebrand_models::weights::SafetensorsFile;
use firebrand_tests::golden;
use serde_json::Value;

use crate::pictures::copy_pipeline;
use crate::workshop::{Workshop, assert_says, words};

/// The files of a folder, with those in folders in it, by their paths there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner)).unwrap() {
            let path = inner.join(entry.unwrap().file_name());
            if folder.join(&path).is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_run_of_a_pipeline_leaves_can_be_used() {
    let workshop = Workshop::new();
    let recipe = golden::path("diffusion/trajectory-sd1-lora/recipe.toml").display().to_string();
    let rows = golden::path("diffusion/trajectory-sd1-lora/rows/rows.jsonl").display().to_string();
    let base = golden::path("diffusion/sd1");
    let model = base.display().to_string();
    let train = |output: &str, more: &[&str]| {
        let output = workshop.path(output).display().to_string();
        let settings = ["--output", &output, "--set", "log.tensorboard=false", "--set", "export.merge=true"];
        workshop.succeed(&[&["train", &recipe], &settings[..], more].concat());
    };
    train("run", &[]);
    train("kohya", &["--set", "export.lora_format=kohya"]);

    // Every file but the UNet's weights is the base's, byte for byte.
    let (written, weights) = (workshop.path("run/model"), Path::new("unet/diffusion_pytorch_model.safetensors"));
    let mut of_pipeline = files(&base);
    // What stands beside the components belongs to none.
    of_pipeline.retain(|file| file.components().count() > 1 || file.extension().is_some_and(|ending| ending == "json"));
    assert_eq!(files(&written), of_pipeline);
    for file in of_pipeline {
        let same = fs::read(base.join(&file)).unwrap() == fs::read(written.join(&file)).unwrap();
        assert_eq!(same, file != weights, "{}", file.display());
    }
    assert!(workshop.path("run/adapter/pytorch_lora_weights.safetensors").exists());
    assert!(workshop.path("kohya/adapter/lora.safetensors").exists());

    // The adapter on its base, in either format, and the merged folder are one model.
    let score = |name: &str, model: &[&str]| -> Vec<f64> {
        let out = format!("{name}.jsonl");
        workshop.succeed(&[&["score", "--data", &rows, "--out", &out], model].concat());
        workshop.read_rows(&out).iter().map(|row| row["loss"].as_f64().unwrap()).collect()
    };
    let of_base = score("base", &["--model", &model]);
    let adapted = score("adapted", &["--model", &model, "--adapter", "run/adapter"]);
    let apart = |left: &[f64], right: &[f64]| {
        left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
    };
    assert!(apart(&adapted, &of_base) > 1e-3, "{adapted:?} {of_base:?}");
    assert!(apart(&adapted, &score("merged", &["--model", "run/model"])) < 1e-5);
    assert!(apart(&adapted, &score("kohya", &["--model", &model, "--adapter", "kohya/adapter"])) < 1e-6);

    let eval = |model: &[&str]| -> f64 {
        let said = workshop.succeed(&[&["eval", "--data", &rows, "--json"], model].concat());
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        said["loss"].as_f64().unwrap()
    };
    let mean = adapted.iter().sum::<f64>() / adapted.len() as f64;
    assert!((eval(&["--model", "run/model"]) - mean).abs() < 1e-5 * mean);
    workshop.succeed(&["merge", "--model", &model, "--adapter", "run/adapter", "--out", "again"]);
    for file in files(&written) {
        assert!(fs::read(written.join(&file)).unwrap() == workshop.read(&format!("again/{}", file.display())));
    }
    for of in [model.as_str(), "run/model", "run/adapter", "kohya/adapter"] {
        workshop.succeed(&["inspect", of]);
    }
    let shown = workshop.succeed(&["inspect", &model]).stdout;
    assert_says!(words(&shown), "UNet2DConditionModel", "noise at 1000 times");
}

#[test]
fn times_and_noise_that_rows_lack_are_drawn_alike_however_a_step_is_split() {
    let workshop = Workshop::new();
    let recipe = golden::path("diffusion/trajectory-sd1-full/recipe.toml").display().to_string();
    let rows = golden::path("diffusion/sd1/parts.safetensors");
    let file = firebrand_models::weights::SafetensorsFile::open(rows).unwrap();
    let mut bytes = vec![];
    for row in 0..2 {
        let view = |name: &str| {
            let view = file.get(name).unwrap();
            let values = view.to_f32().unwrap();
            let shape = view.shape[1..].to_vec();
            let count: usize = shape.iter().product();
            (shape, values[row * count..][..count].to_vec())
        };
        let (pixels, states) = (view("pixel_values"), view("encoder_hidden_states"));
        bytes.push(two_tensors(&[("pixel_values", pixels), ("encoder_hidden_states", states)]));
    }
    for (row, bytes) in bytes.iter().enumerate() {
        fs::write(workshop.path(&format!("{row}.safetensors")), bytes).unwrap();
    }
    workshop.write("rows.jsonl", "{\"tensors\": \"0.safetensors\"}\n{\"tensors\": \"1.safetensors\"}\n");
    let losses = |output: &str, more: &[&str]| -> Vec<f64> {
        let folder = workshop.path(output).display().to_string();
        let data = format!(
            "data.train=[{{path={:?}, format=\"tensors\"}}]",
            workshop.path("rows.jsonl").display().to_string()
        );
        let settings = ["--output", &folder, "--set", "log.tensorboard=false", "--set", "objective.noise_offset=0.1"];
        let settings = [&settings[..], &["--set", "objective.caption_dropout=0.5"]].concat();
        let steps = ["--set", &data, "--set", "train.batch_size=2", "--set", "train.epochs=3"];
        workshop.succeed(&[&["train", &recipe], &settings[..], &steps, more].concat());
        let lines = workshop.read_rows(&format!("{output}/metrics.jsonl"));
        lines.iter().filter_map(|line| line["loss"].as_f64()).collect()
    };
    let together = losses("together", &["--set", "train.micro_batch_size=2"]);
    let apart = losses("apart", &["--set", "train.micro_batch_size=1"]);
    assert_eq!(together.len(), 3);
    assert!(
        together.iter().zip(&apart).all(|(left, right)| (left - right).abs() < 1e-5 * left),
        "{together:?} {apart:?}"
    );
    assert!(together[0] != together[1], "each step draws its own: {together:?}");
    let other = losses("other", &["--set", "train.micro_batch_size=2", "--set", "seed=5"]);
    assert!((other[0] - together[0]).abs() > 1e-4, "{other:?} {together:?}");
}

/// Shape and values, row-major.
type Floats = (Vec<usize>, Vec<f32>);

/// A safetensors file of f32 tensors.
fn two_tensors(tensors: &[(&str, Floats)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), vec![]);
    for (name, (shape, values)) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(
            name.to_string(),
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }),
        );
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The pixels of a picture of `asked` and those of the reference, which starts from the same latents.
#[test]
fn pictures_of_prompts_are_those_of_the_reference() {
    let workshop = Workshop::new();
    for case in ["sd1", "sdxl"] {
        let folder = golden::path(&format!("diffusion/{case}"));
        let asked: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("painted/asked.json")).unwrap()).unwrap();
        for (name, flags) in asked.as_object().unwrap() {
            let golden = folder.join(format!("painted/{name}.safetensors"));
            let [model, latents] = [&folder, &golden].map(|path| path.display().to_string());
            let mut arguments = vec!["generate", "--model", &model, "--latents", &latents, "--out", "a.png"];
            for (flag, value) in flags.as_object().unwrap() {
                arguments.extend([flag, value.as_str().unwrap()]);
            }
            workshop.succeed(&arguments);
            let ours = image::open(workshop.path("a.png")).unwrap().into_rgb8();
            let theirs = SafetensorsFile::open(&golden).unwrap();
            let theirs = theirs.get("pixels").unwrap();
            let pixels = theirs.bytes();
            assert_eq!([ours.height() as usize, ours.width() as usize, 3], theirs.shape[..], "{case}/{name}");
            let apart = ours.as_raw().iter().zip(pixels.iter()).map(|(left, right)| left.abs_diff(*right));
            // A sample on the edge between two levels may fall to either side.
            let apart: Vec<u8> = apart.filter(|levels| *levels > 0).collect();
            assert!(
                apart.len() * 50 < ours.as_raw().len() && apart.iter().all(|levels| *levels == 1),
                "{name}: {apart:?}"
            );
        }
    }
}

#[test]
fn a_picture_of_a_prompt_is_the_seeds() {
    let workshop = Workshop::new();
    let model = golden::path("diffusion/sd1").display().to_string();
    let paint = |out: &str, more: &[&str]| {
        let arguments = ["generate", "--model", &model, "--prompt", "a red thing", "--steps", "2", "--out", out];
        workshop.succeed(&[&arguments[..], more].concat());
        workshop.read(out)
    };
    assert!(paint("a.png", &["--seed", "1"]) == paint("b.png", &["--seed", "1"]));
    assert!(paint("a.png", &["--seed", "1"]) != paint("b.png", &["--seed", "2"]));
    let golden = golden::path("diffusion/sd1/painted/guided.safetensors").display().to_string();
    let refused = |arguments: &[&str], says: &[&str]| {
        let said = workshop.fail(&[&["generate", "--model", &model], arguments].concat());
        says.iter().for_each(|says| assert_says!(&said, says));
    };
    let prompt = ["--prompt", "a red thing"];
    // Another scheduler, as diffusers writes it; and one that is not known whole.
    copy_pipeline(&golden::path("diffusion/sd1"), &workshop.path("dpm"));
    let scheduler = fs::read_to_string(golden::path("diffusion/sd1/samplers/dpm/scheduler_config.json")).unwrap();
    workshop.write("dpm/scheduler/scheduler_config.json", &scheduler);
    let other =
        [&["generate", "--model", "dpm", "--steps", "2", "--seed", "1", "--out", "c.png"], &prompt[..]].concat();
    workshop.succeed(&other);
    assert!(workshop.read("c.png") != workshop.read("a.png"));
    let karras = scheduler.replace("\"use_karras_sigmas\": false", "\"use_karras_sigmas\": true");
    workshop.write("dpm/scheduler/scheduler_config.json", &karras);
    assert_says!(&workshop.fail(&other), "scheduler_config.json", "use_karras_sigmas");
    refused(&prompt, &["--out picture.png"]);
    refused(&["--chat"], &["a picture of a prompt"]);
    refused(&[&prompt[..], &["--temperature", "0.5", "--out", "a.png"]].concat(), &["--temperature", "makes pictures"]);
    refused(&[&prompt[..], &["--steps", "1001", "--out", "a.png"]].concat(), &["1001 steps", "1 to 1000"]);
    refused(&[&prompt[..], &["--guidance", "nan", "--out", "a.png"]].concat(), &["--guidance is NaN"]);
    refused(&[&prompt[..], &["--out", "a.jpg"]].concat(), &["a.jpg", "PNG"]);
    refused(&[&prompt[..], &["--out", "nowhere/a.png"]].concat(), &["nowhere/a.png"]);
    refused(
        &[&prompt[..], &["--out", "a.png", "--width", "17"]].concat(),
        &["17 x 16", "multiples of 2", "--width 18"],
    );
    let latents = ["--out", "a.png", "--latents", &golden];
    refused(&[&prompt[..], &latents].concat(), &["guided.safetensors", "[4, 8, 12]", "[4, 8, 8]"]);
}
