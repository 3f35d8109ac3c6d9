//! Decides the classes of a classifier, from its recipe, its head and its rows: [`decide_classes`].

use std::path::Path;

use firebrand_datasets::{Classes, Dataset, ExampleContent, Problem, RowKind, unnamed};
use firebrand_models::families::ClassNames;
use firebrand_models::{Model, ModelFiles, adapter_folder};

use super::data::Data;
use super::text::Text;
use crate::error::Error;
use crate::export::companions;
use crate::objective::label_of;
use crate::recipe::{Init, Loaded, ObjectiveRecipe, Recipe};

/// Writes the names of the classes into the recipe where it leaves them open, and checks every label. Nothing is read of the
/// weights but their shapes.
///
/// # Errors
/// Names that do not fit the head that the model or the adapter has; a row whose label is no class, named by file and line.
pub fn decide_classes(loaded: &mut Loaded, folder: &Path, data: &Data) -> Result<(), Error> {
    let recipe = &loaded.recipe;
    match &recipe.objective {
        Some(ObjectiveRecipe::Classify(classify)) => {
            let (problem, rows) = (classify.problem.unwrap_or_default(), classify.rows);
            if rows == RowKind::Tensors && problem != Problem::Single {
                let said = format!("problem = \"{problem}\" is one of texts: an image is of one class here");
                return Err(loaded.complain("objective.problem", said, "write problem = \"single\"").into());
            }
            let head = head(recipe, folder)?;
            let classes = match (classify.labels.is_empty(), head) {
                (false, None) => classify.classes(),
                (false, Some(head)) if head.names.len() == classify.labels.len() => classify.classes(),
                // The features of images serve any classes: the head becomes another one.
                (false, Some(_)) if rows == RowKind::Tensors => classify.classes(),
                (false, Some(head)) => {
                    let (named, scored) = (classify.labels.len(), head.names.len());
                    let problem = format!("`objective.labels` names {named} classes, and the head scores {scored}");
                    let help = "name as many as there are, or take the model without its head";
                    return Err(loaded.complain("objective.labels", problem, help).into());
                }
                (true, None) => found_in(&data.train, problem)?,
                (true, Some(head)) => of_head(head, problem, data),
            };
            if problem == Problem::Single && classes.count() == 1 {
                let said = "problem = \"single\" chooses among classes, and the head scores one";
                let help = "write problem = \"regression\" to learn a value, or take the model without its head";
                return Err(loaded.complain("objective", said, help).into());
            }
            if problem == Problem::Regression && classes.count() != 1 {
                let said =
                    format!("problem = \"regression\" learns one value, and the head scores {}", classes.count());
                let help = "leave `problem` out, or take the model without its head";
                return Err(loaded.complain("objective", said, help).into());
            }
            let all = [Some(&data.train), data.eval.as_ref()].into_iter().flatten();
            all.into_iter().try_for_each(|rows| check_labels(&classes, rows))?;
            let decided = crate::recipe::ClassifyRecipe { labels: classes.names, problem: Some(problem), rows };
            loaded.recipe.objective = Some(ObjectiveRecipe::Classify(decided));
            Ok(())
        }
        Some(ObjectiveRecipe::Reward(_)) => match head(recipe, folder)? {
            Some(head) if head.names.len() != 1 => {
                let problem = format!("a reward is one score, and the head gives {}", head.names.len());
                let help = "write kind = \"classify\", or take the model without its head";
                Err(loaded.complain("objective.kind", problem, help).into())
            }
            Some(_) | None => Ok(()),
        },
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
        | None => Ok(()),
    }
}

/// The classes in the labels of rows. Rows of tensors have numbers, and as many classes as the largest asks for.
///
/// # Errors
/// As [`Classes::found_in`].
fn found_in(rows: &Dataset, problem: Problem) -> Result<Classes, Error> {
    match has_numbers(rows)? {
        false => Ok(Classes::found_in(rows, problem)?),
        true => {
            let mut largest = 0;
            each_label(rows, |label| {
                largest = largest.max(label);
                match label < MOST {
                    true => Ok(()),
                    false => Err(format!("its `labels` is {label}, and {MOST} classes are the most")),
                }
            })?;
            match largest {
                0 => Err(Error::Request {
                    problem: format!("{}: all rows are of class 0", rows.location(0)),
                    help: "give rows of at least two classes, or name the classes (objective.labels)".into(),
                }),
                largest => Ok(Classes::unnamed(problem, largest + 1)),
            }
        }
    }
}

/// Checks the label of every row.
///
/// # Errors
/// The first row that has none, or one that is no class.
pub fn check_labels(classes: &Classes, rows: &Dataset) -> Result<(), Error> {
    match has_numbers(rows)? {
        false => Ok(classes.check(rows)?),
        true => each_label(rows, |label| match (label < classes.count(), classes.count()) {
            (true, _) => Ok(()),
            (false, count) => {
                Err(format!("its `labels` is {label}, and there are {count} classes, 0 to {}", count.saturating_sub(1)))
            }
        }),
    }
}

