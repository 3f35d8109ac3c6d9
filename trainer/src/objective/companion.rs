//! What an objective compares the trained network with: [`Companion`].

use std::sync::Arc;

use firebrand_models::Network;

use crate::error::Error;
use crate::features::{ReferencePairs, TeacherCache};

/// A second model beside the trained one. Nothing of it is trained.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a run")]
pub enum Companion {
    /// A network on a device without autodiff: a teacher, or a reference.
    Network(Network),
    /// The distributions that a teacher gave before.
    Cache(Arc<TeacherCache>),
    /// What a reference gave the pairs before.
    Pairs(Arc<ReferencePairs>),
}

/// An objective that nobody gave its other model.
pub(super) fn no_companion(objective: &str, what: &str) -> Error {
    Error::Request {
        problem: format!("objective {objective} has no {what} here"),
        help: "run its recipe with `firebrand train`".into(),
    }
}
