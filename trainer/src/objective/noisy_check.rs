//! Checks rows of tensors for diffusion models: [`check_noisy_row`].

use firebrand_datasets::{ArrayOutline, NamedOutlines, OutlineValues};
use firebrand_models::diffusion::{ConvolutionConfig, DiffusionConfig, PartsConfig};

pub(super) const LATENTS: &str = "latents";
pub(super) const PIXELS: &str = "pixel_values";
pub(super) const LATENTS_NOISE: &str = "vae_noise";
pub(super) const NOISE: &str = "noise";
pub(super) const TIME: &str = "timestep";
pub(super) const STATES: &str = "encoder_hidden_states";
pub(super) const POOLED: &str = "text_embeds";
pub(super) const IDS: &str = "input_ids";
pub(super) const IDS_2: &str = "input_ids_2";
pub(super) const NUMBERS: &str = "time_ids";
const KNOWN: [&str; 10] = [LATENTS, PIXELS, LATENTS_NOISE, NOISE, TIME, STATES, POOLED, IDS, IDS_2, NUMBERS];

/// Checks that a diffusion model can read a row of tensors.
///
/// # Errors
/// What is wrong with the row, without its location.
pub fn check_noisy_row(row: &NamedOutlines, config: &DiffusionConfig) -> Result<(), String> {
    if let Some(name) = row.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let known = KNOWN.map(|name| format!("`{name}`")).join(", ");
        return Err(format!("its tensor `{name}` is not used: a row has some of {known}"));
    }
    for [one, other] in [[LATENTS, PIXELS], [LATENTS, LATENTS_NOISE], [STATES, IDS], [STATES, IDS_2], [POOLED, IDS]] {
        if row.contains_key(one) && row.contains_key(other) {
            return Err(format!("it has both `{one}` and `{other}`, of which the network reads one"));
        }
    }
    let shape = latents(row, config)?;
    let least = smallest_side(config);
    if shape.iter().skip(1).any(|side| *side < least) {
        return Err(format!("its latents are {shape:?}, and the network reads none of less than {least} a side"));
    }
    match row.get(NOISE) {
        None => {}
        Some(ArrayOutline { shape: found, values: OutlineValues::F32 }) if *found == shape => {}
        other => return Err(unlike(NOISE, &format!("f32 {shape:?}"), other)),
    }
    let times = config.schedule.as_ref().map_or(usize::MAX, |schedule| schedule.len());
    match row.get(TIME) {
        None => {}
        Some(ArrayOutline { shape, values: OutlineValues::I64(time) })
            if shape.is_empty() && time.iter().all(|time| usize::try_from(*time).is_ok_and(|time| time < times)) => {}
        other => return Err(unlike(TIME, &format!("i64 [], from 0 to {}", times.saturating_sub(1)), other)),
    }
    match row.contains_key(IDS) || row.contains_key(IDS_2) {
        true => tokens(row, parts(config, IDS)?)?,
        false => states(row, config)?,
    }
    sizes(row, config)
}

/// The shape of the row's latents, `[channels, height, width]`.
fn latents(row: &NamedOutlines, config: &DiffusionConfig) -> Result<Vec<usize>, String> {
    let channels = config.unet.channels();
    let pixels = match (row.get(LATENTS), row.get(PIXELS)) {
        (Some(ArrayOutline { shape, values: OutlineValues::F32 }), _) if shape.len() == 3 && shape[0] == channels => {
            return Ok(shape.clone());
        }
        (None, Some(pixels)) => pixels,
        (latents, _) => return Err(unlike(LATENTS, &format!("f32 [{channels}, height, width]"), latents)),
    };
    let vae = &parts(config, PIXELS)?.vae;
    let (pictures, by) = (vae.pictures, vae.shrinks());
    let wanted = format!("f32 [{pictures}, height, width], both multiples of {by}");
    let ArrayOutline { shape, values: OutlineValues::F32 } = pixels else {
        return Err(unlike(PIXELS, &wanted, Some(pixels)));
    };
    let fits = |side: &usize| *side > 0 && side.is_multiple_of(by);
    if shape.len() != 3 || shape[0] != pictures || !shape[1..].iter().all(fits) {
        return Err(unlike(PIXELS, &wanted, Some(pixels)));
    }
    if vae.latents != channels {
        return Err(format!("the pipeline's vae gives {} channels, and its unet reads {channels}", vae.latents));
    }
    let shape = vec![channels, shape[1] / by, shape[2] / by];
    match row.get(LATENTS_NOISE) {
        None => Ok(shape),
        // No number: it is drawn.
        Some(ArrayOutline { shape: found, values: OutlineValues::F32 }) if *found == shape || *found == [0] => {
            Ok(shape)
        }
        other => Err(unlike(LATENTS_NOISE, &format!("f32 {shape:?}"), other)),
    }
}

