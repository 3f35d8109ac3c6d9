//! [`Ready`]: data and model of a recipe, from which `train` and `check` start. Rows are encoded while weights are
//! loaded.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use firebrand_datasets::{DataError, Dataset, Split};
use firebrand_models::Model;

use super::cache;
use super::classes::{decide_classes, pad};
use super::companion::{CacheNeed, CompanionPlan};
use super::data::{Data, total_steps};
use super::fits;
use super::kept_reference::{KeptReference, ReferenceEstimate};
use super::length::decide_length;
use super::machine::Machine;
use super::memory::{MemoryPlan, Work, held_before};
use super::model::{Built, build_model};
use super::notes::notes;
use super::opened::Opened;
use super::portions::Portions;
use super::precision::check_numbers;
use super::room::{check_room, check_weights};
use super::vocabulary::Vocabulary;
use crate::device;
use crate::error::Error;
use crate::objective::Companion;
use crate::recipe::{Loaded, ObjectiveRecipe, Recipe};
use crate::run::PlannedMemory;
use crate::ui::bars::{DataProgress, Waiting};

/// A run that can start.
#[derive(Debug)]
pub struct Ready {
    /// Recipe, folder and text.
    pub opened: Opened,
    /// The rows, which passed the data gate.
    pub data: Data,
    /// The model, with its trained parameters made trainable.
    pub model: Model,
    /// Paths of adapted modules.
    pub modules: Vec<String>,
    /// What the objective compares the model with.
    plan: Option<CompanionPlan>,
    /// The same, read, and the bytes of its weights.
    companion: Option<(Companion, u64)>,
    /// The estimate for micro-batches of `train.micro_batch_size` packs.
    memory: MemoryPlan,
    /// In what portions a step runs.
    portions: Portions,
    /// What should be known of the portions.
    memory_remarks: Vec<String>,
    /// What should be known of the run's length.
    remarks: Vec<String>,
}

impl Ready {
    /// Opens the device, finds the model, and loads data and weights at the same time.
    ///
    /// # Errors
    /// A device that is not compiled into this build, not there, or without the numbers that the recipe asks for; those of
    /// [`Opened::new`] and [`CompanionPlan::find`]; those of [`Data::load`] and [`build_model`], as soon as either fails; what the data
    /// gate forbids; rows that the model cannot read; no row to train on; no step with a learning rate above zero; a run that needs
    /// more memory than the machine has; those of [`Machine::measure`].
    pub fn new(loaded: Loaded, cache: CacheNeed) -> Result<Self, Error> {
        let device = device::open(&loaded.recipe.device)?;
        check_numbers(&loaded, &device)?;
        let mut opened = Opened::new(loaded)?;
        let plan = CompanionPlan::find(&opened, cache)?;
        let (machine, program) = (Machine::measure(&opened.recipe().device)?, held_before());
        check_weights(&opened.loaded, &opened.folder, machine)?;
        let (mut data, Built { model, modules, companion }) = load(&mut opened, plan.as_ref(), &device)?;
        let decided = decide_length(&mut opened.loaded, &data)?;
        let beyond = [(Split::Train, Some(&data.train)), (Split::Eval, data.eval.as_ref())];
        let beyond = beyond.into_iter().filter_map(|(split, rows)| fits::beyond_positions(rows?, split, &model));
        let beyond: Vec<_> = beyond.collect();
        data.report.warnings.extend(beyond);
        let recipe = opened.recipe();
        let memory = MemoryPlan::new(&model, Work::of(recipe, &model, &data), machine, program);
        let memory = memory.beside(companion.as_ref().map_or(0, |(_, bytes)| *bytes));
        let portions = Portions::decide(recipe, memory);
        let told = check_room(&opened.loaded, &portions)?;
        let memory_remarks = portions.remark(recipe).into_iter().chain(told).collect();
        Ok(Self { opened, data, model, modules, plan, companion, memory, portions, memory_remarks, remarks: decided })
    }

    /// Takes the portions in which the run began, where they fit: sums in the same order have the same bits.
    ///
    /// # Errors
    /// A run that needs more memory than the machine has, shown in the recipe.
    pub fn go_on_as(&mut self, earlier: PlannedMemory) -> Result<(), Error> {
        let recipe = self.opened.recipe();
        if let Some(portions) = Portions::of_earlier(recipe, self.memory, earlier) {
            self.portions = portions;
        }
        let told = check_room(&self.opened.loaded, &self.portions)?;
        self.memory_remarks = self.portions.remark_of_resumed(recipe, earlier).into_iter().chain(told).collect();
        Ok(())
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        self.opened.recipe()
    }

    /// Steps of the run.
    pub fn total_steps(&self) -> u64 {
        total_steps(self.recipe(), &self.data)
    }

    /// In what portions a step runs, and the estimate behind them.
    pub fn portions(&self) -> Portions {
        self.portions
    }

