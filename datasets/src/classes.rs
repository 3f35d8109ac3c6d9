//! The classes of a classifier: [`Classes`] says what a row's label is to be learned as.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::label::{Class, Label};
use crate::location::Location;

/// The most classes that numbers of rows may ask for, because each of them is a row of a new matrix.
const MOST: usize = 1 << 16;

/// What a row's label says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// A row is of one class: cross-entropy.
    #[default]
    Single,
    /// A row is of any number of classes: binary cross-entropy of each.
    Multi,
    /// A row has a value: squared error.
    Regression,
}

impl Problem {
    /// The word for it in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Multi => "multi",
            Self::Regression => "regression",
        }
    }

    /// The value of `problem_type` in a `config.json`.
    pub fn in_config(self) -> &'static str {
        match self {
            Self::Single => "single_label_classification",
            Self::Multi => "multi_label_classification",
            Self::Regression => "regression",
        }
    }

    /// The problem with this `problem_type`.
    pub fn of_config(text: &str) -> Option<Self> {
        [Self::Single, Self::Multi, Self::Regression].into_iter().find(|problem| problem.in_config() == text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a classifier tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// What a label says.
    pub problem: Problem,
    /// The names of the classes, by their numbers; for `regression` the name of the value.
    pub names: Vec<String>,
}

/// A label as it is learned.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The number of the one class.
    Class(usize),
    /// For each class, whether the row is of it.
    Classes(Vec<bool>),
    /// The value.
    Value(f64),
}

/// Why a label cannot be learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// The name that a class without one has in files.
pub fn unnamed(number: usize) -> String {
    format!("LABEL_{number}")
}

impl Classes {
    /// Classes without names, as many as a head has rows.
    pub fn unnamed(problem: Problem, count: usize) -> Self {
        Self { problem, names: (0..count).map(unnamed).collect() }
    }

    /// Number of scores that the head gives.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// What a label is to be learned as.
    ///
    /// # Errors
    /// A name that no class has, a number that is no class, a label of another problem.
    pub fn target(&self, label: &Label) -> Result<Target, Misfit> {
        match (self.problem, label) {
            (Problem::Single, Label::One(class)) => Ok(Target::Class(self.number(class)?)),
            (Problem::Multi, Label::Several(classes)) => {
                let mut of = vec![false; self.count()];
                for class in classes {
                    of[self.number(class)?] = true;
                }
                Ok(Target::Classes(of))
            }
            (Problem::Regression, Label::One(Class::Number(value))) => Ok(Target::Value(*value)),
            (problem @ (Problem::Single | Problem::Multi | Problem::Regression), _) => Err(wrong_type(problem, label)),
        }
    }

    fn number(&self, class: &Class) -> Result<usize, Misfit> {
        match class {
            Class::Name(name) => self.names.iter().position(|known| known == name).ok_or_else(|| Misfit {
                expected: format!("`label` to be one of the classes: {}", self.shown()),
                found: format!("{name:?}"),
            }),
            Class::Number(number) => {
                let number = class_number(*number)?;
                if number < self.count() {
                    return Ok(number);
                }
                Err(Misfit {
                    expected: format!(
                        "`label` to be the number of one of {} classes, 0 to {}",
                        self.count(),
                        self.count() - 1
                    ),
                    found: number.to_string(),
                })
            }
        }
    }

    /// The names, for a message.
    fn shown(&self) -> String {
        const SHOWN: usize = 12;
        let names: Vec<String> = self.names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
        let more = self.count().saturating_sub(SHOWN);
        if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
    }
}

impl Misfit {
    /// The error that the label of a row is this.
    pub(crate) fn at(self, location: &Location) -> DataError {
        DataError::row(location, self.expected, self.found)
    }
}

pub(crate) fn class_number(number: f64) -> Result<usize, Misfit> {
    let whole = number >= 0.0 && number.fract() == 0.0 && number < MOST as f64;
    whole.then_some(number as usize).ok_or_else(|| Misfit {
        expected: format!("`label` to be the number of a class: a whole number from 0 to {}", MOST - 1),
        found: number.to_string(),
    })
}

pub(crate) fn wrong_type(problem: Problem, label: &Label) -> Misfit {
    let expected = match problem {
        Problem::Single => "`label` to be one class, its name or its number, as problem = \"single\" has it",
        Problem::Multi => "`label` to be a list of classes, names or numbers, as problem = \"multi\" has it",
        Problem::Regression => "`label` to be a number, as problem = \"regression\" has it",
    };
    let found = match label {
        Label::One(Class::Name(_)) => "a text",
        Label::One(Class::Number(_)) => "a number",
        Label::Several(_) => "a list",
    };
    Misfit { expected: expected.into(), found: format!("{found}: {label}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(problem: Problem) -> Classes {
        Classes { problem, names: vec!["bad".into(), "good".into()] }
    }

    fn name(text: &str) -> Class {
        Class::Name(text.into())
    }

    #[test]
    fn labels_are_names_numbers_or_lists_by_the_problem() {
        let one = |class| Label::One(class);
        let single = |label| classes(Problem::Single).target(&label);
        assert_eq!(single(one(name("good"))), Ok(Target::Class(1)));
        assert_eq!(single(one(Class::Number(0.0))), Ok(Target::Class(0)));
        let multi = |label| classes(Problem::Multi).target(&label);
        assert_eq!(multi(Label::Several(vec![])), Ok(Target::Classes(vec![false, false])));
        assert_eq!(
            multi(Label::Several(vec![name("good"), Class::Number(0.0)])),
            Ok(Target::Classes(vec![true, true]))
        );
        let value = |label| classes(Problem::Regression).target(&label);
        assert_eq!(value(one(Class::Number(-2.5))), Ok(Target::Value(-2.5)));
        for (misfit, said) in [
            (single(one(name("fair"))), "\"fair\""),
            (single(one(Class::Number(2.0))), "0 to 1"),
            (single(one(Class::Number(0.5))), "whole number"),
            (single(one(Class::Number(-1.0))), "whole number"),
            (single(Label::Several(vec![])), "a list"),
            (multi(one(name("good"))), "a list of classes"),
            (value(one(name("good"))), "a text"),
            (value(Label::Several(vec![])), "a list"),
        ] {
            let Misfit { expected, found } = misfit.unwrap_err();
            assert!(format!("{expected}, found {found}").contains(said), "{expected}, found {found}");
        }
    }

    #[test]
    fn problems_have_the_names_of_config_files() {
        for problem in [Problem::Single, Problem::Multi, Problem::Regression] {
            assert_eq!(Problem::of_config(problem.in_config()), Some(problem));
        }
        assert_eq!(Problem::of_config("token_classification"), None);
    }
}
