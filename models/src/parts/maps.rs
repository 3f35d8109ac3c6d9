//! [`Maps`]: the walk over the linear maps of a part, by shared or by mutable reference.
//!
//! A part states with [`maps!`] which of its fields have linear maps. Names on the walk are the names of the fields, as
//! in Burn's own walks over parameters.

use firebrand_adapters::Linear;

use crate::parameters::join;

/// A part that has linear maps.
pub trait Maps {
    /// Adds the linear maps with their paths below `path`, in the order of the fields.
    fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a Linear)>);
    /// The same by mutable reference.
    fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut Linear)>);
}

impl Maps for Linear {
    fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a Linear)>) {
        found.push((path.to_string(), self));
    }

    fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut Linear)>) {
        found.push((path.to_string(), self));
    }
}

impl<P: Maps> Maps for Option<P> {
    fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a Linear)>) {
        self.iter().for_each(|part| part.maps(path, found));
    }

    fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut Linear)>) {
        self.iter_mut().for_each(|part| part.maps_mut(path, found));
    }
}

impl<P: Maps> Maps for Vec<P> {
    fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a Linear)>) {
        self.iter().enumerate().for_each(|(index, part)| part.maps(&join(path, &index.to_string()), found));
    }

    fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut Linear)>) {
        self.iter_mut().enumerate().for_each(|(index, part)| part.maps_mut(&join(path, &index.to_string()), found));
    }
}

/// Implements [`Maps`]: for a struct by the named fields, for an enum by its variants, which are not part of a path.
macro_rules! maps {
    ($part:ident { $($field:ident),* $(,)? }) => {
        impl $crate::parts::Maps for $part {
            fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a firebrand_adapters::Linear)>) {
                $($crate::parts::Maps::maps(&self.$field, &$crate::parameters::join(path, stringify!($field)), found);)*
            }

            fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut firebrand_adapters::Linear)>) {
                $($crate::parts::Maps::maps_mut(
                    &mut self.$field, &$crate::parameters::join(path, stringify!($field)), found,
                );)*
            }
        }
    };
    (enum $part:ident { $($variant:ident),* $(,)? }) => {
        impl $crate::parts::Maps for $part {
            fn maps<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a firebrand_adapters::Linear)>) {
                match self { $(Self::$variant(part) => $crate::parts::Maps::maps(part, path, found),)* }
            }

            fn maps_mut<'a>(&'a mut self, path: &str, found: &mut Vec<(String, &'a mut firebrand_adapters::Linear)>) {
                match self { $(Self::$variant(part) => $crate::parts::Maps::maps_mut(part, path, found),)* }
            }
        }
    };
}

pub(crate) use maps;
