//! A model folder: its configuration, its weights, and whether they belong together.
//!
//! A configuration without weights (a model still to be trained) is told from its shapes.

use std::path::Path;

use firebrand_kernels::Packing;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::parameters::{Shapes, parameters};
use firebrand_models::transformer::{Decoder, DecoderConfig, EMBEDDING, HEAD};
use firebrand_models::weights::{Checkpoint, Expected, Form, HeadTie, read_packed};
use firebrand_models::{ModelError, check_packing};

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
    let known = Family::of(&config).and_then(|family| Ok((family, family.config(&config)?)));
    let files = tensors::folder_files(folder)?;
    let views = checkpoint.iter().flat_map(Checkpoint::tensors);
    let mut report = tensors::report(folder, Kind::Model, views, files)?;
    let mut packing = None;
    let (architecture, unsupported) = match known {
        Ok((family, mut decoder)) => {
            report.parameters = match &checkpoint {
                Some(checkpoint) => {
                    let counted = count(&config, family, &mut decoder, checkpoint)?;
                    packing = counted.packing.map(|packing| packing.to_string());
                    counted.parameters
                }
                None => expected(&decoder).iter().map(elements).sum(),
            };
            (Some(sizes(&decoder)), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    report.family = Some(FamilyReport { model_type, packing, architecture, unsupported });
    Ok(report)
}

struct Counted {
    parameters: u64,
    packing: Option<Packing>,
}

/// The elements of the tensors that become parameters, and how they are packed. `decoder` gets the tie of the head that the files have.
///
/// # Errors
/// Tensors and configuration do not fit one to one.
fn count(
    config: &HfConfig,
    family: Family,
    decoder: &mut DecoderConfig,
    checkpoint: &Checkpoint,
) -> Result<Counted, ModelError> {
    let rules = family.rules(decoder)?;
    let tie = HeadTie::resolve(&rules, checkpoint, EMBEDDING, HEAD, decoder.head.tied);
    decoder.head.tied = tie.outcome.is_tied();
    let expected = expected(decoder);
    // Shapes were compared, so what is expected is what is there.
    let plan = rules.account(checkpoint, &expected, Some(&tie))?;
    let packing = check_packing(config, checkpoint, &rules, &expected, &plan)?;
    for (load, expected) in plan.loads.iter().zip(&expected) {
        if let (Form::Packed(_), &[out, input]) = (load.form, &expected.shape[..]) {
            read_packed(&load.theirs, [out, input], |name| checkpoint.find(name))?;
        }
    }
    Ok(Counted { parameters: expected.iter().map(elements).sum(), packing })
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
