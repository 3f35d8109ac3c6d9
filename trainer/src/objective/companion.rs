//! What an objective compares the trained network with: [`Companion`].

use firebrand_models::Network;

/// A second model beside the trained one. Nothing of it is trained.
#[derive(Debug, Clone)]
pub enum Companion {
    /// A network on a device without autodiff: a teacher, or a reference.
    Network(Network),
}
