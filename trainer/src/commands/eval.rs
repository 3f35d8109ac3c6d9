//! `firebrand eval`: measures loss, perplexity and token accuracy on data.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::EvalArgs;
use crate::error::Error;
use crate::inference::LoadedModel;
use crate::objective::{EvalMetrics, Evaluated};
use crate::say;
use crate::training::evaluate;

pub fn run(arguments: &EvalArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
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
        (EvalMetrics::Rewards { pairs, .. }, true) => {
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
        (EvalMetrics::Rewards { .. } | EvalMetrics::Classes { .. }, false) => {
            say!("loss                {loss:.6}\n")?;
            for (name, value) in metrics.named() {
                say!("{name:<19} {value:.4}\n")?;
            }
            say!("rows                {rows}\n")?;
        }
        (EvalMetrics::Pairs { pairs }, true) => say!("{}\n", json!({ "loss": loss, "pairs": pairs, "rows": rows }))?,
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
        (EvalMetrics::Pairs { pairs }, false) => say!("loss            {loss:.6}\npairs           {pairs}\n")?,
    }
    Ok(ExitCode::SUCCESS)
}
