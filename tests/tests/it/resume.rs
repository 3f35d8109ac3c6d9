//! Runs that are interrupted end with the same bytes as runs that are not.
#![cfg(unix)]

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::workshop::{RECIPE, Said, Workshop, assert_says, words};

const STEPS: u64 = 24;
const ADAPTER: &str = "adapter/adapter_model.safetensors";

/// A run with everything that must be restored: dropout, shuffling, moments, a schedule, evaluations.
fn workshop(packing: bool) -> Workshop {
    let workshop = Workshop::new();
    let recipe = RECIPE
        .replace("alpha = 4.0", "alpha = 4.0\ndropout = 0.1")
        .replace("steps = 3\nbatch_size = 2", &format!("steps = {STEPS}\nbatch_size = 4\nmicro_batch_size = 2"))
        .replace(
            "[data]",
            &format!("[eval]\nevery = 5\n[checkpoint]\nevery = 1\nkeep = 3\n[data]\npacking = {packing}"),
        )
        .replace("[train]", "[[data.eval]]\npath = \"eval.jsonl\"\n[train]")
        .replace("kind = \"constant\"\nwarmup_steps = 0", "kind = \"cosine\"\nwarmup_steps = 4");
    workshop.write("recipe.toml", &recipe);
    workshop.write_rows("eval.jsonl", &(20..24).map(crate::workshop::chat_row).collect::<Vec<_>>());
    workshop
}

/// Writes `recipe.toml` without its adapter.
fn write_full(workshop: &Workshop, name: &str) {
    let recipe = std::fs::read_to_string(workshop.path("recipe.toml")).unwrap();
    let adapter = recipe.find("[adapter]").unwrap();
    let rest = recipe.find("[eval]").unwrap();
    workshop.write(name, &format!("{}{}", &recipe[..adapter], &recipe[rest..]));
}

/// What of the log must not depend on interruptions: everything but the times.
fn log(workshop: &Workshop, output: &str) -> Vec<Value> {
    let mut lines = workshop.read_rows(&format!("{output}/metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("elapsed_seconds");
        line.remove("tokens_per_second");
    }
    lines
}

fn assert_same_run(workshop: &Workshop, left: &str, right: &str) {
    assert_eq!(log(workshop, left), log(workshop, right), "the log reads as one run");
    for file in [
        ADAPTER.to_string(),
        format!("checkpoint-{STEPS}/adapter_model.safetensors"),
        format!("checkpoint-{STEPS}/optimizer.safetensors"),
    ] {
        let same = workshop.read(&format!("{left}/{file}")) == workshop.read(&format!("{right}/{file}"));
        assert!(same, "{file} has other bytes");
    }
    let rest: Vec<String> = workshop.list(right).into_iter().filter(|name| name.contains(".tmp")).collect();
    assert!(rest.is_empty(), "left behind: {rest:?}");
}

/// Waits until the run has logged so many lines, or ended.
fn wait_for_lines(workshop: &Workshop, child: &mut Child, lines: usize) {
    let path = workshop.path("run/metrics.jsonl");
    let begin = Instant::now();
    while std::fs::read(&path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()) < lines {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "the run makes no progress");
        sleep(Duration::from_micros(300));
    }
}

/// Moments without a pattern, the same ones in every run of the test.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Row 9.
#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    for packing in [true, false] {
        let workshop = workshop(packing);
        workshop.succeed(&["train", "recipe.toml", "--output", "whole"]);
        let mut moments = Moments(if packing { 1 } else { 2 });
        let (mut kills, mut arguments) = (0, vec!["train", "recipe.toml"]);
        while kills < 5 {
            let mut child = workshop.start(&arguments);
            // A checkpoint is there once the second step is logged; then any moment will do.
            let lines = std::fs::read_to_string(workshop.path("run/metrics.jsonl")).unwrap_or_default().lines().count();
            wait_for_lines(&workshop, &mut child, (lines.max(1) as u64 + moments.below(4) + 1) as usize);
            sleep(Duration::from_micros(moments.below(15_000)));
            child.kill().unwrap();
            let said = Said::from(child.wait_with_output().unwrap());
            if said.code == Some(0) {
                break;
            }
            assert_eq!(said.code, None, "{}", said.stderr);
            kills += 1;
            arguments = vec!["train", "recipe.toml", "--resume"];
        }
        assert!(kills >= 2, "the run was over too soon to be killed");
        workshop.succeed(&["train", "recipe.toml", "--resume"]);
        assert_same_run(&workshop, "whole", "run");
    }
}

