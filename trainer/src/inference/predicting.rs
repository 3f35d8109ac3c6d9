//! The view of a model that predicts tokens, for commands that generate or score text.

use firebrand_models::{Model, Predictor};

use crate::error::Error;

/// `model` as one that predicts tokens.
///
/// # Errors
/// A model of a kind that does not.
pub fn predictor(model: &Model) -> Result<Predictor<'_>, Error> {
    model.network().predictor().ok_or_else(|| Error::Request {
        problem: format!("a model of type {} is a {}: it predicts no tokens", model.family().name(), model.kind()),
        help: "name a language model; README lists the families".into(),
    })
}
