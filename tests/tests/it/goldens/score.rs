//! `score` and `eval` against the reference, through the library and the program.

use std::fs;
use std::path::Path;

use clap::Parser;
use firebrand::cli::{Cli, Command};
use firebrand::inference::LoadedModel;
use firebrand::inference::{Scored, score};
use firebrand_tests::golden;
use serde_json::Value;

use crate::program::firebrand;

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The arguments of a command on the golden's rows.
fn arguments(verb: &str, adapter: bool) -> Vec<String> {
    let golden = golden::json("score/eval.json");
    let folder = |key: &str| golden::path("score").join(golden[key].as_str().unwrap()).display().to_string();
    let mut arguments = vec![verb.to_string(), "--model".into(), folder("model")];
    arguments.extend(["--data".into(), golden::path("score/rows.jsonl").display().to_string()]);
    if adapter {
        arguments.extend(["--adapter".into(), folder("adapter")]);
    }
    arguments
}

fn assert_row(ours: &Value, theirs: &Value) {
    assert_eq!(ours["tokens"], theirs["tokens"]);
    let numbers = |row: &Value| -> Vec<f64> {
        row["logprobs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let (left, right) = (numbers(ours), numbers(theirs));
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        // Sums of a few hundred f32 products, in logits of about 10.
        assert!((left - right).abs() < 5e-5, "{left} {right}");
    }
    // A mask here, the ids with -100 there.
    let trained: Vec<bool> =
        theirs["labels"].as_array().unwrap().iter().map(|label| label.as_i64().unwrap() != -100).collect();
    assert_eq!(ours["labels"], serde_json::json!(trained));
    match (ours["loss"].as_f64(), theirs["loss"].as_f64()) {
        (Some(left), Some(right)) => assert!((left - right).abs() < 1e-5 * right, "{left} {right}"),
        (left, right) => assert_eq!(left, right),
    }
}

#[test]
fn scores_equal_the_reference() {
    for (adapter, expected) in [(false, "base"), (true, "adapted")] {
        let expected = lines(&golden::path("score").join(format!("{expected}.jsonl")));
        let mut words = vec!["firebrand".to_string()];
        words.extend(arguments("score", adapter));
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("scores.jsonl");
        words.extend(["--out".into(), file.display().to_string()]);

        let Command::Score(parsed) = Cli::parse_from(&words).command else { panic!("score") };
        let loaded = LoadedModel::new(&parsed.model, &parsed.rows.template).unwrap();
        let rows = loaded.rows(&[parsed.data.display().to_string()], &parsed.rows).unwrap();
        let library: Vec<Scored> =
            rows.examples().map(|row| score(&loaded.model, &rows, &row.unwrap()).unwrap()).collect();
        let library: Vec<String> = library.iter().map(|row| serde_json::to_string(row).unwrap()).collect();

        let run = firebrand().args(&words[1..]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), library, "the library and the program say the same");
        let program = lines(&file);
        assert_eq!(program.len(), expected.len());
        program.iter().zip(&expected).for_each(|(ours, theirs)| assert_row(ours, theirs));
    }
}

#[test]
fn eval_equals_the_reference() {
    let golden = golden::json("score/eval.json");
    for (adapter, expected) in [(false, "base"), (true, "adapted")] {
        let expected = &golden[expected];
        for batch_size in ["1", "3", "64"] {
            let run =
                firebrand().args(arguments("eval", adapter)).args(["--json", "--batch-size", batch_size]).output();
            let run = run.unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let ours: Value = serde_json::from_slice(&run.stdout).unwrap();
            let near = |ours: &Value, theirs: &Value| {
                let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
                assert!((ours - theirs).abs() < 1e-5 * theirs, "{ours} {theirs}");
            };
            near(&ours["loss"], &expected["loss"]);
            // e to the loss makes its error as many times larger as the loss is.
            near(&ours["perplexity"].as_f64().unwrap().ln().into(), &expected["loss"]);
            near(&ours["token_accuracy"], &expected["accuracy"]);
            assert_eq!(ours["tokens"], expected["labelled_tokens"]);
        }
    }
}
