//! Where inputs are found, what defaults are, and that the resolved recipe says the same.

use std::fs;
use std::path::{Path, PathBuf};

use firebrand_datasets::{DataConfig, TemplateChoice};
use tempfile::TempDir;

use super::super::paths::Folders;
use super::super::*;
use super::{SHORTEST, folder, load, load_in, shown};

/// A recipe that says something about every section.
const RICH: &str = r#"
model = "owner/name@main"
output = "runs/rich"
seed = 9223372036854775807
device = "cuda:1"
base_dtype = "bf16"

[adapter]
kind = "lora"
alpha = 8
targets = { regex = '.*\.(q|v)_proj' }
exclude = ["layers.0.self_attn.q_proj"]
rank_pattern = { "layers.1.self_attn.q_proj" = 4, q_proj = 2 }
init_from = "adapter"

[data]
template = "chat.jinja"
date = "2025-01-31"
[[data.train]]
path = "rows.jsonl"
format = "messages"
[[data.train]]
path = "*.jsonl"
weight = 0.5
[[data.train]]
path = "hf://datasets/owner/name/main@v1"
columns = { prompt = "question", completion = "answer.text" }
text_rows = "line"
[[data.eval]]
path = "eval.jsonl"

[train]
steps = 30
batch_size = 6
max_grad_norm = "off"

[optimizer]
kind = "sgd"
learning_rate = 3e-5
momentum = 0.9

[schedule]
kind = "cosine-with-min-lr"
warmup_ratio = 0.03

[eval.early_stopping]
patience = 2

[sample]
prompts = ["Who?", "What is \"it\"?"]

[export]
merge = true
dtype = "bf16"
"#;

#[test]
fn defaults_are_the_contracts() {
    let adapter = format!("{SHORTEST}[adapter]\nkind = \"lora\"\n");
    let recipe = load(&adapter, &[]).unwrap();
    let expected = Recipe {
        model: ModelSource::Hub { repository: "owner/name".into(), revision: None },
        init: Init::Pretrained,
        output: "runs/a".into(),
        seed: 42,
        device: DeviceName::Auto,
        dtype: ComputeDtype::F32,
        allow_tf32: false,
        base_dtype: Some(StoredDtype::F32),
        vocabulary: None,
        quantization: None,
        method: Method::Lora(Box::new(LoraRecipe {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Targets::Preset(TargetPreset::AllLinear),
            exclude: Exclude::Names(vec![]),
            rslora: false,
            rank_pattern: [].into(),
            alpha_pattern: [].into(),
            loraplus_lr_ratio: 1.0,
            loraplus_lr_embedding: 1e-6,
            layers: vec![],
            layers_pattern: vec![],
            modules_to_save: vec![],
            bias: Bias::None,
            ensure_weight_tying: false,
            init: LoraInit::Kaiming,
            init_from: None,
        })),
        data: DataConfig { train: recipe.data.train.clone(), ..DataConfig::default() },
        objective: None,
        train: Train {
            duration: Duration::Fitting,
            batch_size: 16,
            micro_batch_size: 4,
            max_grad_norm: Some(1.0),
            recompute: Recompute::Auto,
            freeze: vec![],
            ema: None,
        },
        optimizer: Optimizer::Adamw(AdamwRecipe {
            learning_rate: 2e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            no_decay: false,
            layer_decay: 1.0,
        }),
        schedule: Schedule { curve: Curve::Cosine, warmup: Warmup::Fitting },
        eval: Eval { every: 50, batch_size: 4, at_start: false, weights: EvaluatedWeights::Last, early_stopping: None },
        checkpoint: Checkpoint { every: 50, keep: 2, best: None },
        log: Log { every: 1, tensorboard: true, noise_scale: false },
        sample: None,
        export: Export {
            merge: false,
            dtype: None,
            weights: ExportedWeights::Last,
            lora_format: LoraFormat::Diffusers,
        },
    };
    assert_eq!(recipe, expected);
    assert_eq!((recipe.data.max_length, recipe.data.packing, recipe.data.shuffle), (1024, true, true));
    assert_eq!(recipe.data.train[0].weight, 1.0);
    assert_eq!(recipe.data.gate.allow_truncated, 0.05);
    let evaluated = load(&format!("{adapter}[[data.eval]]\npath = \"eval.jsonl\"\n"), &[]).unwrap();
    assert_eq!(evaluated.checkpoint.best, Some(BestMetric::EvalLoss));
    assert_eq!(load(SHORTEST, &[]).unwrap().method, Method::Full);
    assert_eq!(load(SHORTEST, &[]).unwrap().base_dtype, None);
}

#[test]
fn the_temperature_is_learned_where_every_weight_is() {
    let text = format!("{SHORTEST}[objective]\nkind = \"contrastive\"\n");
    let learned = |overrides: &[&str]| load(&text, overrides).map_err(|error| shown(&error)).unwrap().objective;
    let contrastive = |learn_temperature| Some(ObjectiveRecipe::Contrastive(ContrastiveRecipe { learn_temperature }));
    assert_eq!(learned(&[]), contrastive(true));
    assert_eq!(learned(&["objective.learn_temperature=false"]), contrastive(false));
    assert_eq!(learned(&["adapter.kind=lora"]), contrastive(false));
    assert_eq!(learned(&["objective.kind=sft"]), Some(ObjectiveRecipe::sft()));
}

