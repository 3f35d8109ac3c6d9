//! Computing in bf16, as users meet it: what the recipe decides, what stays the same bytes, and what is refused.

use firebrand_kernels::InstructionSet;
use serde_json::Value;

use crate::workshop::{Said, Workshop, assert_says};

/// Runs the program with an instruction set.
fn with_instructions(workshop: &Workshop, set: &str, arguments: &[&str]) -> Said {
    let output = workshop.command(arguments).env("FIREBRAND_CPU", set).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn losses(workshop: &Workshop, run: &str) -> Vec<f64> {
    let lines = workshop.read_rows(&format!("{run}/metrics.jsonl"));
    lines.iter().filter_map(|line: &Value| line["loss"].as_f64()).collect()
}

fn recipe(workshop: &Workshop, run: &str) -> String {
    String::from_utf8(workshop.read(&format!("{run}/recipe.toml"))).unwrap()
}

#[test]
fn each_instruction_set_computes_near_f32_and_says_what_it_did() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml", "--output", "f32"]);
    let expected = losses(&workshop, "f32");
    for set in InstructionSet::available() {
        for (dtype, bound) in [("f32", 1e-5), ("bf16", 1e-2)] {
            let run = format!("{}-{dtype}", set.name());
            let key = format!("dtype={dtype}");
            let said =
                with_instructions(&workshop, set.name(), &["train", "recipe.toml", "--output", &run, "--set", &key]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            assert_says!(&said.stdout, "GiB at most, planned 0.0");
            let found = losses(&workshop, &run);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < bound * expected, "{run}: {found} instead of {expected}");
            }
            assert_eq!(dtype == "f32", found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * b), "{run}");
            assert_says!(&recipe(&workshop, &run), &format!("dtype = \"{dtype}\""));
            let host: Value = serde_json::from_slice(&workshop.read(&format!("{run}/run.json"))).unwrap();
            assert_eq!(host["host"]["instructions"], set.name(), "{host}");
        }
    }
}

#[test]
fn auto_takes_bf16_where_there_are_instructions_for_it() {
    let workshop = Workshop::new();
    for set in InstructionSet::available() {
        let run = format!("auto-{}", set.name());
        let arguments = ["train", "recipe.toml", "--output", &run, "--set", "dtype=auto"];
        assert_eq!(with_instructions(&workshop, set.name(), &arguments).code, Some(0));
        let found = if set.multiplies_bf16() { "bf16" } else { "f32" };
        assert!(recipe(&workshop, &run).lines().any(|line| line == format!("dtype = \"{found}\"")), "{run}");
    }
}

/// `eval`, and with it `score` and `generate`, compute in f32 if nothing is said, and in bf16 near to it.
#[test]
fn commands_without_a_recipe_compute_in_what_they_are_told() {
    let workshop = Workshop::new();
    let loss = |dtype: &[&str]| -> f64 {
        let arguments = ["eval", "--model", "model", "--data", "data.jsonl", "--device", "cpu", "--json"];
        let said = workshop.succeed(&[&arguments[..], dtype].concat());
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        report["loss"].as_f64().unwrap()
    };
    let (plain, f32, bf16) = (loss(&[]), loss(&["--dtype", "f32"]), loss(&["--dtype", "bf16"]));
    assert_eq!(plain, f32);
    assert!(bf16 != f32 && (bf16 - f32).abs() < 1e-2 * f32, "{bf16} instead of {f32}");
    let auto = InstructionSet::chosen().unwrap().multiplies_bf16();
    assert_eq!(loss(&["--dtype", "auto"]), if auto { bf16 } else { f32 });
    let said = workshop.run(&["eval", "--model", "model", "--data", "data.jsonl", "--dtype", "fp8"]);
    assert_eq!(said.code, Some(2));
    assert_says!(&said.stderr, "fp8", "bf16");
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused_by_name() {
    let workshop = Workshop::new();
    for command in [["train", "recipe.toml"], ["inspect", "model"]] {
        let said = with_instructions(&workshop, "sse2", &command);
        assert_eq!(said.code, Some(1));
        assert_says!(&said.stderr, "FIREBRAND_CPU is `sse2`", "portable", "unset FIREBRAND_CPU");
    }
}

/// A run that was ended goes on with the same bytes, of adapters and of whole models, whatever the number of threads.
#[test]
fn a_run_in_bf16_resumes_to_the_same_bytes() {
    let workshop = Workshop::new();
    let whole = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    let (start, end) = (whole.find("[adapter]").unwrap(), whole.find("[data]").unwrap());
    workshop.write("full.toml", &format!("{}{}", &whole[..start], &whole[end..]));
    for (recipe, weights) in
        [("recipe.toml", "adapter/adapter_model.safetensors"), ("full.toml", "model/model.safetensors")]
    {
        let run = |output: &str, threads: &str, more: &[&str]| {
            let settings = ["--set", "dtype=bf16", "--set", "train.steps=4", "--set", "checkpoint={every=2,keep=9}"];
            let arguments = [&["train", recipe, "--output", output], &settings[..], more].concat();
            let said = workshop.command(&arguments).env("RAYON_NUM_THREADS", threads).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            workshop.read(&format!("{output}/{weights}"))
        };
        let name = |part: &str| format!("{part}-{}", &recipe[..4]);
        let expected = run(&name("whole"), "1", &[]);
        assert!(expected == run(&name("parts"), "3", &[]), "{recipe}: other bytes with three threads");
        assert!(
            expected == run(&name("parts"), "2", &["--resume", "checkpoint-2"]),
            "{recipe}: other bytes after a resume"
        );
    }
}
