//! The view of commands that write or weigh text.

use firebrand_models::{Model, Predictor};

use crate::error::Error;

/// `model` as one that predicts tokens.
///
/// # Errors
/// It is of another kind.
pub fn predictor(model: &Model) -> Result<Predictor<'_>, Error> {
    model.network().predictor().ok_or_else(|| Error::Request {
        problem: format!("a model of type {} is a {}: it predicts no tokens", model.family().name(), model.kind()),
        help: "name a language model; README lists the families".into(),
    })
}
