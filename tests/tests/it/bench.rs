//! `firebrand bench`: what it reports and what it leaves.

use serde_json::Value;

use crate::workshop::{Workshop, assert_says};

const JSON: [&str; 6] = ["bench", "recipe.toml", "--steps", "3", "--json", "--trace"];

#[test]
fn steps_are_measured_by_phase_and_operation_and_nothing_is_written() {
    let workshop = Workshop::new();
    let before = workshop.list(".");
    let said = workshop.succeed(&[&JSON[..], &["trace.json"]].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["steps"].as_array().unwrap().len(), 3);
    assert!(report["tokens_per_second"].as_f64().unwrap() > 0.0 && report["tokens_per_step"].as_f64().unwrap() > 0.0);
    assert!(report["peak_memory"].is_u64() && report["planned_memory"].is_u64(), "{report}");
    let names = |key: &str| -> Vec<String> {
        let parts = report[key].as_array().unwrap().iter();
        parts.map(|part| part["name"].as_str().unwrap().to_owned()).collect()
    };
    for phase in ["batch", "forward", "backward", "gradient norm", "optimizer"] {
        assert!(names("phases").iter().any(|name| name == phase), "{phase} in {report}");
    }
    for operation in ["low_rank_linear", "low_rank_linear backward", "attention", "attention backward", "cross_entropy"]
    {
        assert!(names("operations").iter().any(|name| name == operation), "{operation} in {report}");
    }
    // Operations and what lies outside of them make the phases, and these the step.
    let sum =
        |key: &str| -> f64 { report[key].as_array().unwrap().iter().map(|part| part["share"].as_f64().unwrap()).sum() };
    assert!((sum("operations") - sum("phases")).abs() < 1e-6, "{report}");
    assert!((report["accounted"].as_f64().unwrap() - sum("phases")).abs() < 1e-6 && sum("phases") <= 1.0, "{report}");
    let trace: Value = serde_json::from_slice(&workshop.read("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let forward: Vec<_> = events.iter().filter(|event| event["name"] == "forward").collect();
    assert!(forward.len() >= 3 && forward.iter().all(|event| event["ph"] == "X" && event["dur"].as_f64() > Some(0.0)));
    // Prepared rows are kept, as by every command that reads rows.
    let ours = |name: &String| !["trace.json", "cache"].contains(&name.as_str());
    assert_eq!(workshop.list(".").into_iter().filter(ours).collect::<Vec<_>>(), before);
}

/// The multiplications of a step follow from the shapes, so they do not depend on precision or machine.
#[test]
fn products_are_counted() {
    let workshop = Workshop::new();
    let counted = |more: &[&str]| {
        let said = workshop.succeed(&[&JSON[..5], more].concat());
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        assert!(report["products"]["peak_multiplications_per_second"].as_f64().unwrap() > 1e6);
        report["products"]["multiplications_per_step"].as_f64().unwrap()
    };
    let in_f32 = counted(&[]);
    assert!(in_f32 > 1e5 && in_f32 == counted(&["--set", "dtype=bf16"]), "{in_f32}");
    assert!(in_f32 < counted(&["--set", "train.batch_size=4"]));
}

#[test]
fn people_get_a_table() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["bench", "recipe.toml", "--steps", "1"]);
    assert_says!(&said.stdout, "tokens/s", "phases", "forward", "operations", "linear backward", "products", "memory");
    let said = workshop.run(&["bench", "recipe.toml", "--steps", "0"]);
    assert_eq!(said.code, Some(2));
    assert_says!(&said.stderr, "--steps");
}
