//! `firebrand eval`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::EvalArgs;
use crate::error::Error;
use crate::inference::LoadedModel;
use crate::plan::fits;
use crate::say;
use crate::training::evaluate;

pub fn run(arguments: &EvalArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
    let dataset = loaded.rows(&arguments.data, &arguments.rows)?;
    fits::check_objective(&dataset)?;
    let bar = crate::ui::bars::rows_bar();
    let sums = evaluate(&loaded.model, &dataset, arguments.rows.batch_size.max(1), |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if sums.tokens == 0 {
        return Err(Error::Request {
            problem: "no row has a labelled token, so there is no loss".into(),
            help: "look at --train-on and --format".into(),
        });
    }
    let (loss, rows) = (sums.mean_loss(), dataset.len());
    if !loss.is_finite() {
        let rows = (0..rows.min(5)).map(|row| dataset.location(row)).collect();
        return Err(Error::NotFinite { step: 0, what: format!("the loss ({loss})"), rows });
    }
    if arguments.json {
        let report = json!({
            "loss": loss,
            "perplexity": loss.exp(),
            "token_accuracy": sums.accuracy(),
            "tokens": sums.tokens,
            "rows": rows,
        });
        say!("{report}\n")?;
    } else {
        say!("loss            {loss:.6}\n")?;
        say!("perplexity      {:.4}\n", loss.exp())?;
        say!("token accuracy  {:.2} %\n", sums.accuracy() * 100.0)?;
        say!("labelled tokens {} in {rows} rows\n", sums.tokens)?;
    }
    Ok(ExitCode::SUCCESS)
}
