//! Loads the model of a command that has no recipe, with adapter, tokenizer and template: [`LoadedModel`].

use std::ops::ControlFlow;
use std::path::PathBuf;

use firebrand_datasets::{Classes, DataConfig, Dataset, Format, Prepare, Split, TemplateChoice, prepare};
use firebrand_hub::{HubDatasets, HubOptions, locate};
use firebrand_models::{Hold, Model, adapter_folder};

use super::base::base_model;
use super::classes::{classes_of, no_classes};
use crate::cli::{Base, ModelArgs, RowArgs};
use crate::device::is_cpu;
use crate::error::Error;
use crate::export::{OtherBase, check_base, companions};
use crate::guess::Guess;
use crate::objective::{Objective, Recompute, rows_of};
use crate::plan::{Text, TextFolder, check_labels, fits, named_precision, pad, sources, stored};
use crate::recipe::{ClassifyRecipe, Method, ObjectiveRecipe, RewardRecipe};
use crate::ui::bars::Waiting;

/// A length in tokens above that of any row that fits into memory.
const UNBOUNDED: usize = 1 << 30;

/// A model ready for inference.
#[derive(Debug)]
pub struct LoadedModel {
    /// The model's folder.
    pub folder: PathBuf,
    /// The model, with the adapters that were named.
    pub model: Model,
    /// Tokenizer and template.
    pub text: Text,
}

/// What to do when an adapter was trained with another chat template than the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateCheck {
    /// Return an error: the prompts would differ from those in training.
    Required,
    /// Continue, as the user asked.
    Waived,
}

/// How the base of adapters is held: quantized if the adapters were trained on a quantized base and `base` asks for
/// that.
///
/// # Errors
/// A `firebrand.json` that cannot be read; adapters that were trained on bases quantized differently.
pub fn base_of(adapters: &[PathBuf], base: Base) -> Result<Hold, Error> {
    let quantized = match (adapters.split_first(), base) {
        (Some((first, others)), Base::Trained) => {
            let quantized = companions::training_quantization(first)?;
            for other in others {
                if companions::training_quantization(other)? != quantized {
                    return Err(Error::Request {
                        problem: format!(
                            "the adapters in {} and {} were trained on bases that are quantized differently",
                            first.display(),
                            other.display()
                        ),
                        help: "use one of them, or put both on the original weights with --base original".into(),
                    });
                }
            }
            quantized
        }
        _ => None,
    };
    Ok(quantized.map_or(Hold::F32, |quantization| Hold::Quantized(quantization.scheme())))
}

/// Puts adapters on their model, whose base is held as [`base_of`] says. An adapter initialised by LoftQ also gets its
/// start, if the base is the quantized one it was trained on.
///
/// # Errors
/// Folders that are not adapters or do not fit; several adapters on their quantized base, one of them initialised by
/// LoftQ.
pub fn put_on(model: &mut Model, adapters: &[PathBuf], base: Base) -> Result<(), Error> {
    let inits = adapters.iter().map(|folder| companions::training_init(folder)).collect::<Result<Vec<_>, _>>()?;
    match (base, adapters, inits.as_slice()) {
        (Base::Trained, [adapter], [Some(init)]) => {
            adapter_folder::load_started(model, adapter, (*init).into())?;
        }
        (Base::Trained, _, inits) if inits.iter().any(Option::is_some) => {
            return Err(Error::Request {
                problem: "one of the adapters started by loftq: its quantized base is not itself without it".into(),
                help: "put them on the original weights with --base original".into(),
            });
        }
        (Base::Trained | Base::Original, ..) => adapter_folder::load_all(model, adapters)?,
    }
    for adapter in adapters {
        let Some(classes) = companions::training_classes(adapter)? else { continue };
        if model.classes() == Some(classes.labels.len()) {
            model.name_classes(&classes.names());
            classes.pad_token_id.into_iter().for_each(|id| model.pad_with(id));
        }
    }
    Ok(())
}

/// What `--other-base` says.
pub fn other_base(allowed: bool) -> OtherBase {
    if allowed { OtherBase::Allowed } else { OtherBase::Refused }
}

/// Prints what a user should know of the model's files and of its adapters, beside the results.
pub fn tell_notes(model: &Model) {
    for note in model.notes() {
        eprintln!("note     {note}");
    }
}

impl LoadedModel {
    /// Loads the model, adapters, tokenizer and template that the arguments name.
    ///
    /// # Errors
    /// Files that are missing, damaged or do not fit together.
    pub fn new(arguments: &ModelArgs, template: &TemplateChoice) -> Result<Self, Error> {
        let device = crate::device::open(&arguments.device)?;
        let precision = named_precision(arguments.dtype, &arguments.device)?;
        let name = base_model(arguments)?;
        let folder = locate(&name, &HubOptions::from_env()?)?;
        let notes = check_base(&folder, &name, &arguments.adapter, other_base(arguments.other_base))?;
        notes.iter().for_each(|note| eprintln!("note     {note}"));
        let waiting = Waiting::new(&format!("reading {}", folder.display()));
        let hold = match base_of(&arguments.adapter, arguments.base)? {
            // The same results in half the memory: products on the processor widen what they read.
            Hold::F32 if is_cpu(&arguments.device) => stored(&folder)?,
            hold => hold,
        };
        let mut model = Model::load(&folder, hold, &device)?;
        put_on(&mut model, &arguments.adapter, arguments.base)?;
        drop(waiting);
        tell_notes(&model);
        let text = Text::load(&TextFolder::with_adapters(&folder, &arguments.adapter)?, template, None)?;
        pad(&mut model, &text);
        Ok(Self { folder, model: model.for_inference().with_precision(precision), text })
    }

