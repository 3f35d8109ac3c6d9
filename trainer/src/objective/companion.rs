//! What an objective compares the trained network with: [`Companion`].

use std::sync::Arc;

use firebrand_models::Network;

use crate::features::TeacherCache;

/// A second model beside the trained one. Nothing of it is trained.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a run")]
pub enum Companion {
    /// A network on a device without autodiff: a teacher, or a reference.
    Network(Network),
    /// The distributions that a teacher gave before.
    Cache(Arc<TeacherCache>),
}
