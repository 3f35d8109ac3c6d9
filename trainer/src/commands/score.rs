//! `firebrand score`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::ScoreArgs;
use crate::error::Error;
use crate::loading::LoadedModel;
use crate::scoring::score;

pub fn run(arguments: &ScoreArgs) -> Result<ExitCode, Error> {
    let loaded = LoadedModel::new(&arguments.model, &arguments.rows.template)?;
    let dataset = loaded.rows(&[arguments.data.display().to_string()], &arguments.rows)?;
    let bar = crate::bars::rows_bar();
    bar.set_length(dataset.len() as u64);
    write(&arguments.out, |out| {
        for example in dataset.examples() {
            let example = example.map_err(std::io::Error::other)?;
            writeln!(out, "{}", serde_json::to_string(&score(&loaded.model, &example)).unwrap_or_default())?;
            bar.inc(1);
        }
        Ok(())
    })
    .map_err(Error::io(&arguments.out))?;
    bar.finish_and_clear();
    eprintln!("{} rows scored into {}", dataset.len(), arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is whole or not there. A pipe or device is written to directly, because a rename would replace it.
fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let finish = |file: &File| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush()
    };
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return finish(&File::options().write(true).open(path)?);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; a result gets the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(parent.unwrap_or(Path::new(".")))?;
    finish(temporary.as_file())?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}
