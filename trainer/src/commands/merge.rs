//! `firebrand merge`: merges an adapter into its base model.

use std::process::ExitCode;

use firebrand_hub::{HubOptions, locate};
use firebrand_models::Model;

use crate::cli::MergeArgs;
use crate::error::Error;
use crate::export::{Probe, check_base, companions, merge_into};
use crate::inference::{base_of, other_base, put_on, tell_notes};
use crate::plan::{Text, TextFolder, pad};
use crate::recipe::{DeviceName, WrittenDtype};
use crate::say;

pub fn run(arguments: &MergeArgs) -> Result<ExitCode, Error> {
    let occupied = std::fs::read_dir(&arguments.out).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::Request {
            problem: format!("{} is not empty", arguments.out.display()),
            help: "name a new folder with --out".into(),
        });
    }
    let device = crate::device::open(&DeviceName::Cpu)?;
    let folder = locate(&arguments.model, &HubOptions::from_env()?)?;
    let adapters = std::slice::from_ref(&arguments.adapter);
    let notes = check_base(&folder, &arguments.model, adapters, other_base(arguments.other_base))?;
    notes.iter().for_each(|note| eprintln!("note     {note}"));
    let mut model = Model::load(&folder, base_of(std::slice::from_ref(&arguments.adapter), arguments.base)?, &device)?;
    put_on(&mut model, std::slice::from_ref(&arguments.adapter), arguments.base)?;
    tell_notes(&model);
    let text_folder = TextFolder::with_adapters(&folder, std::slice::from_ref(&arguments.adapter))?;
    let text = Text::load(&text_folder, &firebrand_datasets::TemplateChoice::Model, None)?;
    pad(&mut model, &text);
    let probe = Probe::built_in(text.tokenizer.as_ref(), &model)?;
    let dtype = arguments.dtype.map(WrittenDtype::write_as);
    let taught = companions::training_template(&arguments.adapter)?;
    let rendered = taught.is_some() && taught == text.template.as_ref().map(|template| template.template_hash());
    let receipt = merge_into(&model, &folder, &arguments.out, dtype, &probe, &text, rendered)?;
    if arguments.json {
        say!("{}\n", serde_json::to_string(&receipt).unwrap_or_default())?;
    } else {
        say!("{receipt}\n")?;
        say!("model  {}\n", arguments.out.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
