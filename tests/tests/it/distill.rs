//! Distillation: caches, teachers of other vocabularies, answers that the student writes, wrong first steps.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use firebrand::observer::StepReport;
use firebrand_models::weights::Dtype;
use firebrand_models::{Hold, Model};
use firebrand_tests::training::train;
use firebrand_tests::{golden, repository};
use serde_json::{Value, json};

use crate::goldens::trajectory::equals_the_reference;
use crate::workshop::{Workshop, assert_says};

/// A workshop with a teacher: the model after some steps of full training. The recipe distils.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write(
        "teach.toml",
        "model = \"model\"\noutput = \"taught\"\nseed = 3\n[data]\nmax_length = 128\n[[data.train]]\npath = \"data.jsonl\"\n\
         [train]\nsteps = 4\nbatch_size = 2\n[optimizer]\nlearning_rate = 2e-2\n[log]\ntensorboard = false\n",
    );
    workshop.succeed(&["train", "teach.toml"]);
    fs::rename(workshop.path("taught/model"), workshop.path("teacher")).unwrap();
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    workshop.write("recipe.toml", &format!("{recipe}\n[objective]\nkind = \"distill\"\n"));
    workshop
}

const LIVE: [&str; 2] = ["--set", "objective.teacher=teacher"];
const CACHED: [&str; 2] = ["--set", "objective.cache=kept"];

fn with<'a>(command: &[&'a str], more: &[&[&'a str]]) -> Vec<&'a str> {
    command.iter().chain(more.iter().copied().flatten()).copied().collect()
}

/// The logged steps of a run.
fn steps(workshop: &Workshop, run: &str) -> Vec<Value> {
    let rows = workshop.read_rows(&format!("{run}/metrics.jsonl"));
    rows.into_iter().filter(|row| row.get("distill/ce").is_some()).collect()
}

fn losses(workshop: &Workshop, run: &str) -> Vec<f64> {
    steps(workshop, run).iter().map(|row| row["loss"].as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
    }
}

#[test]
fn a_run_from_a_cache_equals_the_reference() {
    for case in ["distill/cells", "distill/cells-reverse", "distill/cells-all"] {
        let workshop = Workshop::new();
        let recipe = golden::path(case).join("recipe.toml").display().to_string();
        let cache = format!("objective.cache=\"{}\"", workshop.path("kept").display());
        let teacher = format!("objective.teacher=\"{}\"", golden::path("phi3").display());
        // Paths are looked for where the program runs before they are looked for beside the recipe.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut command = workshop.command(&["distill", "cache", &recipe, "--set", &cache, "--set", &teacher]);
        let said = command.current_dir(elsewhere.path()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        equals_the_reference(case, &[&cache]);
        // No split of a step changes the result.
        equals_the_reference(case, &[&cache, "train.micro_batch_size=1"]);
    }
}

#[test]
fn a_cache_of_the_whole_vocabulary_is_the_teacher() {
    let workshop = workshop();
    let all = ["--set", "objective.top_k=97", "--set", "objective.temperature=2", "--set", "objective.loss=jsd"];
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "live"], &[&LIVE, &all]));
    workshop.succeed(&with(&["distill", "cache", "recipe.toml"], &[&LIVE, &CACHED, &all]));
    let teacher = workshop.path("teacher");
    fs::rename(&teacher, workshop.path("elsewhere")).unwrap();
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "cached"], &[&CACHED, &all]));
    // Log-probabilities of eleven bits.
    assert_near(&losses(&workshop, "cached"), &losses(&workshop, "live"), 1e-3);
    fs::rename(workshop.path("elsewhere"), teacher).unwrap();
    // The teacher that wrote the cache may still be named.
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "both"], &[&LIVE, &CACHED, &all]));
    assert_eq!(losses(&workshop, "both"), losses(&workshop, "cached"));
}

