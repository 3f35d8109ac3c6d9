//! Objectives and kinds of models: each pair either equals the reference and resumes, or is refused before weights are read.

use std::collections::BTreeSet;
use std::fs;

use firebrand::recipe::{
    ClassifyRecipe, DenoiseRecipe, DpoRecipe, KtoRecipe, Method, ModelSource, ObjectiveRecipe, OrpoRecipe,
    RewardRecipe, SimpoRecipe, TeacherModel, TeacherRecipe, json_schema,
};
use firebrand_models::Kind;
use firebrand_models::pipeline::trained_folder;
use firebrand_tests::golden;

use crate::workshop::{Workshop, assert_says};

/// A model of a kind.
fn model_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Decoder => "llama-gqa-tied",
        Kind::Classifier => "classifiers/llama",
        Kind::Towers => "towers/clip-quick-gelu",
        Kind::Image => "images/dinov2",
        Kind::Diffusion => "diffusion/sd1",
    }
}

/// The whole runs of the reference by which a pair is held.
fn trajectories_of(objective: &ObjectiveRecipe, kind: Kind) -> &'static [&'static str] {
    match (objective, kind) {
        (ObjectiveRecipe::Sft(_), Kind::Decoder) => &["trajectory-phi-full", "trajectory-phi-lora"],
        (ObjectiveRecipe::Distill(_), Kind::Decoder) => {
            &["trajectory-distill-llama-full", "trajectory-distill-neox-lora"]
        }
        (ObjectiveRecipe::Dpo(_), Kind::Decoder) => {
            &["trajectory-dpo-llama-lora", "trajectory-dpo-gemma2-full", "trajectory-dpo-start", "trajectory-dpo-qlora"]
        }
        (ObjectiveRecipe::Orpo(_), Kind::Decoder) => &["trajectory-orpo-gemma2-full", "trajectory-orpo-llama-lora"],
        (ObjectiveRecipe::Simpo(_), Kind::Decoder) => &["trajectory-simpo-llama-full", "trajectory-simpo-gemma2-lora"],
        (ObjectiveRecipe::Kto(_), Kind::Decoder) => &["trajectory-kto-gemma2-full", "trajectory-kto-llama-lora"],
        (ObjectiveRecipe::Contrastive(_), Kind::Towers) => {
            &["towers/trajectory-clip-full", "towers/trajectory-clip-lora"]
        }
        (ObjectiveRecipe::Denoise(_), Kind::Diffusion) => &[
            "diffusion/trajectory-sd1-full",
            "diffusion/trajectory-sd1-lora",
            "diffusion/trajectory-sdxl-lora",
            "diffusion/trajectory-sd2-full",
        ],
        // Adapters start on a plain decoder, full runs on a classifier of transformers.
        (ObjectiveRecipe::Classify(_), Kind::Decoder) => &[
            "classifiers/trajectory-single-lora",
            "classifiers/trajectory-single-dora",
            "classifiers/trajectory-multi-lora",
            "classifiers/trajectory-regression-lora",
        ],
        (ObjectiveRecipe::Classify(_), Kind::Classifier) => &[
            "classifiers/trajectory-single-full",
            "classifiers/trajectory-multi-full",
            "classifiers/trajectory-regression-full",
        ],
        (ObjectiveRecipe::Classify(_), Kind::Image) => &[
            "images/trajectory-dinov2-full",
            "images/trajectory-dinov2-lora",
            "images/trajectory-dinov2-qlora",
            "images/trajectory-dinov2-probe",
        ],
        (ObjectiveRecipe::Reward(_), Kind::Decoder) => {
            &["classifiers/trajectory-reward-lora", "classifiers/trajectory-reward-center-lora"]
        }
        (ObjectiveRecipe::Reward(_), Kind::Classifier) => &["classifiers/trajectory-reward-full"],
        (
            ObjectiveRecipe::Sft(_)
            | ObjectiveRecipe::Distill(_)
            | ObjectiveRecipe::Dpo(_)
            | ObjectiveRecipe::Orpo(_)
            | ObjectiveRecipe::Simpo(_)
            | ObjectiveRecipe::Kto(_),
            Kind::Classifier | Kind::Towers | Kind::Image | Kind::Diffusion,
        ) => &[],
        (ObjectiveRecipe::Classify(_), Kind::Towers | Kind::Diffusion) => &[],
        (ObjectiveRecipe::Reward(_), Kind::Towers | Kind::Image | Kind::Diffusion) => &[],
        (ObjectiveRecipe::Contrastive(_), Kind::Decoder | Kind::Classifier | Kind::Image | Kind::Diffusion) => &[],
        (ObjectiveRecipe::Denoise(_), Kind::Decoder | Kind::Classifier | Kind::Towers | Kind::Image) => &[],
    }
}

