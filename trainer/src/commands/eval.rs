//! `firebrand eval`: measures loss, perplexity, accuracy and recall on data.

use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::{Classes, Format, Problem};
use serde_json::json;

use crate::cli::{EvalArgs, RowArgs};
use crate::error::Error;
use crate::inference::{LoadedModel, TEMPLATE, ZeroShot};
use crate::objective::{EvalMetrics, Evaluated};
use crate::say;
use crate::training::evaluate;

pub fn run(arguments: &EvalArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
    if arguments.zero_shot {
        return zero_shot(arguments, &loaded);
    }
    let dataset = loaded.rows(&arguments.data, &arguments.rows)?;
    let objective = loaded.objective(&dataset)?;
    let bar = crate::ui::bars::rows_bar();
    let batch_size = arguments.rows.batch_size.max(1);
    let Evaluated { loss, metrics } = evaluate(&objective, &loaded.model, &dataset, batch_size, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let rows = dataset.len();
    if matches!(metrics, EvalMetrics::Tokens { tokens: 0, .. }) {
        return Err(Error::Request {
            problem: "no row has a labelled token, so there is no loss".into(),
            help: "look at --train-on and --format".into(),
        });
    }
    if !loss.is_finite() {
        return Err(Error::Request {
            problem: format!("the loss over these {rows} rows is {loss}"),
            help: "`firebrand score` tells the loss of each row, `firebrand inspect` whether weights are numbers"
                .into(),
        });
    }
    match (&metrics, arguments.json) {
        (EvalMetrics::Tokens { perplexity, token_accuracy, tokens }, true) => {
            let report = json!({
                "loss": loss,
                "perplexity": perplexity,
                "token_accuracy": token_accuracy,
                "tokens": tokens,
                "rows": rows,
            });
            say!("{report}\n")?;
        }
        (EvalMetrics::Tokens { perplexity, token_accuracy, tokens }, false) => {
            say!("loss            {loss:.6}\n")?;
            say!("perplexity      {perplexity:.4}\n")?;
            say!("token accuracy  {:.2} %\n", token_accuracy * 100.0)?;
            say!("labelled tokens {tokens} in {rows} rows\n")?;
        }
        (EvalMetrics::Rewards { pairs, .. } | EvalMetrics::Pairs { pairs, .. }, true) => {
            let mut report = json!({ "loss": loss, "pairs": pairs, "rows": pairs });
            metrics.named().into_iter().for_each(|(name, value)| report[name] = json!(value));
            say!("{report}\n")?;
        }
        (EvalMetrics::Classes { accuracy, rows, .. }, true) => {
            let mut report = json!({ "loss": loss, "rows": rows });
            metrics.named().into_iter().for_each(|(name, value)| report[name] = json!(value));
            if accuracy.is_none() {
                report["mse"] = json!(loss);
            }
            say!("{report}\n")?;
        }
        (EvalMetrics::Rewards { .. } | EvalMetrics::Classes { .. } | EvalMetrics::Pairs { .. }, false) => {
            say!("loss                     {loss:.6}\n")?;
            for (name, value) in metrics.named() {
                say!("{name:<24} {value:.4}\n")?;
            }
            say!("rows                     {rows}\n")?;
        }
        (EvalMetrics::Numbers(parts), true) => {
            let mut report = json!({ "loss": loss, "rows": rows });
            parts.iter().for_each(|(name, value)| report[name] = value.into());
            say!("{report}\n")?;
        }
        (EvalMetrics::Numbers(parts), false) => {
            say!("loss            {loss:.6}\n")?;
            for (name, value) in parts.iter() {
                say!("{name:<15} {value:.6}\n")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How often two towers find the class of a picture by its name.
fn zero_shot(arguments: &EvalArgs, loaded: &LoadedModel) -> Result<ExitCode, Error> {
    let (Some(towers), Some(pictures)) = (loaded.model.network().towers(), &loaded.text.pictures) else {
        return Err(Error::Request {
            problem: "--zero-shot needs two towers, with a tokenizer and preprocessor_config.json in their folder"
                .into(),
            help: "name a model of type clip".into(),
        });
    };
    let rows = RowArgs { format: Format::Labelled, ..arguments.rows.clone() };
    let dataset = loaded.unchecked_rows(&arguments.data, &rows)?;
    let names = match &arguments.classes {
        Some(path) => lines(path)?,
        None => Classes::found_in(&dataset, Problem::Single)?.names,
    };
    let templates = arguments.templates.as_deref().map(lines).transpose()?;
    let templates = templates.unwrap_or_else(|| vec![TEMPLATE.to_string()]);
    let classes = names.len();
    let zero_shot = ZeroShot::new(towers, pictures, names, &templates)?;
    let bar = crate::ui::bars::rows_bar();
    bar.set_length(dataset.len() as u64);
    let accuracy = zero_shot.accuracy(&dataset, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let rows = dataset.len();
    match arguments.json {
        true => say!("{}\n", json!({ "zero_shot_accuracy": accuracy, "classes": classes, "rows": rows }))?,
        false => {
            say!("zero-shot accuracy       {:.2} %\n", accuracy * 100.0)?;
            say!("classes                  {classes}\nrows                     {rows}\n")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of a file that are not blank.
fn lines(path: &Path) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect())
}