/// The pipeline's frozen networks, which a tensor needs.
fn parts<'a>(config: &'a DiffusionConfig, name: &str) -> Result<&'a PartsConfig, String> {
    config.parts.as_ref().ok_or_else(|| {
        format!("its `{name}` needs the pipeline's vae/ and text_encoder/, which are not there or not supported")
    })
}

fn states(row: &NamedOutlines, config: &DiffusionConfig) -> Result<(), String> {
    let wide = config.unet.text;
    match row.get(STATES) {
        Some(ArrayOutline { shape, values: OutlineValues::F32 })
            if shape.len() == 2 && shape[0] > 0 && shape[1] == wide =>
        {
            Ok(())
        }
        other => Err(unlike(STATES, &format!("f32 [tokens, {wide}], or the row has `{IDS}`"), other)),
    }
}

/// Token ids for each text encoder, of one length.
fn tokens(row: &NamedOutlines, parts: &PartsConfig) -> Result<(), String> {
    let mut length = None;
    for (name, encoder) in [IDS, IDS_2].into_iter().zip(&parts.texts) {
        let (rows, longest) = (encoder.vocab_size, encoder.max_positions);
        let fits = |id: &i64| usize::try_from(*id).is_ok_and(|id| id < rows);
        match row.get(name) {
            Some(ArrayOutline { shape, values: OutlineValues::I64(ids) })
                if shape.len() == 1
                    && (1..=longest).contains(&ids.len())
                    && *length.get_or_insert(ids.len()) == ids.len()
                    && ids.iter().all(fits) => {}
            other => {
                let expected = format!("i64 [tokens], up to {longest} ids below {rows}, as many for each text encoder");
                return Err(unlike(name, &expected, other));
            }
        }
    }
    match parts.texts.len() {
        1 if row.contains_key(IDS_2) => Err(format!("the pipeline has one text encoder, and no use for `{IDS_2}`")),
        _ => Ok(()),
    }
}

/// The text as one vector, and the numbers beside it.
fn sizes(row: &NamedOutlines, config: &DiffusionConfig) -> Result<(), String> {
    let Some(added) = config.unet.added else {
        return match row.contains_key(POOLED) || row.contains_key(NUMBERS) {
            true => Err(format!("the network reads neither `{POOLED}` nor `{NUMBERS}`")),
            false => Ok(()),
        };
    };
    let count = match row.get(NUMBERS) {
        Some(ArrayOutline { shape, .. }) if shape.len() == 1 => shape[0],
        other => return Err(unlike(NUMBERS, "[numbers]", other)),
    };
    let each = added.sinusoid.width;
    let wide = added.inputs.saturating_sub(count * each);
    match row.get(POOLED) {
        None if row.contains_key(IDS) && wide > 0 => Ok(()),
        Some(ArrayOutline { shape, values: OutlineValues::F32 }) if wide > 0 && *shape == [wide] => Ok(()),
        other => Err(format!(
            "`{POOLED}` f32 [width] and `{NUMBERS}` [count] must have width + {each} * count = {}: {}",
            added.inputs,
            unlike(POOLED, &format!("f32 [{wide}]"), other)
        )),
    }
}

/// The smallest height and width that survive all halvings.
pub(super) fn smallest_side(config: &DiffusionConfig) -> usize {
    let halve = |side: usize, halving: ConvolutionConfig| {
        let padded = side + halving.padding.iter().sum::<usize>();
        padded.checked_sub(halving.kernel).map(|rest| rest / halving.stride + 1)
    };
    let survives = |side: &usize| {
        config.unet.down.iter().filter_map(|stage| stage.resample).try_fold(*side, halve).is_some_and(|side| side > 0)
    };
    (1..).find(survives).unwrap_or(1)
}

fn unlike(name: &str, expected: &str, found: Option<&ArrayOutline>) -> String {
    let found = match found {
        None => "nothing".into(),
        Some(ArrayOutline { shape, values: OutlineValues::I64(values) }) if shape.is_empty() => {
            format!("i64 [] {values:?}")
        }
        Some(array) => format!("{} {:?}", array.values.dtype(), array.shape),
    };
    format!("its tensor `{name}` must be {expected}, found {found}")
}