#[test]
fn ctrl_c_finishes_the_step_writes_a_checkpoint_and_says_how_to_go_on() {
    let workshop = workshop(true);
    let slow = ["--set", "checkpoint.every=1000"];
    workshop.succeed(&[&["train", "recipe.toml", "--output", "whole"], &slow[..]].concat());
    let mut child = workshop.start(&[&["train", "recipe.toml"], &slow[..]].concat());
    wait_for_lines(&workshop, &mut child, 3);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{}", said.stderr);
    let line = said.stderr.lines().find(|line| line.contains("continue with: firebrand ")).unwrap();
    let command: Vec<&str> = line.split_once("firebrand ").unwrap().1.split_whitespace().collect();
    assert_eq!(command, ["train", "run/recipe.toml", "--resume"]);
    let written: Vec<String> =
        workshop.list("run").into_iter().filter(|name| name.starts_with("checkpoint-")).collect();
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(!workshop.path("run/adapter").exists());
    workshop.succeed(&command);
    assert_same_run(&workshop, "whole", "run");
}

#[test]
fn a_run_goes_on_from_any_checkpoint_that_is_named() {
    let workshop = workshop(true);
    let keep = ["--set", "checkpoint.keep=100"];
    workshop.succeed(&[&["train", "recipe.toml", "--output", "whole"], &keep[..]].concat());
    workshop.succeed(&[&["train", "recipe.toml"], &keep[..]].concat());
    for checkpoint in ["checkpoint-7", "run/checkpoint-20"] {
        let resume = [&["train", "recipe.toml", "--resume", checkpoint], &keep[..]].concat();
        workshop.succeed(&resume);
        assert_same_run(&workshop, "whole", "run");
    }
    let message = workshop.fail(&["train", "recipe.toml", "--resume", "checkpoint-99"]);
    assert_says!(message, "checkpoint-99");
}

#[test]
fn every_method_resumes_to_the_same_bytes() {
    let workshop = workshop(true);
    let recipe = std::fs::read_to_string(workshop.path("recipe.toml")).unwrap();
    let (before, after) = (&recipe[..recipe.find("[adapter]").unwrap()], &recipe[recipe.find("[eval]").unwrap()..]);
    for (name, section) in [
        ("dora", "kind = \"dora\"\nrank = 2\nalpha = 4.0\ndropout = 0.1"),
        ("ia3", "kind = \"ia3\"\nfeedforward = [\"down_proj\"]\nmodules_to_save = [\"lm_head\"]"),
        ("saved", "kind = \"lora\"\nrank = 2\nmodules_to_save = [\"embed_tokens\", \"norm\"]\nbias = \"all\""),
        (
            "kept",
            "kind = \"lora\"\nrank = 2\nmodules_to_save = [\"lm_head\"]\nensure_weight_tying = true\n[quantization]\nkind = \"nf4\"",
        ),
        ("tables", "kind = \"lora\"\nrank = 2\ndropout = 0.1\ntargets = [\"embed_tokens\", \"lm_head\", \"v_proj\"]"),
        ("pissa", "kind = \"lora\"\nrank = 2\nalpha = 4.0\ninit = \"pissa\""),
        ("loftq", "kind = \"lora\"\nrank = 2\ninit = \"loftq\"\n[quantization]\nkind = \"nf4\""),
        // The base is quantized anew when the run goes on.
        ("qlora", "kind = \"lora\"\nrank = 2\ndropout = 0.1\n[quantization]\nkind = \"nf4\""),
        ("qdora", "kind = \"dora\"\nrank = 2\n[quantization]\nkind = \"int8\"\nblock = 32"),
    ] {
        workshop.write("recipe.toml", &format!("{before}[adapter]\n{section}\n\n{after}"));
        let (whole, run) = (format!("{name}-whole"), format!("{name}-run"));
        workshop.succeed(&["train", "recipe.toml", "--output", &whole]);
        workshop.succeed(&["train", "recipe.toml", "--output", &run]);
        let checkpoint = format!("{run}/checkpoint-{}", STEPS - 2);
        workshop.succeed(&["train", "recipe.toml", "--output", &run, "--resume", &checkpoint]);
        assert_same_run(&workshop, &whole, &run);
    }
}

