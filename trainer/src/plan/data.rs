//! Prepares the rows of a recipe and checks them with the data gate: [`Data::load`].

use std::ops::ControlFlow;
use std::path::Path;

use firebrand_datasets::{
    CacheChoice, ChosenRows, Dataset, Format, Prepare, Progress, Report, SourceConfig, Split, Tokenizer, prepare,
};
use firebrand_hub::HubDatasets;
use firebrand_models::Model;

use super::fits;
use super::rows::rows_of;
use super::text::Text;
use crate::error::Error;
use crate::recipe::{ObjectiveRecipe, Recipe};
use crate::training::Steps;

/// The tokenised data of a recipe.
#[derive(Debug)]
pub struct Data {
    /// Rows to train on.
    pub train: Dataset,
    /// Rows to evaluate on.
    pub eval: Option<Dataset>,
    /// The findings of the data gate.
    pub report: Report,
}

impl Data {
    /// Reads, renders and tokenises all rows, or takes them from the folder `cache` if it holds them. `progress` is
    /// called with the name of the split.
    ///
    /// # Errors
    /// Broken rows; a validation split without rows; rows that the objective does not train on. What the data gate
    /// forbids is *not* an error here: see [`Report::pass`].
    pub fn load(
        recipe: &Recipe,
        text: &Text,
        cache: Option<&Path>,
        progress: &dyn Fn(&str, Progress) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        let cache = match recipe.data.cache {
            CacheChoice::Auto => cache,
            CacheChoice::Off => None,
        };
        let config = rows_of(recipe);
        let split = |split: Split, name: &'static str| {
            prepare(&Prepare {
                config: &config,
                split,
                base: Path::new(""),
                tokenizer: text.tokenizer.as_ref(),
                template: text.template.as_ref(),
                pictures: text.pictures.as_ref(),
                micro_batch: recipe.train.micro_batch_size,
                cache,
                fetch: &HubDatasets,
                keep_text: false,
                limit: None,
                progress: &|report| progress(name, report),
            })
            .map_err(|error| text.explain(error))
        };
        let train = split(Split::Train, "train")?;
        let eval = match (recipe.data.validation_split, recipe.data.eval.is_empty()) {
            (Some(_), _) => train.set_aside(&config),
            (None, false) => Some(split(Split::Eval, "eval")?),
            (None, true) => None,
        };
        if eval.as_ref().is_some_and(Dataset::is_empty) {
            let problem = "data.validation_split sets no row aside: there are too few".into();
            let help = "raise it, or name rows for evaluation in [[data.eval]]".into();
            return Err(Error::Request { problem, help });
        }
        let objective = recipe.objective.clone().unwrap_or_else(ObjectiveRecipe::sft);
        let both = [Some(&train), eval.as_ref()].into_iter().flatten();
        both.into_iter().try_for_each(|dataset| fits::check_objective(dataset, &objective))?;
        fits::check_steps(&train, recipe)?;
        let report = Report::new(Some(&train), eval.as_ref(), text.tokenizer.as_ref(), &recipe.data.gate)?;
        Ok(Self { train, eval, report })
    }

    /// Says what the labels of rows with pictures are learned as, once the recipe names the classes.
    pub fn with_classes(self, recipe: &Recipe) -> Self {
        let Some(ObjectiveRecipe::Classify(classify)) = &recipe.objective else { return self };
        let named = |rows: Dataset| rows.with_classes(classify.classes());
        Self { train: named(self.train), eval: self.eval.map(named), ..self }
    }

    /// How many rows the queries of sources kept, for training and for evaluation.
    pub fn chosen(&self) -> impl Iterator<Item = &ChosenRows> {
        self.train.chosen.iter().chain(self.eval.iter().flat_map(|eval| &eval.chosen))
    }

    /// Whether any row was rendered by a chat template.
    pub fn rendered(&self) -> bool {
        [Some(&self.train), self.eval.as_ref()].into_iter().flatten().any(Dataset::rendered)
    }

    /// Whether rows are of one of `formats`, and none was rendered by a chat template.
    pub fn is_unrendered(&self, formats: &[Format]) -> bool {
        let all = [Some(&self.train), self.eval.as_ref()].into_iter().flatten();
        !self.rendered()
            && all.flat_map(|dataset| &dataset.decisions).any(|decision| formats.contains(&decision.format))
    }

    /// What users should know of the sources, each said once.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.train.notes.clone();
        let of_eval = self.eval.iter().flat_map(|eval| &eval.notes);
        notes.extend(of_eval.filter(|note| !self.train.notes.contains(note)).cloned());
        notes
    }

    /// Checks that the model can read all rows.
    ///
    /// # Errors
    /// A row that it cannot read.
    pub fn check_fits(&self, model: &Model, tokenizer: Option<&Tokenizer>) -> Result<(), Error> {
        [Some(&self.train), self.eval.as_ref()]
            .into_iter()
            .flatten()
            .try_for_each(|dataset| fits::check(dataset, model, tokenizer))
    }
}

/// Number of optimiser steps of the run.
pub fn total_steps(recipe: &Recipe, data: &Data) -> u64 {
    Steps::new(&data.train, recipe.seed, recipe.train.batch_size, recipe.train.duration).total
}

/// The data sources of a command that is given files instead of a recipe.
pub fn sources(paths: &[String], format: Format, columns: &[(String, String)]) -> Vec<SourceConfig> {
    let source = |path| SourceConfig { format, columns: columns.iter().cloned().collect(), ..SourceConfig::new(path) };
    paths.iter().map(source).collect()
}
