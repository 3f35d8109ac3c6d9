//! `firebrand score`.

use std::process::ExitCode;

use crate::cli::ScoreArgs;
use crate::error::Error;
use crate::loading::LoadedModel;
use crate::output;
use crate::scoring::score;

pub fn run(arguments: &ScoreArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
    let dataset = loaded.rows(&[arguments.data.display().to_string()], &arguments.rows)?;
    let bar = crate::bars::rows_bar();
    bar.set_length(dataset.len() as u64);
    output::file(&arguments.out, |out| {
        for example in dataset.examples() {
            let line = serde_json::to_string(&score(&loaded.model, &example?)?).unwrap_or_default();
            writeln!(out, "{line}").map_err(Error::io(&arguments.out))?;
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    eprintln!("{} rows scored into {}", dataset.len(), arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
