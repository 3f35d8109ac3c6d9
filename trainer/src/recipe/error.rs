//! What can be wrong with a recipe. Each error shows the line, underlines the place and says what to do.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

/// A recipe that cannot be run as written.
#[derive(Debug, Error)]
pub enum RecipeError {
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A place in the recipe, or in the text of a `--set`.
    #[error(transparent)]
    At(Box<Complaint>),
    /// Several of them, in the order of the recipe.
    #[error("{} things are wrong with the recipe:\n{}", complaints.len(), listed(complaints))]
    Several { complaints: Vec<Complaint> },
    /// The resolved recipe has no TOML form. A defect of firebrand, not of the recipe.
    #[error("the resolved recipe cannot be written as TOML: {reason}")]
    Unwritable { reason: String },
}

/// What is wrong at one place, and what to do about it.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Complaint {
    pub kind: ComplaintKind,
    pub message: String,
    pub help: String,
    // In a box, so that results with a complaint stay small.
    source_code: Box<NamedSource<String>>,
    span: Range<usize>,
    label: String,
}

/// The sort of mistake, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComplaintKind {
    Syntax,
    UnknownKey,
    MissingKey,
    WrongType,
    UnknownValue,
    OutOfRange,
    /// Keys that do not go together.
    Conflict,
    /// A path that leads nowhere.
    NotFound,
    /// Right by itself, but not with this model or this data.
    Rejected,
}

impl Complaint {
    /// `span` is in bytes of `text`, which is the file `name` or a `--set`.
    pub(super) fn new(kind: ComplaintKind, name: &str, text: &str, span: Range<usize>) -> Self {
        Complaint {
            kind,
            message: String::new(),
            help: String::new(),
            source_code: Box::new(NamedSource::new(name, text.to_owned())),
            span: span.start.min(text.len())..span.end.min(text.len()),
            label: String::new(),
        }
    }

    pub(super) fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn advice(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The recipe's file, or `--set` with its text.
    pub fn file(&self) -> &str {
        self.source_code.name()
    }

    /// One-based line in [`Complaint::file`].
    pub fn line(&self) -> usize {
        let before = &self.source_code.inner().as_bytes()[..self.span.start];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl From<Complaint> for RecipeError {
    fn from(complaint: Complaint) -> Self {
        RecipeError::At(Box::new(complaint))
    }
}

impl RecipeError {
    /// `complaints` as one error; `None` if there are none.
    pub(super) fn all(mut complaints: Vec<Complaint>) -> Option<Self> {
        match complaints.len() {
            0 => None,
            1 => complaints.pop().map(Self::from),
            _ => Some(Self::Several { complaints }),
        }
    }

    /// What is wrong at places in the recipe.
    pub fn complaints(&self) -> &[Complaint] {
        match self {
            RecipeError::At(complaint) => std::slice::from_ref(complaint),
            RecipeError::Several { complaints } => complaints,
            RecipeError::Read { .. } | RecipeError::Unwritable { .. } => &[],
        }
    }
}

fn listed(complaints: &[Complaint]) -> String {
    let lines: Vec<String> = complaints.iter().map(|complaint| format!("- {}", complaint.message)).collect();
    lines.join("\n")
}

impl Diagnostic for Complaint {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = (!self.label.is_empty()).then(|| self.label.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(label, self.span.clone()))))
    }
}

impl Diagnostic for RecipeError {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        match self {
            RecipeError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(Box::new("check the path; a recipe is a TOML file, examples are in recipes/"))
            }
            RecipeError::At(complaint) => complaint.help(),
            RecipeError::Read { .. } | RecipeError::Several { .. } | RecipeError::Unwritable { .. } => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self {
            RecipeError::Several { complaints } => {
                Some(Box::new(complaints.iter().map(|complaint| complaint as &dyn Diagnostic)))
            }
            RecipeError::Read { .. } | RecipeError::At(_) | RecipeError::Unwritable { .. } => None,
        }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self {
            RecipeError::At(complaint) => complaint.source_code(),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self {
            RecipeError::At(complaint) => complaint.labels(),
            _ => None,
        }
    }
}
