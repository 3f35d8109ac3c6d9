//! Pictures: from the bytes of a file to the numbers that a model reads, without a tensor library.
//!
//! ```text
//! decode.rs     bytes -> 8-bit RGB
//! resize.rs     another size, as Pillow computes it
//! processor.rs  resize, crop, scale, normalise: what a model's files say
//! config.rs     those files: preprocessor_config.json, open_clip_config.json
//! ```

mod config;
mod decode;
mod processor;
mod resize;

pub use decode::{MOST_PIXELS, Picture, decode};
pub use processor::{Crop, Odd, Place, Processor, Resize, Target};
pub use resize::{Filter, resize};
