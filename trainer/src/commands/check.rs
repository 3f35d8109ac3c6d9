//! `firebrand check`: checks everything that can be known before training.

use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::{Report, RowKind};
use indicatif::BinaryBytes;
use miette::Diagnostic;
use serde_json::{Value, json};

use super::counted::count;
use super::data::paint::Paint;
use crate::cli::CheckArgs;
use crate::device;
use crate::error::Error;
use crate::plan::{CacheEstimate, CacheNeed, Ready};
use crate::recipe::{Complaint, Method, Recipe};
use crate::run::RunError;
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
                let errors = match &error {
                    Error::Recipe(error) => error.complaints().iter().map(complaint).collect(),
                    _ => vec![],
                };
                say!(
                    "{}\n",
                    json!({ "recipe": path, "ok": false, "error": error.to_string(), "help": help, "errors": errors })
                )?;
            }
            (Err(error), false) => eprintln!("{:?}", miette::Report::new(error)),
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One of several mistakes in a recipe.
fn complaint(complaint: &Complaint) -> Value {
    json!({
        "message": complaint.message,
        "help": complaint.help,
        "file": complaint.file(),
        "line": complaint.line(),
    })
}

/// What `train` will say about the output folder.
///
/// # Errors
/// A file in its place.
fn output_remark(output: &Path) -> Result<Option<String>, Error> {
    if output.is_file() {
        return Err(RunError::NotAFolder { path: output.to_path_buf() }.into());
    }
    // The lock file of a run that never began is no content.
    let content = std::fs::read_dir(output).into_iter().flatten().flatten().any(|entry| entry.file_name() != ".lock");
    Ok(content.then(|| {
        format!(
            "the output {} is not empty: `train` goes on there with --resume, and starts anew with another --output",
            output.display()
        )
    }))
}

fn check(path: &Path, overrides: &[String]) -> Result<(Value, Report), Error> {
    let loaded = Recipe::load(path, overrides)?;
    let output = output_remark(&loaded.recipe.output)?;
    let ready = Ready::new(loaded, CacheNeed::Announced)?;
    let portions = ready.portions();
    let (steps, notes) = (ready.total_steps(), [ready.notes(), output.into_iter().collect()].concat());
    let (has_cache, kept_reference) = (ready.has_cache(), ready.kept_reference()?);
    let Ready { opened, data, model, modules, .. } = ready;
    let cache = CacheEstimate::new(&opened, &data, has_cache, &model.device().inner())?;
    let recipe = opened.recipe();
    let (base, _) = model.parameter_counts();
    let trained: usize = model.trained_parameters().iter().map(|info| info.shape.iter().product::<usize>()).sum();
    let report = json!({
        "recipe": path,
        "ok": true,
        "device": device::decided(&recipe.device).to_string(),
        "hardware": device::hardware(&recipe.device),
        "model": recipe.model.to_string(),
        "family": model.family().name(),
        "parameters": base,
        "trained_parameters": trained,
        "full": recipe.method == Method::Full,
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
        "recompute": portions.recompute,
        "micro_batch_size": portions.micro_batch,
        "memory": portions.plan,
        "memory_total": portions.needed(),
        "teacher_cache": cache,
        "reference_cache": kept_reference,
        "data": data.report,
        "notes": notes,
    });
    Ok((report, data.report))
}

fn show(report: &Value, gate: &Report) -> Result<(), Error> {
    let mib = |key: &str| format!("{:.0} MiB", report["memory"][key].as_f64().unwrap_or(0.0) / 1_048_576.0);
    let paint = Paint::of_stdout();
    let number = |key: &str| report[key].as_u64().unwrap_or_default() as usize;
    say!("{}: {}\n", report["recipe"].as_str().unwrap_or_default(), paint.good("ok"))?;
    say!(
        "  model    {} ({}), {} parameters, {} trained{}\n",
        report["model"].as_str().unwrap_or_default(),
        report["family"].as_str().unwrap_or_default(),
        report["parameters"],
        report["trained_parameters"],
        match report["full"] == true {
            true => String::new(),
            false => format!(" on {}", count(report["adapted_modules"].as_array().map_or(0, Vec::len), "module")),
        }
    )?;
    if let Some(name) = report["hardware"]["name"].as_str() {
        let driver = report["hardware"]["driver"].as_str().map(|driver| format!(", driver {driver}"));
        say!("  device   {} ({name}{})\n", report["device"].as_str().unwrap_or_default(), driver.unwrap_or_default())?;
    }
    if let Some(names) = report["trained_base"].as_array().filter(|names| !names.is_empty()) {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        say!("  base     trained too: {}\n", names.join(", "))?;
    }
    if report["row_kind"] == RowKind::Tensors.word() {
        say!("  data     {} of tensors\n", count(number("rows"), "row"))?;
    } else {
        say!(
            "  data     {}, {} labelled tokens of {}, {:.0} % of the room is used{}\n",
            count(number("rows"), "row"),
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
    let average = match report["memory"]["average"].as_u64() {
        Some(0) | None => String::new(),
        Some(_) => format!("average {}, ", mib("average")),
    };
    say!(
        "  memory   about {:.0} MiB: weights {}, {}optimiser {}, {}program {}, activations {} (recompute {}, {} at once), \
         and gradients {} as those go\n",
        report["memory_total"].as_f64().unwrap_or(0.0) / 1_048_576.0,
        mib("weights"),
        if report["memory"]["companion"] == 0 { String::new() } else { format!("second model {}, ", mib("companion")) },
        mib("optimizer"),
        average,
        mib("program"),
        mib(if report["recompute"] == "off" { "activations" } else { "activations_recomputed" }),
        report["recompute"].as_str().unwrap_or_default(),
        count(number("micro_batch_size"), "row"),
        mib("gradients"),
    )?;
    if let Some(cache) = report["teacher_cache"].as_object() {
        say!(
            "  cache    {} in {}, {}\n",
            BinaryBytes(cache["bytes"].as_u64().unwrap_or_default()),
            cache["folder"].as_str().unwrap_or_default(),
            if cache["written"] == true { "written" } else { "to be written by `firebrand distill cache`" },
        )?;
        for kept in cache["kept"].as_array().into_iter().flatten() {
            say!(
                "           the teacher's {} hold {:.2} % of its probability on {}\n",
                count(kept["top_k"].as_u64().unwrap_or_default() as usize, "likeliest token"),
                kept["probability"].as_f64().unwrap_or_default() * 100.0,
                count(kept["positions"].as_u64().unwrap_or_default() as usize, "labelled position"),
            )?;
        }
    }
    if let Some(cache) = report["reference_cache"].as_object() {
        let count = |key: &str, what: &str| count(cache[key].as_u64().unwrap_or_default() as usize, what);
        say!(
            "  cache    {} of the reference in {}; it runs over {} before the first step\n",
            count("kept", "pair"),
            cache["folder"].as_str().unwrap_or_default(),
            count("missing", "other"),
        )?;
    }
    for line in gate.to_string().lines() {
        say!("  {}\n", paint.remark(line))?;
    }
    for note in report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say!("  {}\n", paint.remark(&format!("note     {note}")))?;
    }
    Ok(())
}
