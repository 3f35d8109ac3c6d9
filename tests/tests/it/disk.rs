//! A disk that takes no more: one clear message, and nothing that was whole before is lost.
#![cfg(unix)]

use firebrand::run::Checkpoints;

use crate::workshop::{RECIPE, Said, Workshop, words};

/// Arguments of `train` under a shell that lets no file grow beyond `blocks` of half a KiB or one, depending on the shell.
fn train_with_little_space(workshop: &Workshop, blocks: u32, arguments: &str) -> Said {
    let program = workshop.command(&[]).get_program().to_owned();
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" train recipe.toml {arguments}");
    let mut shell = std::process::Command::new("sh");
    shell
        .current_dir(workshop.path(""))
        .env("FIREBRAND_CACHE", workshop.path("cache"))
        .env("NO_COLOR", "1")
        .arg("-c")
        .arg(script)
        .arg(program);
    Said::from(shell.output().unwrap())
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let before = workshop.read("run/checkpoint-3/adapter_model.safetensors");
    let said = train_with_little_space(&workshop, 4, "--resume --set train.steps=6");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let message = words(&said.stderr);
    assert!(message.contains("safetensors") && message.contains("File too large"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    let names: Vec<String> = workshop.list("run").into_iter().filter(|name| name.starts_with("checkpoint")).collect();
    assert_eq!(names, ["checkpoint-3"], "nothing half written stays");
    assert_eq!(Checkpoints::new(&workshop.path("run")).newest_whole().unwrap().checkpoint.unwrap().step, 3);
    assert!(workshop.read("run/checkpoint-3/adapter_model.safetensors") == before);
    // With space again the run goes on, and its log reads as one.
    workshop.succeed(&["train", "recipe.toml", "--resume", "--set", "train.steps=6"]);
    let steps: Vec<u64> =
        workshop.read_rows("run/metrics.jsonl").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn an_export_that_cannot_be_written_keeps_the_checkpoints() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &format!("{RECIPE}[export]\nmerge = true\n"));
    // The adapter and its moments fit, the merged model does not.
    let said = train_with_little_space(&workshop, 100, "");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let message = words(&said.stderr);
    assert!(message.contains("model.safetensors") && message.contains("File too large"), "{message}");
    assert_eq!(Checkpoints::new(&workshop.path("run")).newest_whole().unwrap().checkpoint.unwrap().step, 3);
    let names = workshop.list("run");
    assert!(!names.iter().any(|name| name == "model" || name.contains(".writing")), "{names:?}");
    workshop.succeed(&["train", "recipe.toml", "--resume"]);
    assert!(workshop.path("run/model/model.safetensors").exists(), "a resume finishes what was left to do");
}