#[test]
fn a_cache_that_was_not_finished_goes_on_to_the_same_bytes() {
    let workshop = workshop();
    let write = with(&["distill", "cache", "recipe.toml", "--json"], &[&LIVE, &CACHED]);
    workshop.succeed(&write);
    let whole = workshop.read("kept/teacher-00000.safetensors");
    let list = String::from_utf8(workshop.read("kept/cache.json")).unwrap();
    // A run that was ended leaves the list of what is whole, and perhaps half a file.
    let mut begun: Value = serde_json::from_str(&list).unwrap();
    begun["shards"] = json!([]);
    workshop.write("kept/cache.json", &begun.to_string());
    workshop.write("kept/teacher-00000.safetensors", "half");
    let said = workshop.fail(&with(&["train", "recipe.toml"], &[&CACHED]));
    assert_says!(&said, "is not finished: 0 of 10 examples", "firebrand distill cache");
    workshop.succeed(&write);
    assert!(workshop.read("kept/teacher-00000.safetensors") == whole);
    assert_eq!(String::from_utf8(workshop.read("kept/cache.json")).unwrap(), list);
    // What is whole is not computed again.
    let again: Value = serde_json::from_str(&workshop.succeed(&write).stdout).unwrap();
    assert_eq!((&again["found"], &again["computed"]), (&json!(10), &json!(0)));
    workshop.write("kept/teacher-00000.safetensors", "half");
    let said = workshop.fail(&with(&["train", "recipe.toml"], &[&CACHED]));
    assert_says!(&said, "teacher-00000.safetensors", "not what was written");
}

#[test]
fn a_cache_of_something_else_is_refused_by_name() {
    let workshop = workshop();
    let said = workshop.fail(&with(&["train", "recipe.toml"], &[&LIVE, &CACHED]));
    assert_says!(&said, "there is no teacher's cache in kept", "firebrand distill cache RECIPE");
    workshop.succeed(&with(&["distill", "cache", "recipe.toml"], &[&LIVE, &CACHED]));
    let refused = |more: &[&str], name: &str| {
        for command in [vec!["train", "recipe.toml"], vec!["check", "recipe.toml"]] {
            let said = workshop.fail(&with(&command, &[&CACHED, more]));
            assert_says!(&said, "kept", "made from something else", name);
        }
    };
    refused(&["--set", "objective.temperature=2"], "`temperature` is 1, the recipe's is 2");
    refused(&["--set", "objective.top_k=3"], "`top_k` is 64, the recipe's is 3");
    refused(&["--set", "dtype=bf16"], "`dtype` is f32, the recipe's is bf16");
    refused(&["--set", "objective.teacher=model"], "`teacher` is");
    refused(&["--set", "data.train_on=all"], "`data` is");
    let said =
        workshop.fail(&with(&["distill", "cache", "recipe.toml", "--set", "objective.top_k=3"], &[&LIVE, &CACHED]));
    assert_says!(&said, "kept holds the cache of something else", "`top_k`");
    // Where rows are packed and in which order they are visited changes nothing of what the teacher says of them.
    let others = ["--set", "data.packing=false", "--set", "seed=9", "--set", "train.batch_size=5"];
    workshop.succeed(&with(&["train", "recipe.toml"], &[&CACHED, &others]));
}

#[test]
fn check_tells_what_a_cache_costs_and_loses() {
    let workshop = workshop();
    let check = with(&["check", "recipe.toml", "--json", "--set", "objective.top_k=16"], &[&LIVE, &CACHED]);
    let report = |said: &str| serde_json::from_str::<Value>(said).unwrap()["teacher_cache"].clone();
    let before = report(&workshop.succeed(&check).stdout);
    let positions = before["positions"].as_u64().unwrap();
    assert_eq!(before["bytes"], positions * (16 * 6 + 2));
    assert_eq!(before["written"], false);
    let kept = |index: usize| (before["kept"][index]["top_k"].clone(), before["kept"][index]["probability"].as_f64());
    assert_eq!([kept(0).0, kept(1).0, kept(2).0], [json!(16), json!(4), json!(1)]);
    assert!(kept(0).1 > kept(1).1 && kept(1).1 > kept(2).1 && kept(0).1 < Some(1.0), "{before}");
    workshop.succeed(&with(&["distill", "cache", "recipe.toml", "--set", "objective.top_k=16"], &[&LIVE, &CACHED]));
    let size = fs::metadata(workshop.path("kept/teacher-00000.safetensors")).unwrap().len();
    assert!(size > before["bytes"].as_u64().unwrap() && size < before["bytes"].as_u64().unwrap() + 1000, "{size}");
    assert_eq!(report(&workshop.succeed(&check).stdout)["written"], true);
}

