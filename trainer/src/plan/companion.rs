//! The second model of a recipe, a teacher or another reference: [`CompanionModel`] finds and checks it before any weight is read.
//!
//! Both models must give probabilities to the same tokens. Where the teacher numbers them differently, or has more of them,
//! it is given the student's rows, in the student's order: token table, head and bias.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use firebrand_datasets::Tokenizer;
use firebrand_models::weights::Dtype;
use firebrand_models::{Hold, Kind, Model, ModelFiles};

use super::model::model_folder;
use super::text::Text;
use super::vocabulary::Vocabulary;
use crate::error::Error;
use crate::objective::Companion;
use crate::recipe::{Loaded, ModelSource, ObjectiveRecipe, ReferenceRecipe, TeacherModel, TeacherRecipe};

/// A model that runs beside the trained one, frozen.
#[derive(Debug, Clone)]
pub struct CompanionModel {
    /// Its folder.
    pub folder: PathBuf,
    /// The key of the recipe that names it.
    key: &'static str,
    hold: Hold,
    /// For each row of the trained model's vocabulary the row of this one; absent: the rows are the same.
    rows: Option<Vec<u32>>,
}

impl CompanionModel {
    /// Finds the second model that the recipe names, fetched if necessary; `None` where the objective has none.
    ///
    /// # Errors
    /// Those of the hub; a folder that is no model; a model that predicts no tokens, or other tokens than the trained one,
    /// shown in the recipe.
    pub fn find(
        loaded: &Loaded,
        student: &Path,
        vocabulary: Option<&Vocabulary>,
        text: &Text,
    ) -> Result<Option<Self>, Error> {
        match &loaded.recipe.objective {
            Some(ObjectiveRecipe::Distill(distill)) => match &distill.teacher {
                TeacherRecipe::Live(teacher) => Self::teacher(loaded, teacher, student, vocabulary, text).map(Some),
                TeacherRecipe::Cached { .. } => Ok(None),
            },
            Some(objective) => match objective.reference() {
                Some(ReferenceRecipe::Model(source)) => {
                    let other = Other { key: "objective.reference", name: "reference", source };
                    let found = other.find(loaded, student, vocabulary, text)?;
                    Ok(Some(Self { folder: found.folder, key: other.key, hold: Hold::F32, rows: found.rows }))
                }
                // These are the trained model at another time; see `model.rs`.
                Some(ReferenceRecipe::Base | ReferenceRecipe::Start) | None => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// The teacher of a distillation.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn teacher(
        loaded: &Loaded,
        teacher: &TeacherModel,
        student: &Path,
        vocabulary: Option<&Vocabulary>,
        text: &Text,
    ) -> Result<Self, Error> {
        let other = Other { key: "objective.teacher", name: "teacher", source: &teacher.source };
        let Found { folder, rows } = other.find(loaded, student, vocabulary, text)?;
        let hold = match teacher.quantization {
            Some(quantization) => Hold::Quantized(quantization.scheme()),
            None => stored(&folder)?,
        };
        Ok(Self { folder, key: other.key, hold, rows })
    }

    /// Reads its weights.
    ///
    /// # Errors
    /// Weights that are missing, damaged or quantized in another way than the recipe says.
    pub fn load(&self, loaded: &Loaded, device: &Device) -> Result<(Companion, u64), Error> {
        let mut model = Model::load(&self.folder, self.hold, device).map_err(|error| {
            let help = error.help().unwrap_or("name a folder with a whole model").to_string();
            loaded.complain(self.key, error.to_string(), help)
        })?;
        if let Some(rows) = &self.rows {
            model.select_vocabulary(rows)?;
        }
        let bytes = model.weight_bytes();
        Ok((Companion::Network(model.for_inference().network().clone()), bytes))
    }
}

/// A second model, by the key that names it.
struct Other<'a> {
    key: &'static str,
    /// What it is called in messages.
    name: &'static str,
    source: &'a ModelSource,
}

/// Its folder, and for each row of the trained model's vocabulary the row of its own; absent: the rows are the same.
struct Found {
    folder: PathBuf,
    rows: Option<Vec<u32>>,
}

impl Other<'_> {
    fn find(
        &self,
        loaded: &Loaded,
        trained: &Path,
        vocabulary: Option<&Vocabulary>,
        text: &Text,
    ) -> Result<Found, Error> {
        let Self { key, name, source } = *self;
        let folder = find_folder(loaded, source, key)?;
        let outline = Model::outline(&folder)?;
        let Some(other_rows) = outline.vocabulary() else {
            let problem = format!("a model of type {} predicts no tokens", outline.family().name());
            return Err(loaded.complain(key, problem, self.help()).into());
        };
        let Some(rows) = Model::outline(trained)?.vocabulary() else { return Err(no_tokens(loaded)) };
        let rows = vocabulary.map_or(rows, |new| new.rows(rows).rows);
        let tokenizer = Tokenizer::is_in(&folder).then(|| Tokenizer::from_folder(&folder)).transpose()?;
        let rows = match (&text.tokenizer, &tokenizer) {
            (Some(ours), Some(theirs)) => match_tokens(name, ours, theirs, rows, other_rows),
            (None, _) | (_, None) if rows == other_rows => Ok(None),
            (ours, _) => Err(format!(
                "the {name} has rows for {other_rows} tokens and the trained model for {rows}, and the folder of the {} has no \
                 tokenizer that tells which is which",
                if ours.is_none() { "trained model" } else { name }
            )),
        };
        let rows = rows.map_err(|problem| loaded.complain(key, problem, self.help()))?;
        Ok(Found { folder, rows })
    }

