//! How a model reads pictures, by the files of its folder: [`pictures_of`].

use std::path::Path;
use std::sync::Arc;

use firebrand_datasets::picture::{MOST_PIXELS, Processor};
use firebrand_datasets::{CaptionReader, Pictures, Tokenizer};
use firebrand_models::PictureInputs;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;

use crate::error::Error;

/// What the model in `folder` reads of rows with pictures; absent for models that read none, and where the folder does not
/// say how, because it has no processor or no tokenizer for captions.
///
/// # Errors
/// A file of the processor that is damaged or not known.
pub fn pictures_of(folder: &Path, tokenizer: Option<&Tokenizer>) -> Result<Option<Arc<Pictures>>, Error> {
    // What is wrong with the configuration is said where the model is built.
    let Ok(network) = HfConfig::open(folder).and_then(|config| Family::of(&config)?.config(&config)) else {
        return Ok(None);
    };
    let Some(PictureInputs { caption }) = network.pictures() else { return Ok(None) };
    let Some(processor) = Processor::of_folder(folder)? else { return Ok(None) };
    let captions = match (caption, tokenizer) {
        (None, _) => vec![],
        (Some(_), None) => return Ok(None),
        (Some(longest), Some(tokenizer)) => {
            vec![CaptionReader { name: "input_ids".into(), tokenizer: tokenizer.clone(), longest, padding: None }]
        }
    };
    Ok(Some(Arc::new(Pictures { processor, captions, most_pixels: MOST_PIXELS })))
}
