//! `firebrand score`: writes the log-probabilities of the tokens of rows, or the embeddings of pairs.

use std::process::ExitCode;

use crate::cli::ScoreArgs;
use crate::error::Error;
use crate::inference::LoadedModel;
use crate::inference::score;
use crate::ui::output;

pub fn run(arguments: &ScoreArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
    let dataset = loaded.rows(&[arguments.data.display().to_string()], &arguments.rows)?;
    let bar = crate::ui::bars::rows_bar();
    bar.set_length(dataset.len() as u64);
    output::file(&arguments.out, |out| {
        for example in dataset.examples() {
            let line = serde_json::to_string(&score(&loaded.model, &dataset, &example?)?).unwrap_or_default();
            writeln!(out, "{line}").map_err(Error::io(&arguments.out))?;
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    eprintln!("{} rows scored into {}", dataset.len(), arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
