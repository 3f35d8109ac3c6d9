//! [`Error`]: everything a command can fail with.

use std::path::PathBuf;

use firebrand_datasets::{DataError, Location};
use firebrand_hub::HubError;
use firebrand_models::ModelError;
use miette::Diagnostic;

use crate::recipe::RecipeError;
use crate::run::RunError;

/// A failed command. The inner errors name file, line, key or tensor; this type adds advice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error in the recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A model or dataset that could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// An error in model or adapter files.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An error in data, tokenizer or template.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An error of the run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A device that is not compiled into this build.
    #[error("device {device} is not compiled into this build")]
    Device { device: String, feature: &'static str },
    /// A loss or gradient that is not finite.
    #[error("step {step}: {what} is not finite; it is of these rows:\n{}", list(rows))]
    NotFinite { step: u64, what: String, rows: Vec<Location> },
    /// A resume that would not continue the same run.
    #[error("{}: {problem}", checkpoint.display())]
    Resume { checkpoint: PathBuf, problem: String },
    /// A merged model that differs too much from the adapted model.
    #[error("the merged model is not the adapted model: {problem}")]
    Merge { problem: String },
    /// A request that cannot be carried out as given.
    #[error("{problem}")]
    Request { problem: String, help: String },
    /// A file that the command itself reads or writes.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Error {
    /// Makes a closure for `map_err` that adds the path.
    pub fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        match self {
            Self::Recipe(error) => error.help(),
            Self::Model(error) => error.help().map(|help| Box::new(help) as Box<dyn std::fmt::Display>),
            Self::Device { feature, .. } => {
                Some(Box::new(format!("build with `cargo build --release --features {feature}`, or use --device cpu")))
            }
            Self::NotFinite { .. } => Some(Box::new(
                "lower optimizer.learning_rate or look at these rows; a checkpoint that was written before is kept, and --resume goes on from it",
            )),
            Self::Merge { .. } => Some(Box::new("write the merged model with --dtype f32")),
            Self::Request { help, .. } => Some(Box::new(help)),
            Self::Resume { .. } => Some(Box::new("start a new run with another --output")),
            Self::Hub(_) | Self::Data(_) | Self::Run(_) | Self::Io { .. } => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self {
            Self::Recipe(error) => error.related(),
            _ => None,
        }
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        match self {
            Self::Recipe(error) => error.source_code(),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        match self {
            Self::Recipe(error) => error.labels(),
            _ => None,
        }
    }
}

fn list(rows: &[Location]) -> String {
    rows.iter().map(|row| format!("  {row}")).collect::<Vec<_>>().join("\n")
}