/// Row 17.
#[test]
fn a_broken_checkpoint_is_passed_over_and_says_why() {
    let workshop = workshop(true);
    workshop.succeed(&["train", "recipe.toml", "--output", "whole"]);
    workshop.succeed(&["train", "recipe.toml"]);
    // Half written, cut off in the middle of a file, and one bit flipped.
    std::fs::create_dir(workshop.path("run/checkpoint-99")).unwrap();
    workshop.write("run/checkpoint-99/adapter_model.safetensors", "half");
    std::fs::create_dir(workshop.path("run/checkpoint-98.tmp-1")).unwrap();
    let path = workshop.path(&format!("run/checkpoint-{STEPS}/optimizer.safetensors"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let path = workshop.path(&format!("run/checkpoint-{}/adapter_model.safetensors", STEPS - 1));
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let said = workshop.succeed(&["train", "recipe.toml", "--resume"]);
    let message = words(&said.stderr);
    assert_says!(
        &message,
        "checkpoint-99 passed over: it has no manifest.json",
        &format!("checkpoint-{STEPS} passed over: optimizer.safetensors has"),
        &format!("checkpoint-{} passed over: the content of adapter_model.safetensors changed", STEPS - 1),
    );
    assert_same_run(&workshop, "whole", "run");

    let named = format!("checkpoint-{STEPS}");
    std::fs::remove_file(workshop.path(&format!("run/{named}/manifest.json"))).unwrap();
    assert_says!(workshop.fail(&["train", "recipe.toml", "--resume", &named]), &named, "manifest.json");
}

#[test]
fn resuming_refuses_what_is_not_the_same_run() {
    let workshop = workshop(true);
    assert_says!(workshop.fail(&["train", "recipe.toml", "--resume"]), "run", "no run to resume");
    workshop.succeed(&["train", "recipe.toml"]);
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "not empty", "--resume");
    let other = ["train", "recipe.toml", "--resume", "--set", "seed=8"];
    assert_says!(workshop.fail(&other), "seed 7", "checkpoint-24");
    let other = ["train", "recipe.toml", "--resume", "--set", "adapter.rank=3"];
    assert_says!(workshop.fail(&other), "adapter.rank 2 -> 3", "init_from");
    // A finished run has nothing left to do, and does not lose what it has.
    let before = workshop.read(&format!("run/{ADAPTER}"));
    workshop.succeed(&["train", "recipe.toml", "--resume"]);
    assert!(workshop.read(&format!("run/{ADAPTER}")) == before);
}

#[test]
fn a_full_run_resumes_to_the_same_bytes() {
    let workshop = workshop(true);
    write_full(&workshop, "recipe.toml");
    workshop.succeed(&["train", "recipe.toml", "--output", "whole"]);
    let mut child = workshop.start(&["train", "recipe.toml"]);
    wait_for_lines(&workshop, &mut child, 6);
    child.kill().unwrap();
    child.wait().unwrap();
    workshop.succeed(&["train", "recipe.toml", "--resume"]);
    assert_eq!(log(&workshop, "whole"), log(&workshop, "run"));
    assert!(workshop.read("whole/model/model.safetensors") == workshop.read("run/model/model.safetensors"));
}

/// Settings of every optimiser but AdamW, which the other tests have, each with all the state it can have.
const OPTIMIZERS: [&str; 6] = [
    "{kind=\"adamw-8bit\",learning_rate=1e-2,weight_decay=0.1,min_8bit_size=40}",
    "{kind=\"adafactor\",learning_rate=1e-2,beta1=0.9,scale_parameter=true}",
    "{kind=\"adafactor\",learning_rate=\"relative\"}",
    "{kind=\"lion\",learning_rate=1e-3,weight_decay=0.1}",
    "{kind=\"muon\",learning_rate=1e-2,adamw={learning_rate=1e-3}}",
    "{kind=\"sgd\",learning_rate=1e-2,momentum=0.9,nesterov=true}",
];

#[test]
fn every_optimizer_resumes_to_the_same_bytes() {
    let workshop = workshop(true);
    write_full(&workshop, "full.toml");
    let adapter = ("recipe.toml", "adapter.loraplus_lr_ratio=4.0", "adapter_model.safetensors");
    for (recipe, setting, weights) in [adapter, ("full.toml", "seed=7", "model.safetensors")] {
        for (index, optimizer) in OPTIMIZERS.iter().enumerate() {
            let (whole, parts) = (format!("{recipe}-{index}-whole"), format!("{recipe}-{index}-parts"));
            let optimizer = format!("optimizer={optimizer}");
            let mut settings = vec!["--set", &optimizer, "--set", setting, "--set", "train.steps=6"];
            settings.extend(["--set", "checkpoint.keep=100", "--set", "schedule={kind=\"constant\",warmup_steps=0}"]);
            let run = |output: &str, more: &[&str]| {
                workshop.succeed(&[&["train", recipe, "--output", output], &settings[..], more].concat());
            };
            run(&whole, &[]);
            run(&parts, &[]);
            run(&parts, &["--resume", "checkpoint-3"]);
            for step in [4, 6] {
                for file in ["optimizer.safetensors", weights] {
                    let file = format!("checkpoint-{step}/{file}");
                    let same = workshop.read(&format!("{whole}/{file}")) == workshop.read(&format!("{parts}/{file}"));
                    assert!(same, "{recipe}, {optimizer}: {file} has other bytes");
                }
            }
        }
    }
}

/// Settings of training that are drawn at random or keep a state of their own.
const SETTINGS: [&str; 3] = [
    "objective={kind=\"sft\",label_smoothing=0.1,z_loss=1e-3,neftune_alpha=5.0}",
    "train={steps=6,batch_size=4,micro_batch_size=2,ema=0.9}",
    "log={tensorboard=false,noise_scale=true}",
];
/// Those of full runs.
const SETTINGS_OF_FULL_RUNS: [&str; 2] = [
    "train={steps=6,batch_size=4,micro_batch_size=2,ema=0.9,freeze=[\"norm\",\"layers.1\"]}",
    "optimizer={kind=\"adamw\",learning_rate=1e-2,weight_decay=0.1,no_decay=true,layer_decay=0.7}",
];

#[test]
fn every_setting_of_training_resumes_to_the_same_bytes() {
    let workshop = workshop(true);
    write_full(&workshop, "full.toml");
    let adapter = ("recipe.toml", "adapter_model.safetensors", SETTINGS.to_vec());
    let full = ("full.toml", "model.safetensors", [&SETTINGS[..], &SETTINGS_OF_FULL_RUNS].concat());
    for (recipe, weights, settings) in [adapter, full] {
        for (index, setting) in settings.iter().enumerate() {
            let (whole, parts) = (format!("{recipe}-{index}-whole"), format!("{recipe}-{index}-parts"));
            let run = |output: &str, more: &[&str]| {
                let settings = ["--set", setting, "--set", "train.steps=6", "--set", "checkpoint.keep=100"];
                let settings = [&settings[..], &["--set", "schedule={kind=\"constant\",warmup_steps=0}"]].concat();
                workshop.succeed(&[&["train", recipe, "--output", output], &settings[..], more].concat());
            };
            run(&whole, &[]);
            run(&parts, &[]);
            run(&parts, &["--resume", "checkpoint-3"]);
            let average = setting.contains("ema=").then_some("ema.safetensors");
            for file in ["optimizer.safetensors", weights].into_iter().chain(average) {
                let file = format!("checkpoint-6/{file}");
                let same = workshop.read(&format!("{whole}/{file}")) == workshop.read(&format!("{parts}/{file}"));
                assert!(same, "{recipe}, {setting}: {file} has other bytes");
            }
            assert_eq!(log(&workshop, &whole), log(&workshop, &parts), "{recipe}, {setting}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_optimizer_is_refused() {
    let workshop = workshop(true);
    workshop.succeed(&["train", "recipe.toml", "--set", "train.steps=2"]);
    for optimizer in OPTIMIZERS {
        let other = format!("optimizer={optimizer}");
        let schedule = "schedule={kind=\"constant\",warmup_steps=0}";
        let resume = ["train", "recipe.toml", "--resume", "--set", "train.steps=2", "--set", &other, "--set", schedule];
        assert_says!(workshop.fail(&resume), "optimizer.safetensors", "checkpoint-2");
    }
}

#[test]
fn eight_bit_states_are_a_byte_a_value_in_files_and_in_the_plan() {
    let workshop = workshop(true);
    write_full(&workshop, "recipe.toml");
    let planned = |optimizer: &str| {
        let said = workshop.succeed(&["check", "recipe.toml", "--json", "--set", optimizer]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        (report["memory"]["optimizer"].as_u64().unwrap(), report["trained_parameters"].as_u64().unwrap())
    };
    let (bytes, trained) = planned("optimizer.kind=\"adamw\"");
    assert_eq!(bytes, trained * 8);
    let narrow = "optimizer={kind=\"adamw-8bit\",min_8bit_size=1}";
    let (bytes, _) = planned(narrow);
    // Two codes a value; two f32 a block of 256, of which a small tensor fills only a part.
    assert!(bytes >= trained * 2 && bytes < trained * 5 / 2, "{bytes} for {trained}");
    workshop.succeed(&["train", "recipe.toml", "--set", narrow, "--set", "train.steps=1"]);
    let file = workshop.read("run/checkpoint-1/optimizer.safetensors");
    let header = u64::from_le_bytes(file[..8].try_into().unwrap());
    assert_eq!(file.len() as u64 - 8 - header, bytes);
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let workshop = workshop(true);
    // Larger than the other tests' model, so that work is really shared between threads.
    let mut config: Value = serde_json::from_slice(&workshop.read("model/config.json")).unwrap();
    for (key, value) in [
        ("hidden_size", json!(128)),
        ("intermediate_size", json!(320)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(16)),
    ] {
        config[key] = value;
    }
    workshop.write("model/config.json", &config.to_string());
    let recipe = "model = \"model\"\noutput = \"run\"\ninit = \"random\"\n[data]\nmax_length = 256\n[[data.train]]\npath = \"data.jsonl\"\n[train]\nsteps = 3\nbatch_size = 2\n[schedule]\nkind = \"constant\"\nwarmup_steps = 0\n[log]\ntensorboard = false\n";
    workshop.write("recipe.toml", recipe);
    let rows: Vec<Value> = (0..60).map(crate::workshop::chat_row).collect();
    workshop.write_rows("data.jsonl", &rows);
    let run = |threads: &str, optimizer: &str| {
        let output = format!("threads-{threads}-{}", optimizer.replace(|letter: char| !letter.is_alphanumeric(), ""));
        let mut command = workshop.command(&["train", "recipe.toml", "--output", &output, "--set", optimizer]);
        let said = Said::from(command.env("RAYON_NUM_THREADS", threads).output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        workshop.read(&format!("{output}/model/model.safetensors"))
    };
    let one = run("1", "seed=42");
    for threads in ["2", "5"] {
        assert!(run(threads, "seed=42") == one, "{threads} threads give other bytes");
    }
    for optimizer in OPTIMIZERS {
        let optimizer = format!("optimizer={optimizer}");
        assert!(run("1", &optimizer) == run("3", &optimizer), "{optimizer}: 3 threads give other bytes");
    }
}
