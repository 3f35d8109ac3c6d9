//! What the objective of a recipe compares the model with, a teacher, its cache, or another reference: [`CompanionPlan`]
//! finds and checks it before any weight is read.
//!
//! Both models must give probabilities to the same tokens. Where the teacher numbers them differently, or has more of them,
//! it is given the student's rows, in the student's order: token table, head and bias.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use firebrand_datasets::{Dataset, Tokenizer};
use firebrand_models::{Hold, Model, Network};

use super::model_folder::model_folder;
use super::opened::Opened;
use super::precision::stored;
use crate::error::Error;
use crate::features::{Missing, TeacherCache, TeacherKey, hash_examples, hash_model};
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

/// What the objective of a recipe compares the model with, before weights are read.
#[derive(Debug, Clone)]
pub enum CompanionPlan {
    /// A model.
    Model(CompanionModel),
    /// What a teacher computed before.
    Cache(Arc<TeacherCache>),
}

/// What is done where a teacher's cache is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheNeed {
    /// An error: the run cannot start.
    Required,
    /// Nothing, where the recipe names the teacher that can write it.
    Announced,
}

impl CompanionPlan {
    /// Finds the second model that the recipe names, fetched if necessary, or its cache; `None` where the objective has
    /// neither.
    ///
    /// # Errors
    /// Those of the hub; a folder that is no model; a model that predicts no tokens, or other tokens than the trained one,
    /// shown in the recipe; a cache that is not there, or of something else.
    pub fn find(opened: &Opened, need: CacheNeed) -> Result<Option<Self>, Error> {
        let objective = opened.recipe().objective.as_ref();
        if let Some(ReferenceRecipe::Model(source)) = objective.and_then(ObjectiveRecipe::reference) {
            return Ok(Some(Self::Model(CompanionModel::reference(opened, source)?)));
        }
        let Some(ObjectiveRecipe::Distill(distill)) = objective else { return Ok(None) };
        let (folder, model) = match &distill.teacher {
            TeacherRecipe::Live(teacher) => return Ok(Some(Self::Model(CompanionModel::teacher(opened, teacher)?))),
            TeacherRecipe::Cached { folder, model } => (folder, model),
        };
        let teacher = model.as_ref().map(|teacher| CompanionModel::teacher(opened, teacher)).transpose()?;
        let missing = match TeacherCache::open(folder)? {
            Ok(cache) => {
                cache.check(&teacher_key(opened, teacher.as_ref(), None)?)?;
                return Ok(Some(Self::Cache(Arc::new(cache))));
            }
            Err(_) if need == CacheNeed::Announced && teacher.is_some() => return Ok(None),
            Err(missing) => missing,
        };
        let problem = match missing {
            Missing::Absent => format!("there is no teacher's cache in {}", folder.display()),
            Missing::Unfinished(done, of) => {
                format!("the teacher's cache in {} is not finished: {done} of {of} examples", folder.display())
            }
        };
        Err(opened.loaded.complain("objective.cache", problem, WRITES_IT).into())
    }

    /// Checks that what was computed before is of these rows.
    ///
    /// # Errors
    /// A cache of other rows.
    pub fn check_rows(&self, opened: &Opened, rows: &Dataset) -> Result<(), Error> {
        match self {
            Self::Model(_) => Ok(()),
            Self::Cache(cache) => {
                let wanted = teacher_key(opened, None, Some(rows))?;
                cache.check(&TeacherKey { teacher: cache.key().teacher.clone(), ..wanted })
            }
        }
    }

    /// The hash of the teacher.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String, Error> {
        match self {
            Self::Model(model) => model.hash(),
            Self::Cache(cache) => Ok(cache.key().teacher.clone()),
        }
    }

    /// Reads weights, where there are any; also returns their bytes.
    ///
    /// # Errors
    /// As [`CompanionModel::load`].
    pub fn load(&self, loaded: &Loaded, device: &Device) -> Result<(Companion, u64), Error> {
        match self {
            Self::Model(model) => {
                let (network, bytes) = model.load(loaded, device)?;
                Ok((Companion::Network(network), bytes))
            }
            Self::Cache(cache) => Ok((Companion::Cache(cache.clone()), 0)),
        }
    }
}