#[test]
fn a_resolved_recipe_loads_to_the_same_recipe() {
    let folder = folder();
    let contrastive = format!("{SHORTEST}[objective]\nkind = \"contrastive\"\n[adapter]\nkind = \"lora\"\n");
    let routed = format!("{SHORTEST}[objective]\nkind = \"sft\"\nrouter_aux_loss = 0.02\n");
    for text in [SHORTEST, RICH, &contrastive, &routed] {
        let recipe = load_in(folder.path(), text, &[]).map_err(|error| shown(&error)).unwrap().recipe;
        let resolved = recipe.to_toml().unwrap();
        let again = load_in(folder.path(), &resolved, &[]).map_err(|error| shown(&error)).unwrap().recipe;
        assert_eq!(again, recipe, "{resolved}");
        assert_eq!(again.to_toml().unwrap(), resolved);
        assert_eq!(again.hash().unwrap(), recipe.hash().unwrap());
        assert_eq!(recipe.hash().unwrap().len(), 64);
    }
}

#[test]
fn the_hash_tells_recipes_apart() {
    let folder = folder();
    let hash = |overrides: &[&str]| load_in(folder.path(), SHORTEST, overrides).unwrap().recipe.hash().unwrap();
    assert_ne!(hash(&["seed=1"]), hash(&["seed=2"]));
    assert_eq!(hash(&[]), hash(&["output=elsewhere", "data.cache=off"]), "what changes no result");
}

#[test]
fn either_ors_become_enums() {
    let recipe = load(RICH, &[]).map_err(|error| shown(&error)).unwrap();
    assert_eq!(recipe.train.duration, Duration::Steps(30));
    assert_eq!((recipe.train.micro_batch_size, recipe.eval.batch_size), (3, 3));
    assert_eq!(recipe.train.max_grad_norm, None);
    assert_eq!(recipe.schedule.warmup, Warmup::Ratio(0.03));
    assert_eq!(recipe.schedule.curve, Curve::CosineWithMinLr { min_ratio: 0.1 });
    assert_eq!(recipe.optimizer.learning_rate(0), 3e-5);
    assert_eq!(recipe.eval.early_stopping, Some(EarlyStopping { patience: 2, min_delta: 0.0 }));
    let Method::Lora(lora) = &recipe.method else { panic!("no adapter") };
    let patterns = lora.config().rank_pattern;
    assert_eq!(patterns[0].0, "layers.1.self_attn.q_proj", "the order written is the order tried");
    assert!(matches!(&recipe.data.template, TemplateChoice::File(path) if path.ends_with("chat.jinja")));
}

#[test]
fn inputs_are_found_in_the_current_folder_first_and_then_beside_the_recipe() {
    let (current, beside) = (TempDir::new().unwrap(), folder());
    let folders = Folders { current: current.path(), recipe: beside.path() };
    let found = || {
        let loaded = Recipe::parse("recipe.toml", SHORTEST, &[], folders).map_err(|error| shown(&error)).unwrap();
        (PathBuf::from(&loaded.recipe.data.train[0].path), loaded.recipe.output)
    };
    assert_eq!(found(), (beside.path().join("rows.jsonl"), "runs/a".into()));
    fs::write(current.path().join("rows.jsonl"), "").unwrap();
    assert_eq!(found(), (current.path().join("rows.jsonl"), "runs/a".into()));
    fs::create_dir_all(current.path().join("owner/name")).unwrap();
    let loaded = Recipe::parse("recipe.toml", SHORTEST, &[], folders).unwrap();
    assert_eq!(loaded.recipe.model, ModelSource::Local(current.path().join("owner/name")));
}

#[test]
fn an_input_in_neither_place_names_both() {
    let (current, beside) = (TempDir::new().unwrap(), folder());
    let folders = Folders { current: current.path(), recipe: beside.path() };
    let model = SHORTEST.replace("owner/name", "./no-model");
    for (text, overrides, missing) in [
        (SHORTEST, vec!["data.train.0.path=gone.jsonl"], "gone.jsonl"),
        (SHORTEST, vec!["data.train.0.path=gone/*.jsonl"], "gone/*.jsonl"),
        (SHORTEST, vec!["data.template=gone.jinja"], "gone.jinja"),
        (SHORTEST, vec!["adapter={kind=\"lora\", init_from=\"gone\"}"], "gone"),
        (&model, vec![], "no-model"),
    ] {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        let error = Recipe::parse("recipe.toml", text, &overrides, folders).unwrap_err();
        let shown = shown(&error).replace(['\n', '│', ' '], "");
        for place in [current.path(), beside.path()] {
            let place = place.join(missing).display().to_string();
            assert!(shown.contains(&place), "{place} is missing in {shown}");
        }
    }
}

#[test]
fn a_recipe_file_is_read_from_disk() {
    let folder = folder();
    let path = folder.path().join("recipe.toml");
    fs::write(&path, SHORTEST).unwrap();
    let loaded = Recipe::load(&path, &["seed=7".into()]).map_err(|error| shown(&error)).unwrap();
    assert_eq!(loaded.recipe.seed, 7);
    assert_eq!(Path::new(&loaded.recipe.data.train[0].path), folder.path().join("rows.jsonl"));
}