    /// The hash of what the objective compares the model with, where it compares it with another one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn companion_hash(&self) -> Result<Option<String>, Error> {
        self.plan.as_ref().map(CompanionPlan::hash).transpose()
    }

    /// Whether a teacher's cache is there to train from.
    pub fn has_cache(&self) -> bool {
        matches!(self.plan, Some(CompanionPlan::Cache(_)))
    }

    /// Takes what the objective compares the model with. A reference whose numbers are kept runs over the pairs that are not.
    ///
    /// # Errors
    /// As [`KeptReference::keep`].
    pub fn take_companion(&mut self) -> Result<Option<Companion>, Error> {
        let companion = self.companion.take().map(|(companion, _)| companion);
        let Some(kept) = KeptReference::of(&self.opened, self.plan.as_ref()) else { return Ok(companion) };
        let own = match companion {
            Some(Companion::Network(network)) => Some(network),
            Some(Companion::Cache(_) | Companion::Pairs(_)) | None => None,
        };
        kept.keep(own, &self.pairs(), &self.model.device().inner()).map(Some)
    }

    /// What is kept of the reference's numbers, where the recipe names a folder for them.
    ///
    /// # Errors
    /// As [`KeptReference::estimate`].
    pub fn kept_reference(&self) -> Result<Option<ReferenceEstimate>, Error> {
        let kept = KeptReference::of(&self.opened, self.plan.as_ref());
        kept.map(|kept| kept.estimate(&self.pairs())).transpose()
    }

    /// The rows to train and to evaluate on.
    fn pairs(&self) -> Vec<&Dataset> {
        std::iter::once(&self.data.train).chain(&self.data.eval).collect()
    }

    /// Notes for the user, although nothing is wrong.
    pub fn notes(&self) -> Vec<String> {
        let (text, rendered) = (&self.opened.text, self.data.rendered());
        let of_text = [text.note(rendered), text.unused_templates(rendered)].into_iter().flatten();
        notes(self.recipe(), &self.model, self.data.train.len(), self.total_steps())
            .into_iter()
            .chain(of_text)
            .chain(self.opened.vocabulary.iter().flat_map(Vocabulary::notes))
            .chain(self.data.notes())
            .chain(self.remarks.iter().chain(&self.memory_remarks).cloned())
            .collect()
    }
}

fn load(opened: &mut Opened, companion: Option<&CompanionPlan>, device: &Device) -> Result<(Data, Built), Error> {
    let (data, mut built) = match &opened.recipe().objective {
        // How many classes the head has is known when the rows are read; what is wrong with a label is said before weights are.
        Some(ObjectiveRecipe::Classify(_) | ObjectiveRecipe::Reward(_)) => {
            let data = rows(opened, companion, &|| false)?.ok_or(DataError::Interrupted)?;
            decide_classes(&mut opened.loaded, &opened.folder, &data)?;
            let data = data.with_classes(opened.recipe());
            let _waiting = Waiting::new("reading the model");
            let Opened { loaded, folder, vocabulary, .. } = &*opened;
            (data, build_model(loaded, folder, vocabulary.as_ref(), companion, device)?)
        }
        Some(
            ObjectiveRecipe::Sft(_)
            | ObjectiveRecipe::Distill(_)
            | ObjectiveRecipe::Dpo(_)
            | ObjectiveRecipe::Orpo(_)
            | ObjectiveRecipe::Simpo(_)
            | ObjectiveRecipe::Kto(_)
            | ObjectiveRecipe::Contrastive(_)
            | ObjectiveRecipe::Denoise(_),
        )
        | None => side_by_side(opened, companion, device)?,
    };
    pad(&mut built.model, &opened.text);
    data.check_fits(&built.model, opened.text.tokenizer.as_ref())?;
    if total_steps(opened.recipe(), &data) == 0 {
        let (problem, help) = match data.train.labelled_tokens() {
            0 => ("no row has a labelled token", "look at the rows with `firebrand data RECIPE`, and at data.train_on"),
            _ => ("an epoch visits no row", "raise `weight`, `rows` or `epochs` of a source in [[data.train]]"),
        };
        return Err(Error::Request { problem: format!("there is nothing to train on: {problem}"), help: help.into() });
    }
    Ok((data, built))
}

/// Reads rows and weights at the same time.
fn side_by_side(opened: &Opened, companion: Option<&CompanionPlan>, device: &Device) -> Result<(Data, Built), Error> {
    let failed = Arc::new(AtomicBool::new(false));
    let building = {
        let (failed, loaded, folder, device) =
            (failed.clone(), opened.loaded.clone(), opened.folder.clone(), device.clone());
        let (vocabulary, companion) = (opened.vocabulary.clone(), companion.cloned());
        // Not joined when the data fail: the program ends then, and the error should not wait for gigabytes of weights.
        std::thread::spawn(move || {
            build_model(&loaded, &folder, vocabulary.as_ref(), companion.as_ref(), &device)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))
        })
    };
    let data = rows(opened, companion, &|| failed.load(Ordering::Relaxed))?;
    let waiting = Waiting::new("reading the model");
    let built = building.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    drop(waiting);
    Ok((data.ok_or(DataError::Interrupted)?, built))
}

/// Reads the rows and checks them with the data gate; absent where `stop` ended that.
fn rows(opened: &Opened, companion: Option<&CompanionPlan>, stop: &dyn Fn() -> bool) -> Result<Option<Data>, Error> {
    let bar = DataProgress::new();
    let data = Data::load(opened.recipe(), &opened.text, cache::folder().as_deref(), &|split, progress| {
        bar.report(split, progress);
        if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    let data = match data {
        Err(Error::Data(DataError::Interrupted)) => return Ok(None),
        data => data?,
    };
    data.report.clone().pass()?;
    companion.map_or(Ok(()), |companion| companion.check_rows(opened, &data.train))?;
    Ok(Some(data))
}