fn objectives() -> Vec<ObjectiveRecipe> {
    let teacher = TeacherModel { source: ModelSource::Local("teacher".into()), quantization: None };
    let all = vec![
        ObjectiveRecipe::sft(),
        ObjectiveRecipe::distill(TeacherRecipe::Live(teacher)),
        ObjectiveRecipe::Classify(ClassifyRecipe::default()),
        ObjectiveRecipe::Reward(RewardRecipe::default()),
        ObjectiveRecipe::Dpo(DpoRecipe::default()),
        ObjectiveRecipe::Orpo(OrpoRecipe::default()),
        ObjectiveRecipe::Simpo(SimpoRecipe::default()),
        ObjectiveRecipe::Kto(KtoRecipe::default()),
        ObjectiveRecipe::contrastive(&Method::Full),
        ObjectiveRecipe::Denoise(DenoiseRecipe::default()),
    ];
    let names: BTreeSet<&str> = all.iter().map(ObjectiveRecipe::name).collect();
    let schema = json_schema();
    let kinds = schema["properties"]["objective"]["oneOf"].as_array().unwrap().iter();
    let written: BTreeSet<&str> = kinds.map(|kind| kind["properties"]["kind"]["const"].as_str().unwrap()).collect();
    assert_eq!(names, written, "every objective that a recipe can name");
    all
}

#[test]
fn a_pair_that_fits_equals_the_reference_and_resumes_to_the_same_bytes() {
    for objective in objectives() {
        for kind in Kind::ALL {
            let trajectories = trajectories_of(&objective, *kind);
            assert_eq!(objective.fits(*kind), !trajectories.is_empty(), "{} for a {kind}", objective.name());
            for case in trajectories {
                assert!(golden::path(case).join("expected.json").exists(), "{case}");
                resumes(case);
            }
        }
    }
}

fn resumes(case: &str) {
    let workshop = Workshop::new();
    let recipe = golden::path(case).join("recipe.toml").display().to_string();
    let settings = ["--set", "checkpoint={every=1,keep=100}", "--set", "log.tensorboard=false"];
    // Paths are looked for where the program runs before they are looked for beside the recipe.
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |output: &str, more: &[&str]| {
        let output = workshop.path(output).display().to_string();
        let arguments = [&["train", &recipe, "--output", &output], &settings[..], more].concat();
        let said = workshop.command(&arguments).current_dir(elsewhere.path()).output().unwrap();
        assert!(said.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&said.stderr));
    };
    run("whole", &[]);
    run("parts", &[]);
    run("parts", &["--resume", "checkpoint-2"]);
    let last = workshop.list("whole").into_iter().filter(|name| name.starts_with("checkpoint-")).max().unwrap();
    let mut compared = 0;
    for folder in [last.as_str(), "adapter", "model", "model/unet"] {
        if !workshop.path(&format!("whole/{folder}")).exists() {
            continue;
        }
        for file in workshop.list(&format!("whole/{folder}")) {
            if file.ends_with(".safetensors") {
                let same = workshop.read(&format!("whole/{folder}/{file}"))
                    == workshop.read(&format!("parts/{folder}/{file}"));
                assert!(same, "{case}: {folder}/{file} has other bytes");
                compared += 1;
            }
        }
    }
    assert!(compared >= 3, "{case}: weights, optimiser and result");
}

#[test]
fn a_pair_that_does_not_fit_is_refused_before_weights_are_read() {
    let workshop = Workshop::new();
    for objective in objectives() {
        for kind in Kind::ALL.iter().filter(|kind| !objective.fits(**kind)) {
            let folder = workshop.path("bare");
            fs::create_dir_all(&folder).unwrap();
            let config = trained_folder(&golden::path(model_of(*kind))).join("config.json");
            fs::copy(config, folder.join("config.json")).unwrap();
            let set = format!("objective.kind=\"{}\"", objective.name());
            let other = match &objective {
                ObjectiveRecipe::Distill(_) => ["--set", "objective.teacher=\"bare\""].as_slice(),
                ObjectiveRecipe::Sft(_)
                | ObjectiveRecipe::Classify(_)
                | ObjectiveRecipe::Reward(_)
                | ObjectiveRecipe::Dpo(_)
                | ObjectiveRecipe::Orpo(_)
                | ObjectiveRecipe::Simpo(_)
                | ObjectiveRecipe::Kto(_)
                | ObjectiveRecipe::Contrastive(_)
                | ObjectiveRecipe::Denoise(_) => &[],
            };
            let arguments = [&["train", "recipe.toml", "--set", "model=\"bare\"", "--set", &set], other].concat();
            let said = workshop.fail(&arguments);
            let usual = ObjectiveRecipe::of_kind(*kind, &Method::Full);
            let refused = format!("objective {} does not train a model of type", objective.name());
            assert_says!(&said, &refused, &format!("which is a {kind}"), &format!("kind = \"{}\"", usual.name()));
        }
    }
}
