//! [`Conditioner`]: the frozen networks of a diffusion pipeline, which make latents of pictures and states of texts.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use crate::diffusion::{EncodedText, TextEncoder, Vae};
use crate::error::ModelError;
use crate::families::stable_diffusion;
use crate::hf_config::HfConfig;
use crate::model::frozen::read_frozen;

/// The frozen networks of a pipeline.
#[derive(Debug, Clone)]
pub struct Conditioner {
    vae: Vae,
    texts: Vec<TextEncoder>,
}

/// What a UNet is told of texts.
#[derive(Debug, Clone)]
pub struct TextCondition {
    /// States `[texts, tokens, width]`.
    pub states: Tensor<3>,
    /// The text as one vector, `[texts, width]`, where the pipeline has two encoders.
    pub pooled: Option<Tensor<2>>,
}

impl Conditioner {
    /// Reads the autoencoder and the text encoders of the pipeline in `folder`.
    ///
    /// # Errors
    /// A component that is not there or not supported; damaged files.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        let texts = ["text_encoder", "text_encoder_2"].map(|name| folder.join(name));
        let texts = texts.iter().filter(|folder| folder.is_dir()).map(|folder| text(folder, device));
        Ok(Self { vae: vae(&folder.join("vae"), device)?, texts: texts.collect::<Result<_, _>>()? })
    }

    /// The autoencoder.
    pub fn vae(&self) -> &Vae {
        &self.vae
    }

    /// The text encoders: one, or two of which the second pools.
    pub fn texts(&self) -> &[TextEncoder] {
        &self.texts
    }

    /// What a UNet is told of texts. `ids` are those of each encoder, `[texts, tokens]`, row-major. One encoder tells the states
    /// behind its last norm; two tell those before their last blocks side by side, and the pooled text of the second.
    pub fn texts_as_told(&self, ids: &[Vec<u32>], texts: usize) -> TextCondition {
        let mut encoded: Vec<EncodedText> =
            self.texts.iter().zip(ids).map(|(encoder, ids)| encoder.forward(ids, texts)).collect();
        match (encoded.len(), encoded.pop()) {
            (1, Some(only)) if only.pooled.is_none() => TextCondition { states: only.last, pooled: None },
            (_, Some(second)) => {
                let first = encoded.into_iter().map(|encoded| encoded.before_last);
                let states = Tensor::cat(first.chain([second.before_last]).collect(), 2);
                TextCondition { states, pooled: second.pooled }
            }
            (_, None) => {
                let device = Device::flex();
                TextCondition { states: Tensor::zeros([texts, 0, 0], &device), pooled: None }
            }
        }
    }
}

/// Reads an autoencoder.
///
/// # Errors
/// A configuration that is not supported, a damaged file.
pub fn vae(folder: &Path, device: &Device) -> Result<Vae, ModelError> {
    let config = stable_diffusion::vae(&HfConfig::open(folder)?)?;
    read_frozen(folder, &stable_diffusion::vae_rules()?, device, |source| Vae::new(&config, source))
}

/// Reads a text encoder.
///
/// # Errors
/// A configuration that is not supported, a damaged file.
pub fn text(folder: &Path, device: &Device) -> Result<TextEncoder, ModelError> {
    let (config, embedding) = stable_diffusion::text(&HfConfig::open(folder)?)?;
    read_frozen(folder, &stable_diffusion::text_rules()?, device, |source| TextEncoder::new(&config, embedding, source))
}
