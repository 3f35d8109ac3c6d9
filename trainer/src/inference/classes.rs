//! What a classifier tells apart, where no recipe says it: [`classes_of`].

use firebrand_datasets::{Classes, Dataset, Label, Problem};
use firebrand_models::Model;
use firebrand_models::families::ClassNames;

use crate::error::Error;

/// What the scores of a model tell apart, by its `config.json`; absent where it has none. A problem that stands there not
/// is told as the reference tells it: by the number of scores, and by whether the labels of the rows are lists.
pub fn classes_of(model: &Model, rows: Option<&Dataset>) -> Option<Classes> {
    let ClassNames { names, problem_type } = model.class_names()?;
    let is_list = || {
        let label = |example: firebrand_datasets::Example| example.label()?.label.clone();
        let mut labels = rows.into_iter().flat_map(Dataset::examples).filter_map(|example| label(example.ok()?));
        matches!(labels.next(), Some(Label::Several(_)))
    };
    let problem = problem_type.as_deref().and_then(Problem::of_config).unwrap_or_else(|| match names.len() {
        1 => Problem::Regression,
        _ if is_list() => Problem::Multi,
        _ => Problem::Single,
    });
    Some(Classes { problem, names })
}

/// The error that a model has no scores for classes.
pub fn no_classes() -> Error {
    let help = "name a classifier, or an adapter that holds its head";
    Error::Request { problem: "the model scores no classes".into(), help: help.into() }
}