/// Writes the teacher with its tokens in another order, `rows[i]` at place `i`.
fn reordered(workshop: &Workshop, name: &str, rows: &[u32]) {
    let (from, to) = (workshop.path("teacher"), workshop.path(name));
    let mut model = Model::load(&from, Hold::F32, &Device::flex()).unwrap();
    model.select_vocabulary(rows).unwrap();
    fs::create_dir(&to).unwrap();
    model.save_weights(&to, Some(Dtype::F32), None).unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(from.join("tokenizer.json")).unwrap()).unwrap();
    for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = json!(rows.iter().position(|row| json!(row) == *id).unwrap());
    }
    fs::write(to.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

#[test]
fn a_teacher_with_the_same_tokens_in_another_order_teaches_the_same() {
    let workshop = workshop();
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "plain"], &[&LIVE]));
    // Special tokens stay where they are.
    let mut rows: Vec<u32> = (0..97).collect();
    rows[33..].rotate_left(7);
    reordered(&workshop, "rotated", &rows);
    workshop.succeed(&["train", "recipe.toml", "--output", "rotated-run", "--set", "objective.teacher=rotated"]);
    assert_near(&losses(&workshop, "rotated-run"), &losses(&workshop, "plain"), 1e-6);
    // So does one with more tokens: the student's are the only ones that are compared.
    workshop.succeed(&["enlarge", "--model", "teacher", "--add", "<image>", "--out", "larger"]);
    workshop.succeed(&["train", "recipe.toml", "--output", "larger-run", "--set", "objective.teacher=larger"]);
    assert_near(&losses(&workshop, "larger-run"), &losses(&workshop, "plain"), 1e-6);
}

#[test]
fn a_teacher_of_other_tokens_is_refused_by_the_first_that_differs() {
    let workshop = workshop();
    let path = workshop.path("teacher/tokenizer.json");
    let text = fs::read_to_string(&path).unwrap();
    let id = serde_json::from_str::<Value>(&text).unwrap()["model"]["vocab"]["q"].clone();
    fs::write(&path, text.replace("\"q\":", "\"ß\":")).unwrap();
    // Nothing is read: the weights are not even there.
    fs::remove_file(workshop.path("teacher/model.safetensors")).unwrap();
    let said = workshop.fail(&with(&["train", "recipe.toml"], &[&LIVE]));
    assert_says!(&said, &format!("token {id} is \"q\" for the student, \"ß\" for the teacher"), "objective.teacher");
    // Without tokenizers the numbers of tokens must agree.
    let llama = golden::path("llama-untied-biases").display().to_string();
    let said = workshop.fail(&["train", "recipe.toml", "--set", &format!("objective.teacher=\"{llama}\"")]);
    assert_says!(&said, "rows for 73 tokens and the student for 97", "the teacher has no tokenizer");
}

#[test]
fn teachers_that_are_not_there_are_refused_where_they_stand() {
    let workshop = workshop();
    let refused = |settings: &[&str], words: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        let said = workshop.fail(&with(&["train", "recipe.toml"], &[&settings]));
        words.iter().for_each(|word| assert_says!(&said, word));
    };
    refused(&[], &["distillation needs a teacher", "teacher = ", "cache = "]);
    refused(&["objective.teacher=nobody"], &["there is no model at nobody", "neither a folder nor a hub id"]);
    fs::create_dir(workshop.path("empty")).unwrap();
    refused(&["objective.teacher=empty"], &["there is no model in empty", "no config.json"]);
    let clip = format!("objective.teacher=\"{}\"", golden::path("towers/clip-quick-gelu").display());
    refused(&[&clip], &["predicts no tokens"]);
    refused(
        &["objective.teacher=teacher", "objective.loss=jsd", "objective.beta=0"],
        &["`jsd` is 0 there", "forward_kl"],
    );
    refused(
        &["objective.teacher=teacher", "objective.loss=jsd", "objective.beta=1"],
        &["`jsd` is 0 there", "reverse_kl"],
    );
    refused(&["objective.teacher=teacher", "objective.temperature=0"], &["`objective.temperature`", "above 0"]);
    refused(&["objective.cache=kept", "objective.on_policy=0.5"], &["answers that the student has yet to write"]);
    refused(&["objective.cache=kept", "objective.hidden_weight=1"], &["a cache holds no hidden states"]);
    refused(
        &["objective.teacher=teacher", "objective.hidden_weight=1", "objective.hidden_layers=[[0, 9]]"],
        &["block 9 of a teacher with 2 blocks"],
    );
    let said = workshop.fail(&with(&["distill", "cache", "recipe.toml"], &[&LIVE]));
    assert_says!(&said, "no folder is named for the cache");
    let said = workshop.fail(&with(&["distill", "cache", "recipe.toml"], &[&CACHED]));
    assert_says!(&said, "no teacher is named");
}