    /// Checks that chats are rendered by the template that the adapters were trained with.
    ///
    /// # Errors
    /// An adapter that was trained with another template.
    pub fn check_template(&self, arguments: &ModelArgs, check: TemplateCheck) -> Result<(), Error> {
        if check == TemplateCheck::Waived {
            return Ok(());
        }
        let used = self.text.template.as_ref().map(|template| template.template_hash());
        for adapter in &arguments.adapter {
            match (companions::training_template(adapter)?, &used) {
                (Some(trained), Some(used)) if trained != *used => {
                    return Err(Error::Request {
                        problem: format!(
                            "the adapter in {} was trained with another chat template than the one in use",
                            adapter.display()
                        ),
                        help: "name the template it was trained with by --template, or go on with \
                               --allow-template-mismatch"
                            .into(),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that the adapters were not trained on texts that their chat template could have rendered, and did not.
    ///
    /// # Errors
    /// An adapter that was.
    pub fn check_rendered(&self, arguments: &ModelArgs, check: TemplateCheck) -> Result<(), Error> {
        for adapter in arguments.adapter.iter().filter(|_| check == TemplateCheck::Required) {
            if companions::is_unrendered(adapter)? {
                return Err(Error::Request {
                    problem: format!(
                        "the adapter in {} was trained on prompts that no chat template rendered, so it knows no dialogues",
                        adapter.display()
                    ),
                    help: "give prompts as they were in training (--prompt), or go on with --allow-template-mismatch"
                        .into(),
                });
            }
        }
        Ok(())
    }

    /// The objective by which its rows are evaluated: that of its kind, and for pairs of answers that of a reward model.
    ///
    /// # Errors
    /// A row whose label the classifier does not have; a model over images without a head.
    pub fn objective(&self, dataset: &Dataset) -> Result<Objective, Error> {
        let recipe = match classes_of(&self.model, Some(dataset)) {
            None if self.model.network().image().is_some() => return Err(no_classes()),
            None => ObjectiveRecipe::of_kind(self.model.kind(), &Method::Full),
            Some(_) if dataset.decisions.iter().all(|decision| decision.format == Format::Preference) => {
                ObjectiveRecipe::Reward(RewardRecipe::default())
            }
            Some(classes) => {
                check_labels(&classes, dataset)?;
                let (Classes { problem, names }, rows) = (classes, rows_of(self.model.kind()));
                ObjectiveRecipe::Classify(ClassifyRecipe { labels: names, problem: Some(problem), rows })
            }
        };
        Objective::new(&recipe, Recompute::Off, None)
    }

    /// The format of the rows in these files: where a classifier of texts reads them, `auto` is `preference` or `labelled`.
    fn format(&self, files: &[String], asked: Format) -> Format {
        if asked != Format::Auto || self.model.classes().is_none() || self.model.network().image().is_some() {
            return asked;
        }
        let guessed = files.first().and_then(|file| Guess::of(file).ok());
        match guessed.map(|guess| guess.format) {
            Some(Format::Preference) => Format::Preference,
            Some(_) | None => Format::Labelled,
        }
    }

    /// Reads and tokenises rows.
    ///
    /// # Errors
    /// Broken rows, or token ids outside the vocabulary.
    pub fn rows(&self, files: &[String], arguments: &RowArgs) -> Result<Dataset, Error> {
        let dataset = self.unchecked_rows(files, arguments)?;
        fits::check(&dataset, &self.model, self.text.tokenizer.as_ref())?;
        Ok(dataset)
    }

    /// The same for rows of which the model reads a part only, such as pictures with a label in place of a caption.
    ///
    /// # Errors
    /// Broken rows.
    pub fn unchecked_rows(&self, files: &[String], arguments: &RowArgs) -> Result<Dataset, Error> {
        let config = DataConfig {
            max_length: arguments.max_length.unwrap_or(UNBOUNDED),
            packing: false,
            shuffle: false,
            train_on: arguments.train_on,
            template: arguments.template.clone(),
            eval: sources(files, self.format(files, arguments.format), &arguments.columns),
            ..DataConfig::default()
        };
        let dataset = prepare(&Prepare {
            config: &config,
            split: Split::Eval,
            base: std::path::Path::new(""),
            tokenizer: self.text.tokenizer.as_ref(),
            template: self.text.template.as_ref(),
            pictures: self.text.pictures.as_ref(),
            micro_batch: arguments.batch_size.max(1),
            cache: None,
            fetch: &HubDatasets,
            keep_text: false,
            limit: None,
            progress: &|_| ControlFlow::Continue(()),
        })
        .map_err(|error| self.text.explain(error))?;
        Ok(match classes_of(&self.model, Some(&dataset)) {
            Some(classes) => dataset.with_classes(classes),
            None => dataset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{FourBitRecipe, Quantization};

    #[test]
    fn the_base_is_held_as_the_adapters_were_trained_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = |name: &str, quantization| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            companions::write_trained_with(&path, companions::TrainedTemplate::Absent, quantization, None, None)
                .unwrap();
            path
        };
        let nf4 = Quantization::Nf4(FourBitRecipe::default());
        let (quantized, plain) = (adapter("quantized", Some(nf4)), adapter("plain", None));
        let silent = folder.path().to_path_buf();
        let trained = |adapters: &[PathBuf]| base_of(adapters, Base::Trained);
        assert_eq!(trained(&[]).unwrap(), Hold::F32);
        assert_eq!(trained(&[plain.clone(), silent]).unwrap(), Hold::F32);
        assert_eq!(trained(&[quantized.clone(), quantized.clone()]).unwrap(), Hold::Quantized(nf4.scheme()));
        let both = [quantized, plain];
        assert_eq!(base_of(&both, Base::Original).unwrap(), Hold::F32);
        assert!(trained(&both).unwrap_err().to_string().contains("quantized differently"));
    }
}