    fn help(&self) -> String {
        format!("a {} has the tokens of the trained model: choose one of the same family of tokenizers", self.name)
    }
}

/// The folder of a second model.
fn find_folder(loaded: &Loaded, source: &ModelSource, key: &str) -> Result<PathBuf, Error> {
    let folder = model_folder(source)?;
    if !folder.join("config.json").is_file() {
        let problem = format!("there is no model in {}: it has no config.json", folder.display());
        return Err(loaded.complain(key, problem, "name a model folder, as for `model`").into());
    }
    Ok(folder)
}

fn no_tokens(loaded: &Loaded) -> Error {
    loaded.complain("model", format!("a {} predicts no tokens", Kind::Towers), "choose a decoder").into()
}

/// The precision in which a folder stores all of its weights, which loses nothing; f32 where it stores several.
fn stored(folder: &Path) -> Result<Hold, Error> {
    let files = ModelFiles::open(folder)?;
    let all = |dtype: Dtype| files.checkpoint().tensors().all(|tensor| tensor.dtype == dtype);
    Ok(match (all(Dtype::BF16), all(Dtype::F16)) {
        (true, _) => Hold::Bf16,
        (_, true) => Hold::F16,
        _ => Hold::F32,
    })
}

/// For each row of the student's vocabulary the teacher's row of the same token; `None` where both number them alike and
/// have as many.
fn match_tokens(
    name: &str,
    student: &Tokenizer,
    teacher: &Tokenizer,
    rows: usize,
    teacher_rows: usize,
) -> Result<Option<Vec<u32>>, String> {
    let found: Result<Vec<u32>, String> = (0..rows as u32)
        .map(|id| {
            let (ours, theirs) = (student.id_to_token(id), teacher.id_to_token(id));
            let inside = |row: &u32| (*row as usize) < teacher_rows;
            match &ours {
                // Rows without a token, by which tables are made longer, are never predicted.
                None => Some(id).filter(|id| theirs.is_none() && inside(id)),
                Some(_) if ours == theirs => Some(id).filter(inside),
                Some(token) => teacher.token_to_id(token).filter(inside),
            }
            .ok_or_else(|| differs(name, id, ours, theirs))
        })
        .collect();
    let found = found?;
    let same = rows == teacher_rows && found.iter().enumerate().all(|(id, row)| id == *row as usize);
    Ok((!same).then_some(found))
}

fn differs(name: &str, id: u32, ours: Option<String>, theirs: Option<String>) -> String {
    let shown = |token: Option<String>| token.map_or("none".into(), |token| format!("{token:?}"));
    format!(
        "trained model and {name} have different vocabularies: token {id} is {} for the trained model, {} for the {name}, which \
         has that token nowhere",
        shown(ours),
        shown(theirs)
    )
}
