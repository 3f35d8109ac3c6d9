//! The views through which objectives read a network, and the inputs that a network reads of a batch.

use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, BatchContent, TokenBatch};
use firebrand_models::diffusion::{Diffusion, Schedule};
use firebrand_models::parts::{EmbeddingNoise, Inputs};
use firebrand_models::towers::Towers;
use firebrand_models::{Network, Pooled, Predictor};

use crate::error::Error;

/// The view for objectives over tokens. The caller has checked that the network has it.
pub(super) fn predictor(network: &Network) -> Predictor<'_> {
    match network.predictor() {
        Some(predictor) => predictor,
        None => panic!("an objective over tokens for a {}", network.kind()),
    }
}

/// The view for objectives over pairs. The caller has checked that the network has it.
pub(super) fn towers(network: &Network) -> &Towers {
    match network.towers() {
        Some(towers) => towers,
        None => panic!("an objective over pairs for a {}", network.kind()),
    }
}

/// The view for objectives over noisy pictures. The caller has checked that the network has it.
pub(super) fn denoiser(network: &Network) -> &Diffusion {
    match network.denoiser() {
        Some(denoiser) => denoiser,
        None => panic!("an objective over noisy pictures for a {}", network.kind()),
    }
}

/// The schedule of a diffusion pipeline.
pub(super) fn schedule(model: &Diffusion) -> Result<&Schedule, Error> {
    model.config().schedule.as_ref().ok_or_else(|| Error::Request {
        problem: "the model has no scheduler/scheduler_config.json, which says how pictures become noise".into(),
        help: "give the folder of the whole pipeline, with model_index.json, unet/ and scheduler/".into(),
    })
}

/// The tokens of a batch.
pub(super) fn token_batch(batch: &Batch) -> Result<&TokenBatch, Error> {
    match &batch.content {
        BatchContent::Tokens(tokens) => Ok(tokens),
        BatchContent::Tensors(_) => Err(Error::Request {
            problem: "the rows are tensors, and this objective reads tokens".into(),
            help: "give it rows of dialogues, text or tokens".into(),
        }),
    }
}

/// As [`inputs`], with noise on the embeddings in training, if there is an `alpha` for it.
pub(super) fn noisy_inputs(batch: &TokenBatch, alpha: Option<f64>, mode: Mode) -> Inputs {
    match (alpha, mode) {
        (Some(alpha), Mode::Training { key, .. }) => {
            inputs(batch).with_noise(EmbeddingNoise { alpha, key, rows: batch.examples.clone() })
        }
        (Some(_) | None, Mode::Training { .. } | Mode::Inference) => inputs(batch),
    }
}

/// The view for objectives over whole texts and images. The caller has checked that the network has it.
pub(super) fn pooled(network: &Network) -> Pooled<'_> {
    match network.pooled() {
        Some(pooled) => pooled,
        None => panic!("an objective over classes for a {}", network.kind()),
    }
}

/// The inputs of a network over tokens, from a batch.
pub fn inputs(batch: &TokenBatch) -> Inputs {
    Inputs::new(
        batch.rows,
        batch.length,
        batch.input_ids.clone(),
        batch.positions.clone(),
        Some(batch.segments.clone()),
    )
}
