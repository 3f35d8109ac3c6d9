//! `firebrand check`: checks everything that can be known before training.

use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::{Report, RowKind};
use miette::Diagnostic;
use serde_json::{Value, json};

use crate::cli::CheckArgs;
use crate::error::Error;
use crate::objective::Recompute;
use crate::plan::Ready;
use crate::recipe::{Method, Recipe};
use crate::say;

pub fn run(arguments: &CheckArgs) -> Result<ExitCode, Error> {
    let mut failed = false;
    for path in &arguments.recipes {
        let result = check(path, &arguments.overrides);
        failed |= result.is_err();
        match (result, arguments.json) {
            (Ok((report, _)), true) => say!("{report}\n")?,
            (Ok((report, gate)), false) => show(&report, &gate)?,
            (Err(error), true) => {
                let help = error.help().map(|help| help.to_string());
                say!("{}\n", json!({ "recipe": path, "ok": false, "error": error.to_string(), "help": help }))?;
            }
            (Err(error), false) => eprintln!("{:?}", miette::Report::new(error)),
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check(path: &Path, overrides: &[String]) -> Result<(Value, Report), Error> {
    let ready = Ready::new(Recipe::load(path, overrides)?)?;
    let (recompute, memory) = ready.recompute();
    let (steps, notes) = (ready.total_steps(), ready.notes());
    let Ready { opened, data, model, modules } = ready;
    let recipe = opened.recipe();
    let (base, _) = model.parameter_counts();
    let trained: usize = model.trained_parameters().iter().map(|info| info.shape.iter().product::<usize>()).sum();
    let recomputed = match recompute {
        Recompute::Off => "off",
        Recompute::Blocks => "blocks",
    };
    let report = json!({
        "recipe": path,
        "ok": true,
        "model": recipe.model.to_string(),
        "family": model.family().name(),
        "parameters": base,
        "trained_parameters": trained,
        "adapted_modules": modules,
        "trained_base": if recipe.method == Method::Full { vec![] } else { model.trained_base_names()? },
        "rows": data.train.len(),
        "eval_rows": data.eval.as_ref().map(|eval| eval.len()),
        "row_kind": data.train.kind().word(),
        "tokens": data.train.tokens(),
        "labelled_tokens": data.train.labelled_tokens(),
        "packing_efficiency": data.train.epoch(recipe.seed, 0).efficiency,
        "ungrouped_efficiency": data.train.epoch(recipe.seed, 0).ungrouped,
        "chosen": data.chosen().collect::<Vec<_>>(),
        "steps": steps,
        "recompute": recomputed,
        "memory": memory,
        "memory_total": memory.total(recompute),
        "data": data.report,
        "notes": notes,
    });
    Ok((report, data.report))
}

fn show(report: &Value, gate: &Report) -> Result<(), Error> {
    let mib = |key: &str| format!("{:.0} MiB", report["memory"][key].as_f64().unwrap_or(0.0) / 1_048_576.0);
    say!("{}: ok\n", report["recipe"].as_str().unwrap_or_default())?;
    say!(
        "  model    {} ({}), {} parameters, {} trained on {} modules\n",
        report["model"].as_str().unwrap_or_default(),
        report["family"].as_str().unwrap_or_default(),
        report["parameters"],
        report["trained_parameters"],
        report["adapted_modules"].as_array().map_or(0, Vec::len)
    )?;
    if let Some(names) = report["trained_base"].as_array().filter(|names| !names.is_empty()) {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        say!("  base     trained too: {}\n", names.join(", "))?;
    }
    if report["row_kind"] == RowKind::Tensors.word() {
        say!("  data     {} rows of tensors\n", report["rows"])?;
    } else {
        say!(
            "  data     {} rows, {} labelled tokens of {}, {:.0} % of the room is used{}\n",
            report["rows"],
            report["labelled_tokens"],
            report["tokens"],
            report["packing_efficiency"].as_f64().unwrap_or(0.0) * 100.0,
            match report["ungrouped_efficiency"].as_f64() {
                Some(ungrouped) => format!(" ({:.0} % without group_by_length)", ungrouped * 100.0),
                None => String::new(),
            }
        )?;
    }
    for source in report["chosen"].as_array().into_iter().flatten() {
        say!(
            "  rows     {}: {} rows kept, {} left out\n",
            source["path"].as_str().unwrap_or_default(),
            source["kept"],
            source["left_out"]
        )?;
    }
    say!("  steps    {}\n", report["steps"])?;
    say!(
        "  memory   about {:.0} MiB: weights {}, gradients {}, optimiser {}, activations {} (recompute {})\n",
        report["memory_total"].as_f64().unwrap_or(0.0) / 1_048_576.0,
        mib("weights"),
        mib("gradients"),
        mib("optimizer"),
        mib(if report["recompute"] == "off" { "activations" } else { "activations_recomputed" }),
        report["recompute"].as_str().unwrap_or_default()
    )?;
    for line in gate.to_string().lines() {
        say!("  {line}\n")?;
    }
    for note in report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say!("  note     {note}\n")?;
    }
    Ok(())
}