#[test]
fn a_quantized_teacher_says_nearly_the_same() {
    let workshop = workshop();
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "plain"], &[&LIVE]));
    for (run, how) in [("word", "\"int8\""), ("keys", "{kind=\"int8\",block=64}"), ("four", "\"nf4\"")] {
        let quantized = format!("objective.teacher_quantization={how}");
        workshop.succeed(&with(&["train", "recipe.toml", "--output", run, "--set", &quantized], &[&LIVE]));
    }
    let [plain, word, keys, four] = ["plain", "word", "keys", "four"].map(|run| losses(&workshop, run));
    assert_eq!(word, keys);
    assert_near(&word, &plain, 1e-2);
    assert_near(&four, &plain, 1e-1);
    assert!(word != plain && four != word);
}

#[test]
fn answers_of_the_student_depend_on_seed_and_step_alone() {
    let workshop = workshop();
    let on = ["--set", "objective.on_policy=0.5", "--set", "checkpoint={every=1,keep=9}", "--set", "train.steps=4"];
    let run = |output: &str, more: &[&str]| {
        workshop.succeed(&with(&["train", "recipe.toml", "--output", output], &[&LIVE, &on, more]));
    };
    run("whole", &[]);
    run("again", &[]);
    run("parts", &[]);
    let resumed = with(&["train", "recipe.toml", "--output", "parts", "--resume", "checkpoint-2"], &[&LIVE, &on]);
    workshop.succeed(&resumed);
    let end = |run: &str| workshop.read(&format!("{run}/adapter/adapter_model.safetensors"));
    assert!(end("whole") == end("again") && end("whole") == end("parts"));
    // Neither the split nor the packs change which answers are written: each row is drawn for by itself.
    run("split", &["--set", "train.micro_batch_size=1"]);
    assert_near(&losses(&workshop, "split"), &losses(&workshop, "whole"), 1e-5);
    run("blocks", &["--set", "train.recompute=blocks"]);
    assert_near(&losses(&workshop, "blocks"), &losses(&workshop, "whole"), 1e-5);
    workshop.succeed(&with(&["train", "recipe.toml", "--output", "off"], &[&LIVE]));
    assert!(losses(&workshop, "off")[0] != losses(&workshop, "whole")[0]);
    // Only what was not written counts in the cross-entropy.
    run("all", &["--set", "objective.on_policy=1"]);
    for step in steps(&workshop, "all") {
        assert_eq!(step["distill/ce"], 0.0);
        assert!(step["distill/divergence"].as_f64().unwrap() > 0.0);
    }
}

