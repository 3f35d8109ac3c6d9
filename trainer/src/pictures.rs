//! How a model reads pictures, by the files of its folder: [`pictures_of`].

use std::path::Path;
use std::sync::Arc;

use firebrand_datasets::picture::{MOST_PIXELS, Processor};
use firebrand_datasets::{CaptionReader, Pictures, Tokenizer};
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::{CaptionInput, PictureInputs};

use crate::error::Error;

/// What the model in `folder` reads of rows with pictures; absent for models that read none, and where the folder does not
/// say how, because it has no processor or no tokenizer for captions. `tokenizer` is that of the folder itself.
///
/// # Errors
/// A file of the processor or of a tokenizer that is damaged or not known.
pub fn pictures_of(folder: &Path, tokenizer: Option<&Tokenizer>) -> Result<Option<Arc<Pictures>>, Error> {
    // What is wrong with the configuration is said where the model is built.
    let Ok(network) = HfConfig::open(folder).and_then(|config| Family::of(&config)?.config(&config)) else {
        return Ok(None);
    };
    let Some(PictureInputs { captions, resolution, told_sizes, drawn_latents }) = network.pictures() else {
        return Ok(None);
    };
    let processor = match resolution {
        Some(side) => Some(Processor::square(side as u32)),
        None => Processor::of_folder(folder)?,
    };
    let Some(processor) = processor else { return Ok(None) };
    let mut readers = vec![];
    for caption in captions {
        let Some(tokenizer) = tokenizer_of(folder, &caption, tokenizer)? else { return Ok(None) };
        let CaptionInput { name, longest, padded, .. } = caption;
        let special = tokenizer.special();
        let padding = special.pad_id.or(special.eos_id).filter(|_| padded);
        readers.push(CaptionReader { name: name.into(), tokenizer, longest, padding });
    }
    Ok(Some(Arc::new(Pictures { processor, captions: readers, told_sizes, drawn_latents, most_pixels: MOST_PIXELS })))
}

/// The tokenizer of a text encoder; absent where there is none.
fn tokenizer_of(folder: &Path, caption: &CaptionInput, own: Option<&Tokenizer>) -> Result<Option<Tokenizer>, Error> {
    if caption.folder.is_empty() {
        return Ok(own.cloned());
    }
    let folder = folder.join(caption.folder);
    Ok(Tokenizer::is_in(&folder).then(|| Tokenizer::from_folder(&folder)).transpose()?)
}

/// The processor of a pipeline with another size of pictures.
///
/// # Errors
/// A model whose own file says how large its pictures are.
pub fn resized(processor: &Processor, side: u32) -> Result<Processor, Error> {
    let crop = processor.crop.map_or(0, |crop| crop.height);
    match *processor == Processor::square(crop) {
        true => Ok(Processor::square(side)),
        false => Err(Error::Request {
            problem: format!(
                "data.resolution = {side}: the model's own preprocessor_config.json says how large pictures are"
            ),
            help: "leave data.resolution out; it is for diffusion pipelines".into(),
        }),
    }
}