/// How a cache comes to be.
const WRITES_IT: &str = "`firebrand distill cache RECIPE` runs the teacher that the recipe names and writes it";

/// What a teacher's cache for a run must be made from. The teacher's hash is empty where none is given, that of the rows
/// where these are not known yet.
///
/// # Errors
/// A file of the teacher that cannot be read.
pub fn teacher_key(
    opened: &Opened,
    teacher: Option<&CompanionModel>,
    rows: Option<&Dataset>,
) -> Result<TeacherKey, Error> {
    let Some(ObjectiveRecipe::Distill(distill)) = &opened.recipe().objective else {
        return Err(Error::Request {
            problem: "the recipe distils nothing".into(),
            help: "add [objective] with kind = \"distill\", a teacher and a cache".into(),
        });
    };
    Ok(TeacherKey {
        teacher: teacher.map(CompanionModel::hash).transpose()?.unwrap_or_default(),
        tokenizer: opened.text.tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_string()),
        data: rows.map(hash_examples).unwrap_or_default(),
        vocabulary: student_rows(opened)?,
        temperature: distill.temperature,
        top_k: distill.top_k,
        dtype: opened.recipe().dtype,
    })
}

/// Rows of the vocabulary of the model that is trained.
fn student_rows(opened: &Opened) -> Result<usize, Error> {
    let outline = Model::outline(&opened.folder)?;
    let Some(rows) = outline.vocabulary() else { return Err(no_tokens(&opened.loaded, &outline)) };
    Ok(opened.vocabulary.as_ref().map_or(rows, |new| new.rows(rows).rows))
}

impl CompanionModel {
    /// The teacher of a distillation.
    ///
    /// # Errors
    /// As [`CompanionPlan::find`].
    pub fn teacher(opened: &Opened, teacher: &TeacherModel) -> Result<Self, Error> {
        let TeacherModel { source, quantization } = teacher;
        let other = Other { key: "objective.teacher", name: "teacher", own: "student" };
        let (folder, rows) = other.find(opened, source)?;
        check_hidden(opened, &Model::outline(&folder)?)?;
        let hold = match quantization {
            Some(quantization) => Hold::Quantized(quantization.scheme()),
            None => stored(&folder)?,
        };
        Ok(Self { folder, key: other.key, hold, rows })
    }

    /// The reference of a preference objective, where it is another model than the trained one.
    ///
    /// # Errors
    /// As [`CompanionPlan::find`].
    pub fn reference(opened: &Opened, source: &ModelSource) -> Result<Self, Error> {
        let other = Other { key: "objective.reference", name: "reference", own: "trained model" };
        let (folder, rows) = other.find(opened, source)?;
        Ok(Self { folder, key: other.key, hold: Hold::F32, rows })
    }

    /// The hash of its weights and configuration, held as here.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String, Error> {
        hash_model(&self.folder, self.hold)
    }

    /// For each row of the trained model's vocabulary the row of this one; `None`: the rows are the same.
    pub fn rows(&self) -> Option<&[u32]> {
        self.rows.as_deref()
    }

    /// Reads its weights; also returns their bytes.
    ///
    /// # Errors
    /// Weights that are missing, damaged or quantized in another way than the recipe says.
    pub fn load(&self, loaded: &Loaded, device: &Device) -> Result<(Network, u64), Error> {
        let mut model = Model::load(&self.folder, self.hold, device).map_err(|error| {
            let help = error.help().unwrap_or("name a folder with a whole model").to_string();
            loaded.complain(self.key, error.to_string(), help)
        })?;
        if let Some(rows) = &self.rows {
            model.select_vocabulary(rows)?;
        }
        let model = model.with_precision(loaded.recipe.precision());
        let bytes = model.weight_bytes();
        Ok((model.for_inference().network().clone(), bytes))
    }
}