/// The learned maps of hidden states are part of a run: a resume goes on with them.
#[test]
fn learned_maps_of_hidden_states_are_resumed() {
    let case = golden::path("trajectory-distill-projected-lora").join("recipe.toml").display().to_string();
    let workshop = Workshop::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let run = |output: &str, more: &[&str]| {
        let output = workshop.path(output).display().to_string();
        let settings = ["train", &case, "--output", &output, "--set", "checkpoint={every=1,keep=9}"];
        let said = workshop.command(&with(&settings, &[more])).current_dir(elsewhere.path()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    run("whole", &[]);
    run("parts", &[]);
    run("parts", &["--resume", "checkpoint-2"]);
    for file in [
        "checkpoint-6/projections.safetensors",
        "checkpoint-6/optimizer.safetensors",
        "adapter/adapter_model.safetensors",
    ] {
        assert!(workshop.read(&format!("whole/{file}")) == workshop.read(&format!("parts/{file}")), "{file}");
    }
    let end = workshop.read("whole/checkpoint-6/projections.safetensors");
    assert!(end != workshop.read("whole/checkpoint-1/projections.safetensors"), "the maps learn");
    // The first block is frozen, and its map learns where blocks are recomputed too.
    equals_the_reference("trajectory-distill-projected-lora", &["train.recompute=blocks"]);
    equals_the_reference("trajectory-distill-projected-full", &["train.recompute=blocks", "train.micro_batch_size=1"]);
}

#[test]
fn a_run_does_not_go_on_with_another_teacher() {
    let workshop = workshop();
    workshop.succeed(&with(&["train", "recipe.toml"], &[&LIVE]));
    copy(&workshop.path("teacher"), &workshop.path("moved"));
    let more = ["--resume", "--set", "train.steps=4"];
    workshop.succeed(&with(&["train", "recipe.toml", "--set", "objective.teacher=moved"], &[&more]));
    let said = workshop.fail(&[
        "train",
        "recipe.toml",
        "--resume",
        "--set",
        "train.steps=5",
        "--set",
        "objective.teacher=model",
    ]);
    assert_says!(&said, "teacher changed");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Every method of training, packed and not: no split of a step changes its losses, nor does recomputation.
#[test]
fn every_method_distils() {
    let workshop = workshop();
    let full = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    let (start, end) = (full.find("[adapter]").unwrap(), full.find("[data]").unwrap());
    workshop.write("full.toml", &format!("{}{}", &full[..start], &full[end..]));
    let qlora: &[&str] = &["--set", "quantization.kind=nf4"];
    let dora: &[&str] = &["--set", "adapter.kind=dora"];
    let loose: &[&str] = &["--set", "data.packing=false", "--set", "train.batch_size=4"];
    for (index, (recipe, how)) in
        [("recipe.toml", qlora), ("recipe.toml", dora), ("full.toml", &[]), ("full.toml", loose)]
            .into_iter()
            .enumerate()
    {
        let runs = ["whole", "ones", "again"].map(|name| format!("{name}-{index}"));
        let more = [[].as_slice(), &["--set", "train.micro_batch_size=1"], &["--set", "train.recompute=blocks"]];
        for (run, more) in runs.iter().zip(more) {
            workshop.succeed(&with(&["train", recipe, "--output", run], &[&LIVE, how, more]));
        }
        let [whole, ones, again] = runs.map(|run| losses(&workshop, &run));
        assert_near(&ones, &whole, 1e-5);
        assert_near(&again, &whole, 1e-5);
        assert!(whole.last() < whole.first(), "{how:?}: {whole:?}");
    }
}

/// Of every family, full and adapted, quantized or not: beside its own base as the teacher, the cross-entropy of the first step is the
/// loss of the reference's fine-tuning, and no split of a step changes the divergence.
#[test]
fn every_family_distils() {
    let cases = golden::folders("trajectory-").into_iter().filter(|case| !case.contains("distill"));
    let cases: Vec<String> = cases.filter(|case| !recipe_of(case).contains("[objective]")).collect();
    assert!(cases.len() > 50, "{cases:?}");
    golden::each(&cases, |case| {
        let recipe = recipe_of(case);
        let base = recipe.lines().next().unwrap().trim_start_matches("model = ").to_string();
        let teacher = format!("objective.teacher={base}");
        let settings = ["objective.kind=distill", &teacher, "objective.temperature=2", "objective.loss=reverse_kl"];
        let run = |more: &[&str]| {
            let all = [settings.as_slice(), &["train.epochs=1", "log.tensorboard=false"], more].concat();
            train(&golden::path(case).join("recipe.toml"), &all).unwrap_or_else(|error| panic!("{case}: {error}")).steps
        };
        let (whole, ones) = (run(&[]), run(&["train.micro_batch_size=1"]));
        let expected = golden::json(&format!("{case}/expected.json"))["steps"][0]["loss"].as_f64().unwrap();
        assert_near(&[whole[0].parts.get("distill/ce").unwrap()], &[expected], 1e-5);
        for name in ["distill/ce", "distill/divergence"] {
            let of = |steps: &[StepReport]| steps.iter().map(|step| step.parts.get(name).unwrap()).collect::<Vec<_>>();
            let apart = of(&whole).iter().zip(of(&ones)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 2e-5, "{case}: {name} differs by {apart} between splits");
        }
    });
}

fn recipe_of(case: &str) -> String {
    fs::read_to_string(golden::path(case).join("recipe.toml")).unwrap()
}

/// The recipe of the README: the student ends lower than where it began, and lower than one that learned from labels alone.
#[test]
fn the_recipe_distils() {
    let workshop = Workshop::new();
    let path = |name: &str| workshop.path(name).display().to_string();
    let run = |arguments: &[&str]| {
        let said = workshop.command(arguments).current_dir(repository()).output().unwrap();
        assert!(said.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&said.stderr));
    };
    run(&["student", "--model", "configs/models/spark-2m", "--every", "2", "--out", &path("half")]);
    let model = format!("model=\"{}\"", path("half"));
    let ends = ["objective.alpha=0.5", "objective.alpha=0"].map(|alpha| {
        let output = path(alpha);
        run(&["train", "recipes/objectives/distill.toml", "--set", &model, "--set", alpha, "--output", &output]);
        let rows = workshop.read_rows(&format!("{alpha}/metrics.jsonl"));
        rows.iter().filter_map(|row| row["eval_loss"].as_f64()).collect::<Vec<_>>()
    });
    let [distilled, labels] = ends;
    assert_eq!(distilled[0], labels[0]);
    assert!(distilled[2] < 0.85 * distilled[0], "{distilled:?}");
    assert!(distilled[2] < 0.97 * labels[2], "{distilled:?} {labels:?}");
}
