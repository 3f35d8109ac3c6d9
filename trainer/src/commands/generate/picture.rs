//! `generate` with a diffusion pipeline: a picture of a prompt, as a PNG file.

use std::path::Path;

use firebrand_models::diffusion::Diffusion;
use firebrand_models::weights::SafetensorsFile;

use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::{Latents, LoadedModel, Painting, Wish};
use crate::ui::bars;

/// diffusers' own numbers for what is not asked for.
const STEPS: usize = 50;
const GUIDANCE: f64 = 7.5;
const GUIDANCE_OF_XL: f64 = 5.0;

/// Refuses flags that say how text is drawn.
///
/// # Errors
/// Any of them.
pub(super) fn check_flags(given: &[&str]) -> Result<(), Error> {
    if given.is_empty() {
        return Ok(());
    }
    Err(Error::Request {
        problem: format!("{}: the model makes pictures, and no text is drawn", given.join(", ")),
        help: "leave that away; --steps, --guidance and --seed say how a picture is made".into(),
    })
}

/// Writes the picture of a prompt.
pub(super) fn paint(arguments: &GenerateArgs, loaded: &LoadedModel, model: &Diffusion) -> Result<(), Error> {
    let missing = |what: &str, help: &str| Error::Request { problem: what.into(), help: help.into() };
    let prompt = arguments.prompt.clone().ok_or_else(|| {
        missing("a diffusion pipeline makes a picture of a prompt", "write --prompt \"..\" --out picture.png")
    })?;
    let out = arguments.out.as_ref().ok_or_else(|| missing("the answer is a picture", "write --out picture.png"))?;
    if out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(missing(
            &format!("--out {}: pictures are written as PNG", out.display()),
            "name a file that ends in .png",
        ));
    }
    let painting = Painting::new(model, loaded.text.pictures.as_deref())?;
    let side = loaded.text.pictures.as_ref().and_then(|pictures| pictures.processor.crop).map_or(0, |crop| crop.height);
    let usual = if model.config().unet.added.is_some() { GUIDANCE_OF_XL } else { GUIDANCE };
    let wish = Wish {
        prompt,
        negative: arguments.negative_prompt.clone(),
        steps: arguments.steps.unwrap_or(STEPS),
        guidance: arguments.guidance.unwrap_or(usual),
        size: (arguments.height.unwrap_or(side as usize), arguments.width.unwrap_or(side as usize)),
        latents: arguments.latents.as_deref().map(latents).transpose()?,
        seed: arguments.seed,
    };
    let bar = bars::steps_bar(wish.steps as u64);
    let picture = painting.paint(&wish, || bar.inc(1))?;
    bar.finish_and_clear();
    let written = picture.save_with_format(out, image::ImageFormat::Png);
    written.map_err(|problem| Error::Request {
        problem: format!("{}: the picture cannot be written: {problem}", out.display()),
        help: "name a file in a folder that is there".into(),
    })?;
    eprintln!("{} x {} pixels in {}", picture.width(), picture.height(), out.display());
    Ok(())
}

/// The tensor `latents` of a safetensors file.
fn latents(path: &Path) -> Result<Latents, Error> {
    let file = SafetensorsFile::open(path)?;
    let view = file.get("latents")?;
    Ok(Latents { path: path.to_path_buf(), shape: view.shape.to_vec(), values: view.to_f32()? })
}
