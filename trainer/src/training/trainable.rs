//! What a full run trains: every weight but those that `train.freeze` names, [`train_all`].

use firebrand_models::{Model, ModelError};
use regex::Regex;

use crate::error::Error;
use crate::recipe::ObjectiveRecipe;

/// Names that an error shows at most.
const SHOWN: usize = 6;

/// Why weights cannot be frozen as asked.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// A pattern that is found in no name.
    #[error("`{pattern}` is found in no name of the {count} weights, which are {names}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Number of weights.
        count: usize,
        /// Some of the names.
        names: String,
    },
    /// Nothing is left to train.
    #[error("every weight is frozen, and nothing would be trained")]
    Everything,
    /// A pattern that is no regular expression.
    #[error("`{pattern}` is not a regular expression")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// The names cannot be told.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Makes trainable everything that a full run with `objective` trains, except weights in whose names in files one of the patterns
/// `freeze` is found.
///
/// # Errors
/// A pattern that is found in no name, or nothing that is left to train.
pub fn train_all(objective: &ObjectiveRecipe, model: Model, freeze: &[String]) -> Result<Model, FreezeError> {
    let names = model.names_in_files()?;
    let mut frozen: Vec<String> = vec![];
    for pattern in freeze {
        let regex = Regex::new(pattern).map_err(|_| FreezeError::Pattern { pattern: pattern.clone() })?;
        let matching = names.iter().filter(|(_, name)| regex.is_match(name));
        let before = frozen.len();
        frozen.extend(matching.map(|(path, _)| path.to_string()));
        if frozen.len() == before {
            let shown: Vec<&str> = names.iter().take(SHOWN).map(|(_, name)| name.as_str()).collect();
            let rest = if names.len() > SHOWN { ", .." } else { "" };
            let (pattern, count) = (pattern.clone(), names.len());
            return Err(FreezeError::NoMatch { pattern, count, names: shown.join(", ") + rest });
        }
    }
    let frozen: Vec<&str> = frozen.iter().map(String::as_str).collect();
    let model = objective.train_all_but(model, &frozen);
    match model.trained_parameters().is_empty() {
        true => Err(FreezeError::Everything),
        false => Ok(model),
    }
}

impl From<FreezeError> for Error {
    fn from(error: FreezeError) -> Self {
        match error {
            FreezeError::Model(error) => error.into(),
            error => Error::Request { problem: error.to_string(), help: "see train.freeze in the recipe".into() },
        }
    }
}
