//! Labels: that of a token that is not trained, and [`RowLabel`], the label of a whole row, which a classifier learns to
//! say of it. What names and numbers mean is up to
//! [`crate::Classes`], which is known only when all rows were read.

use std::fmt;

use serde::{Serialize, Serializer};

/// The label, and target, of a token that is not trained.
pub const NOT_TRAINED: i64 = -100;

/// A class, as a row names it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Class {
    /// By its name.
    Name(String),
    /// By its number; or a value, where values are learned.
    Number(f64),
}

/// The label of a row, as it stands there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Label {
    /// One class, or a value.
    One(Class),
    /// Any number of classes.
    Several(Vec<Class>),
}

/// The label of a row and its weight in the loss. JSON shows the label alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLabel {
    /// The label; a row that is only scored may have none.
    pub label: Option<Label>,
    /// Factor on the loss of the row; 0: the row is not trained.
    pub weight: f32,
}

impl Serialize for RowLabel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.label.serialize(serializer)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(class) => class.fmt(f),
            Self::Several(classes) => {
                let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", classes.join(", "))
            }
        }
    }
}
