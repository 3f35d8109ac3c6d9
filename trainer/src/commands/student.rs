//! `firebrand student`: a model folder with some of a model's layers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebrand_hub::{HubOptions, locate};
use firebrand_models::ModelFiles;
use serde::Serialize;

use crate::cli::StudentArgs;
use crate::error::Error;
use crate::export::{companions, write_folder};
use crate::inspect::thousands;
use crate::say;

/// What was made, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a Path,
    out: &'a Path,
    /// Layers of the model that the student has, in its order.
    kept: &'a [usize],
    left_out: Vec<usize>,
    parameters: Parameters,
}

#[derive(Debug, Serialize)]
struct Parameters {
    before: u64,
    after: u64,
}

pub fn run(arguments: &StudentArgs) -> Result<ExitCode, Error> {
    let refuse = |problem: String, help: &str| Err(Error::Request { problem, help: help.into() });
    let out = &arguments.out;
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return refuse(format!("{} is not empty", out.display()), "name a new folder with --out");
    }
    let folder = locate(&arguments.model, &HubOptions::from_env()?)?;
    if is_within(out, &folder) {
        let problem = format!("{} lies in the model's own folder, {}", out.display(), folder.display());
        return refuse(problem, "name a folder outside of it with --out");
    }
    let files = ModelFiles::open(&folder)?;
    for note in files.notes() {
        eprintln!("note        {note}");
    }
    let stacks = files.network().stacks();
    let layers = stacks.first().map_or(0, |stack| stack.layers);
    let kept = match (&arguments.layers, arguments.every) {
        (Some(named), _) => named.0.clone(),
        (None, Some(every)) => (0..layers).step_by(every as usize).collect(),
        (None, None) => vec![],
    };
    let student = files.student(&kept)?;
    write_folder(out, |written| {
        student.write(written)?;
        companions::copy_all(&folder, written)
    })?;
    let [before, after] = student.parameters().map(|count| count as u64);
    let left_out = student.left_out();
    if arguments.json {
        let parameters = Parameters { before, after };
        let report = Report { model: &folder, out, kept: student.kept(), left_out, parameters };
        say!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("kept        {} of {layers} layers: {}\n", kept.len(), listed(student.kept()))?;
    if !left_out.is_empty() {
        say!("left out    {}\n", listed(&left_out))?;
    }
    say!("parameters  {}, before {}\n", thousands(after), thousands(before))?;
    say!("model       {}\n", out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn listed(layers: &[usize]) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<String>>().join(", ")
}

/// Whether `path`, which need not be there, is or lies in `folder`, whatever links lead to it.
fn is_within(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let there = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    there.is_some_and(|there| there.starts_with(folder))
}
