//! `firebrand enlarge`: a model folder with more tokens.

use std::process::ExitCode;

use firebrand_hub::{HubOptions, locate};
use firebrand_models::{Hold, Model, WriteAs};

use crate::cli::EnlargeArgs;
use crate::error::Error;
use crate::export::{companions, write_folder};
use crate::plan::{Text, Vocabulary};
use crate::recipe::{DeviceName, VocabularyRecipe};
use crate::say;

pub fn run(arguments: &EnlargeArgs) -> Result<ExitCode, Error> {
    let device = crate::device::open(&DeviceName::Cpu)?;
    let folder = locate(&arguments.model, &HubOptions::from_env()?)?;
    let wanted = VocabularyRecipe {
        add: arguments.add.clone(),
        add_words: arguments.add_words.clone(),
        ..VocabularyRecipe::default()
    };
    let vocabulary = Vocabulary::new(&folder, &wanted)?;
    for note in vocabulary.notes() {
        eprintln!("note   {note}");
    }
    let mut model = Model::load(&folder, Hold::F32, &device)?;
    let old = model.vocabulary().unwrap_or_default();
    model.resize_vocabulary(&vocabulary.rows(old))?;
    let text = Text::load(&vocabulary.text, &firebrand_datasets::TemplateChoice::Model, None)?;
    write_folder(&arguments.out, |out| {
        model.save_weights(out, WriteAs::Stored, None)?;
        companions::write(&folder, out, &model, WriteAs::Stored, &text, false)
    })?;
    say!("model  {}: {} rows, before {old}\n", arguments.out.display(), model.vocabulary().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}
