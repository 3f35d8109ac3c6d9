//! The classes that the rows of a dataset name: [`Classes::found_in`] and [`Classes::check`].

use std::collections::BTreeSet;

use crate::classes::{Classes, Problem, class_number, wrong_type};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::label::{Class, Label};
use crate::location::Location;

impl Classes {
    /// The classes in the labels of `dataset`: names in their order; where rows hold numbers, as many as the largest asks
    /// for.
    ///
    /// # Errors
    /// A row whose label is missing or not one of this problem; rows that are all of one class.
    pub fn found_in(dataset: &Dataset, problem: Problem) -> Result<Self, DataError> {
        let (mut names, mut largest) = (BTreeSet::new(), None);
        each(dataset, |location, label| {
            let classes = match (problem, label) {
                (Problem::Single, Label::One(class)) => std::slice::from_ref(class),
                (Problem::Multi, Label::Several(classes)) => classes,
                (Problem::Regression, Label::One(Class::Number(_))) => &[],
                (Problem::Single | Problem::Multi | Problem::Regression, _) => {
                    return Err(wrong_type(problem, label).at(location));
                }
            };
            for class in classes {
                match class {
                    Class::Name(name) => {
                        names.insert(name.clone());
                    }
                    Class::Number(number) => {
                        let number = class_number(*number).map_err(|misfit| misfit.at(location))?;
                        largest = largest.max(Some(number));
                    }
                }
            }
            Ok(())
        })?;
        let mut names: Vec<String> = names.into_iter().collect();
        if names.is_empty() {
            let count = largest.map_or(0, |largest| largest + 1);
            names = Self::unnamed(problem, count).names;
        }
        match problem {
            Problem::Regression => Ok(Self::unnamed(problem, 1)),
            Problem::Multi if !names.is_empty() => Ok(Self { problem, names }),
            Problem::Single if names.len() > 1 => Ok(Self { problem, names }),
            Problem::Single | Problem::Multi => {
                let found = names.first().map_or("no class at all".to_owned(), |name| format!("only {name:?}"));
                Err(DataError::row(
                    &dataset.location(0),
                    "rows of at least two classes",
                    format!("{found} in all rows"),
                ))
            }
        }
    }

    /// Checks the label of every row.
    ///
    /// # Errors
    /// The first row that has none, or one that cannot be learned.
    pub fn check(&self, dataset: &Dataset) -> Result<(), DataError> {
        each(dataset, |location, label| match self.target(label) {
            Ok(_) => Ok(()),
            Err(misfit) => Err(misfit.at(location)),
        })
    }
}

/// Calls `look` with the label of every row that has weight.
fn each(dataset: &Dataset, mut look: impl FnMut(&Location, &Label) -> Result<(), DataError>) -> Result<(), DataError> {
    for example in dataset.examples() {
        let example = example?;
        match example.label() {
            Some(row) => match &row.label {
                Some(label) => look(&example.source, label)?,
                None => {
                    let expected = "`label` (the name or number of a class, a list of them, or a value)";
                    return Err(DataError::row(&example.source, expected, "a row without one"));
                }
            },
            None => return Err(DataError::row(&example.source, "a labelled row", "a row without a label")),
        }
    }
    Ok(())
}
