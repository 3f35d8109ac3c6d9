//! Devices: opening the one that a recipe or `--device` names ([`open`]), saying which that is ([`decided`], [`hardware`]), and listing
//! all that there are ([`listing`]).
//!
//! A device is tried before anything is loaded: it computes two numbers, so a driver or a compiler that is missing is an error
//! with a way out. What goes wrong later is told by [`guard`].

mod adapters;
mod cards;
mod chosen;
mod failure;
mod listing;
mod numbers;
mod opened;

pub use chosen::{decided, described, hardware, instructions, is_cpu, open};
pub use failure::guard;
pub use listing::{Listed, Listing, listing};
pub use numbers::{Numbers, has};
pub use opened::Hardware;