/// Whether labels are numbers in files of tensors, and not names or numbers in the rows themselves.
///
/// # Errors
/// Prepared rows that cannot be read again.
fn has_numbers(rows: &Dataset) -> Result<bool, Error> {
    match rows.examples().next().transpose()?.map(|example| example.content) {
        Some(ExampleContent::Tensors(_)) => Ok(true),
        Some(ExampleContent::Tokens(_) | ExampleContent::Pictured(_)) | None => Ok(false),
    }
}

/// The most classes that numbers of rows may ask for, because each of them is a row of a new matrix.
const MOST: usize = 1 << 16;

/// Calls `look` with the label of every row of tensors.
fn each_label(rows: &Dataset, mut look: impl FnMut(usize) -> Result<(), String>) -> Result<(), Error> {
    for example in rows.examples() {
        let example = example?;
        let ExampleContent::Tensors(file) = &example.content else {
            return Err(Error::Request {
                problem: format!("{}: a picture among rows of tensors, whose classes have no names", example.source),
                help: "train on pictures, or on rows of tensors".into(),
            });
        };
        let label = label_of(&file.outline(&example.source)?);
        let label = label.and_then(|label| label.ok_or_else(|| "it has no `labels`, the number of its class".into()));
        if let Err(why) = label.and_then(&mut look) {
            return Err(Error::Request {
                problem: format!("{}: {}: {why}", example.source, file.path.display()),
                help: "a row of an image holds `pixel_values` and `labels`".into(),
            });
        }
    }
    Ok(())
}

/// The classes of a head. Names of the rows are taken where the head's own say nothing, and there are as many.
fn of_head(head: ClassNames, problem: Problem, data: &Data) -> Classes {
    let count = head.names.len();
    let silent = head.names.iter().enumerate().all(|(number, name)| *name == unnamed(number));
    match found_in(&data.train, problem) {
        Ok(found) if silent && found.count() == count => found,
        Ok(_) | Err(_) => Classes { problem, names: head.names },
    }
}

/// The classes that the adapter a run starts from scores, or its model; absent where the head is new.
fn head(recipe: &Recipe, folder: &Path) -> Result<Option<ClassNames>, Error> {
    let of_model = match recipe.init {
        // Files that cannot be opened are told when they are read; labels are checked before.
        Init::Pretrained => ModelFiles::open(folder).ok().and_then(|files| {
            let classes = files.network().classes();
            classes.map(|count| ClassNames::of(files.config(), count))
        }),
        Init::Random => Model::outline(folder)?.class_names(),
    };
    let Some(adapter) = recipe.method.init_from() else { return Ok(of_model) };
    let Some(count) = adapter_folder::classes(adapter)? else { return Ok(of_model) };
    let known = companions::training_classes(adapter)?.filter(|classes| classes.labels.len() == count);
    let names = known.map(|classes| classes.names()).or(of_model.filter(|names| names.names.len() == count));
    let unnamed = || ClassNames { names: (0..count).map(unnamed).collect(), problem_type: None };
    Ok(Some(names.unwrap_or_else(unnamed)))
}

/// Gives a model the head that the objective of its recipe needs, with the names of its classes. A head of images that tells
/// other classes apart is replaced by a new one.
///
/// # Errors
/// A model whose texts cannot be classified; a head of another number of classes.
pub fn give_head(model: &mut Model, recipe: &Recipe) -> Result<(), Error> {
    let names = match &recipe.objective {
        Some(ObjectiveRecipe::Classify(classify)) => {
            let problem_type = Some(classify.problem.unwrap_or_default().in_config().to_owned());
            ClassNames { names: classify.labels.clone(), problem_type }
        }
        Some(ObjectiveRecipe::Reward(_)) => {
            let problem_type = Some(Problem::Regression.in_config().to_owned());
            ClassNames { names: vec![unnamed(0)], problem_type }
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
        | None => {
            return Ok(());
        }
    };
    let others = |found: ClassNames| {
        let silent = found.names.iter().enumerate().all(|(number, name)| *name == unnamed(number));
        found.names.len() != names.names.len() || !silent && found.names != names.names
    };
    match model.network().image().is_some() && model.class_names().is_some_and(others) {
        true => model.begin_classes(names.names.len(), recipe.seed)?,
        false => model.become_classifier(names.names.len(), recipe.seed)?,
    }
    model.name_classes(&names);
    Ok(())
}

/// Sets the padding of a classifier that has none to that of its tokenizer, or to the token that ends a text: as the
/// reference does, so that the written model reads a text where it was trained to.
pub fn pad(model: &mut Model, text: &Text) {
    let special = text.tokenizer.as_ref().map(|tokenizer| tokenizer.special());
    if let Some(id) = special.and_then(|special| special.pad_id.or(special.eos_id)) {
        model.pad_with(id as usize);
    }
}