/// Checks that the hidden states which the recipe matches are there.
fn check_hidden(opened: &Opened, teacher: &Model) -> Result<(), Error> {
    let Some(ObjectiveRecipe::Distill(distill)) = &opened.recipe().objective else { return Ok(()) };
    let Some(hidden) = &distill.hidden else { return Ok(()) };
    let blocks = |model: &Model| model.network().config().stacks().first().map_or(0, |stack| stack.layers);
    let (layers, other_layers) = (blocks(&Model::outline(&opened.folder)?), blocks(teacher));
    let named = hidden.layers.iter().flatten();
    for (index, [student, teacher]) in named.clone().enumerate() {
        let problem = match (*student < layers, *teacher < other_layers) {
            (false, _) => format!("block {student} of a student with {layers} blocks, counted from 0"),
            (_, false) => format!("block {teacher} of a teacher with {other_layers} blocks, counted from 0"),
            _ if named.clone().take(index).any(|[earlier, _]| earlier == student) => {
                format!("block {student} of the student is matched twice")
            }
            _ => continue,
        };
        let help = "write pairs of a block of the student and one of the teacher";
        return Err(opened.loaded.complain("objective.hidden_layers", problem, help).into());
    }
    Ok(())
}

/// A second model: the key that names it, and what the two models are called in messages.
struct Other {
    key: &'static str,
    name: &'static str,
    own: &'static str,
}

impl Other {
    /// Its folder, and for each row of the trained model's vocabulary its own row; absent: the rows are the same.
    fn find(&self, opened: &Opened, source: &ModelSource) -> Result<(PathBuf, Option<Vec<u32>>), Error> {
        let Self { key, name, own } = self;
        let (loaded, text) = (&opened.loaded, &opened.text);
        let help = || format!("a {name} has the tokens of the {own}: choose one of the same family of tokenizers");
        let folder = find_folder(loaded, source, key)?;
        let outline = Model::outline(&folder)?;
        let Some(other_rows) = outline.vocabulary() else {
            let problem = format!("a model of type {} predicts no tokens", outline.family().name());
            return Err(loaded.complain(key, problem, help()).into());
        };
        let rows = student_rows(opened)?;
        let tokenizer = Tokenizer::is_in(&folder).then(|| Tokenizer::from_folder(&folder)).transpose()?;
        let rows = match (&text.tokenizer, &tokenizer) {
            (Some(ours), Some(theirs)) => self.match_tokens(ours, theirs, rows, other_rows),
            (None, _) | (_, None) if rows == other_rows => Ok(None),
            (ours, _) => Err(format!(
                "the {name} has rows for {other_rows} tokens and the {own} for {rows}, and the folder of the {} has no \
                 tokenizer that tells which is which",
                if ours.is_none() { own } else { name }
            )),
        };
        Ok((folder, rows.map_err(|problem| loaded.complain(key, problem, help()))?))
    }

    /// For each row of the trained model's vocabulary the other's row of the same token; `None` where both number them alike
    /// and have as many.
    fn match_tokens(
        &self,
        trained: &Tokenizer,
        other: &Tokenizer,
        rows: usize,
        other_rows: usize,
    ) -> Result<Option<Vec<u32>>, String> {
        let found: Result<Vec<u32>, String> = (0..rows as u32)
            .map(|id| {
                let (ours, theirs) = (trained.id_to_token(id), other.id_to_token(id));
                let inside = |row: &u32| (*row as usize) < other_rows;
                match &ours {
                    // Rows without a token, by which tables are made longer, are never predicted.
                    None => Some(id).filter(|id| theirs.is_none() && inside(id)),
                    Some(_) if ours == theirs => Some(id).filter(inside),
                    Some(token) => other.token_to_id(token).filter(inside),
                }
                .ok_or_else(|| self.differs(id, ours, theirs))
            })
            .collect();
        let found = found?;
        let same = rows == other_rows && found.iter().enumerate().all(|(id, row)| id == *row as usize);
        Ok((!same).then_some(found))
    }

    fn differs(&self, id: u32, ours: Option<String>, theirs: Option<String>) -> String {
        let shown = |token: Option<String>| token.map_or("none".into(), |token| format!("{token:?}"));
        let Self { name, own, .. } = self;
        format!(
            "{own} and {name} have different vocabularies: token {id} is {} for the {own}, {} for the {name}, which has the \
             {own}'s token nowhere",
            shown(ours),
            shown(theirs)
        )
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

fn no_tokens(loaded: &Loaded, model: &Model) -> Error {
    loaded.complain("model", format!("a {} predicts no tokens", model.kind()), "choose a decoder").into()
}
