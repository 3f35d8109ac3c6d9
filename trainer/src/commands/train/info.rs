//! `run.json` of a run that starts now.

use std::collections::BTreeMap;

use chrono::{SecondsFormat, Utc};

use firebrand_datasets::{ChatTemplate, Format};

use crate::device::{decided, hardware};
use crate::error::Error;
use crate::host::Host;
use crate::plan::Ready;
use crate::run::{RunInfo, sha256_file};

/// What the run is made from, and this machine.
///
/// # Errors
/// A file of the model folder that cannot be read.
pub(super) fn run_info(ready: &Ready) -> Result<RunInfo, Error> {
    let Ready { opened, data, .. } = ready;
    let (recipe, folder) = (opened.recipe(), opened.folder.as_path());
    let mut base = BTreeMap::new();
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && is_hashed(&name) {
            base.insert(name, sha256_file(&path)?);
        }
    }
    if let Some(hash) = ready.companion_hash()? {
        base.insert(COMPANION.into(), hash);
    }
    let datasets = [Some(&data.train), data.eval.as_ref()].into_iter().flatten();
    let files = datasets.flat_map(|dataset| &dataset.files);
    Ok(RunInfo {
        base,
        data: files.map(|file| (file.path.display().to_string(), file.sha256.clone())).collect(),
        template: opened
            .text
            .template
            .as_ref()
            .filter(|_| !data.is_unrendered(&[Format::PromptCompletion, Format::Text]))
            .map(ChatTemplate::template_hash),
        recipe: recipe.hash()?,
        versions: BTreeMap::from([
            ("firebrand".into(), env!("CARGO_PKG_VERSION").into()),
            ("burn".into(), "0.22.1".into()),
        ]),
        device: decided(&recipe.device).to_string(),
        hardware: hardware(&recipe.device),
        seed: recipe.seed,
        host: Host::here(),
        memory: Some(ready.portions().planned(recipe)),
        command: command(),
        started: now(),
        history: vec![],
    })
}

/// The name of the teacher among the hashes of the base.
const COMPANION: &str = "teacher";

/// Whether a file of a model folder says what the model or its tokenizer is.
fn is_hashed(name: &str) -> bool {
    let pickle = name.starts_with("pytorch_model") && name.ends_with(".bin");
    let tokenizer = ["merges.txt", "vocab.txt", "tokenizer.model"].contains(&name);
    pickle || tokenizer || name.ends_with(".json") || name.ends_with(".safetensors")
}

/// The command line of this process.
pub(super) fn command() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// This moment.
pub(super) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}
