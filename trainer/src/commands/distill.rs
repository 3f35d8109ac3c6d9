//! `firebrand distill cache`: runs the teacher of a recipe once and keeps its distributions.

use std::ops::ControlFlow;
use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde_json::json;

use super::counted::count;
use crate::cli::{DistillCacheArgs, DistillCommand};
use crate::device;
use crate::error::Error;
use crate::features::{bytes_of, write_teacher};
use crate::plan::{self, CompanionModel, Data, Opened, teacher_key};
use crate::recipe::{DeviceName, ObjectiveRecipe, Recipe, TeacherRecipe};
use crate::say;
use crate::ui::{bars, verbosity};

pub fn run(command: &DistillCommand) -> Result<ExitCode, Error> {
    match command {
        DistillCommand::Cache(arguments) => cache(arguments),
    }
}

fn cache(arguments: &DistillCacheArgs) -> Result<ExitCode, Error> {
    let mut overrides = arguments.overrides.clone();
    overrides.extend(arguments.device.as_ref().map(DeviceName::as_override));
    let opened = Opened::new(Recipe::load(&arguments.recipe, &overrides)?)?;
    let loaded = &opened.loaded;
    let teacher = match &loaded.recipe.objective {
        Some(ObjectiveRecipe::Distill(distill)) => &distill.teacher,
        Some(_) | None => {
            let help = "write kind = \"distill\" with a teacher and a cache in [objective]";
            return Err(loaded.complain("objective", "the recipe distils nothing", help).into());
        }
    };
    let (folder, named) = match teacher {
        TeacherRecipe::Cached { folder, model: Some(model) } => (folder, model),
        TeacherRecipe::Cached { model: None, .. } => {
            let help = "add teacher = \"folder or hub id\"; training needs it no more once the cache is written";
            return Err(loaded.complain("objective", "no teacher is named, so nothing can be computed", help).into());
        }
        TeacherRecipe::Live(_) => {
            let help = "add cache = \"folder\" to [objective]";
            return Err(loaded.complain("objective", "no folder is named for the cache", help).into());
        }
    };
    let model = CompanionModel::teacher(&opened, named)?;
    let device = device::open(&loaded.recipe.device)?;
    let bar = bars::DataProgress::new();
    let rows = plan::cache::folder();
    let data = Data::load(&loaded.recipe, &opened.text, rows.as_deref(), &|split, progress| {
        bar.report(split, progress);
        ControlFlow::Continue(())
    });
    bar.finish();
    let data = data?;
    data.report.clone().pass()?;
    let key = teacher_key(&opened, Some(&model), Some(&data.train))?;
    let labelled = data.train.labelled_tokens();
    verbosity::tell(&format!(
        "teacher  {}\ncache    {} in {}: {}, {} tokens each",
        named.source,
        BinaryBytes(bytes_of(labelled, key.top_k, key.vocabulary)),
        folder.display(),
        count(labelled, "labelled position"),
        key.top_k.min(key.vocabulary),
    ));
    let waiting = bars::Waiting::new("reading the teacher");
    let (network, _) = model.load(loaded, &device)?;
    drop(waiting);
    let bar = bars::rows_bar();
    bar.set_length(data.train.len() as u64);
    let written = write_teacher(folder, &key, &named.source.to_string(), &data.train, &network, |done| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let report = json!({
        "cache": folder,
        "teacher": named.source.to_string(),
        "examples": data.train.len(),
        "labelled_tokens": labelled,
        "top_k": key.top_k.min(key.vocabulary),
        "found": written.found,
        "computed": written.computed,
        "bytes": written.bytes,
    });
    match arguments.json {
        true => say!("{report}\n")?,
        false => say!(
            "wrote {} for {}{}\n",
            BinaryBytes(written.bytes),
            count(data.train.len(), "example"),
            if written.found > 0 { format!(", {} of them before", written.found) } else { String::new() },
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
