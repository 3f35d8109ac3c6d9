//! A model folder: its configuration, its weights, and whether they belong together.
//!
//! A configuration without weights (a model still to be trained) is told from its shapes.

use std::path::Path;

use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::parameters::{Shapes, parameters};
use firebrand_models::transformer::{Decoder, DecoderConfig};
use firebrand_models::weights::{Checkpoint, Expected};
use firebrand_models::{ModelError, ModelFiles};

use super::report::{Architecture, FamilyReport, InspectReport, Kind};
use super::tensors;
use crate::error::Error;

pub(super) fn inspect(folder: &Path) -> Result<InspectReport, Error> {
    let checkpoint = match Checkpoint::open(folder) {
        Err(ModelError::NoWeights { .. }) if folder.join("config.json").exists() => None,
        opened => Some(opened?),
    };
    let config = HfConfig::open(folder)?;
    let model_type = config.optional_string("model_type")?.unwrap_or_default().to_string();
    let known = Family::of(&config).and_then(|family| family.config(&config));
    let files = tensors::folder_files(folder)?;
    let views = checkpoint.iter().flat_map(Checkpoint::tensors);
    let mut report = tensors::report(folder, Kind::Model, views, files)?;
    let mut scheme = None;
    let (architecture, unsupported) = match known {
        Ok(decoder) if checkpoint.is_none() => {
            report.parameters = expected(&decoder).iter().map(elements).sum();
            (Some(sizes(&decoder)), None)
        }
        Ok(_) => {
            let files = ModelFiles::open(folder)?;
            for parameter in files.parameters() {
                files.quantized(&parameter.name)?;
            }
            scheme = files.scheme().map(|scheme| scheme.to_string());
            // Shapes were compared, so what is expected is what is there.
            report.parameters = files.parameters().iter().map(elements).sum();
            (Some(sizes(files.decoder())), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    report.family = Some(FamilyReport { model_type, scheme, architecture, unsupported });
    Ok(report)
}

fn expected(decoder: &DecoderConfig) -> Vec<Expected> {
    let found = parameters(&Decoder::new(decoder, &mut Shapes));
    found.into_iter().map(|info| Expected { name: info.path, shape: info.shape }).collect()
}

fn elements(tensor: &Expected) -> u64 {
    tensor.shape.iter().map(|&size| size as u64).product()
}

fn sizes(decoder: &DecoderConfig) -> Architecture {
    Architecture {
        vocab_size: decoder.vocab_size,
        hidden_size: decoder.hidden_size,
        layers: decoder.layers,
        heads: decoder.attention.heads,
        kv_heads: decoder.attention.kv_heads,
        head_dim: decoder.attention.head_dim,
        intermediate_size: decoder.mlp.intermediate_size(),
        max_positions: decoder.max_positions,
        tied_head: decoder.head.tied,
    }
}
