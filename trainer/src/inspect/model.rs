//! Reports on a model folder: its configuration, its weights, and whether they belong together.
//!
//! A configuration without weights (a model still to be trained) is reported by the shapes it describes.

use std::path::Path;

use firebrand_models::diffusion::{DiffusionConfig, Target};
use firebrand_models::families::{ClassNames, Family};
use firebrand_models::hf_config::HfConfig;
use firebrand_models::network::NetworkConfig;
use firebrand_models::parameters::{Listing, ParameterInfo, Shapes};
use firebrand_models::parts::BlockConfig;
use firebrand_models::weights::Checkpoint;
use firebrand_models::{ModelError, ModelFiles, Network};

use super::report::{
    Architecture, BlockSizes, DecoderSizes, DiffusionSizes, FamilyReport, ImageSizes, InspectReport, Kind, TextSizes,
    TowersSizes, VisionSizes,
};
use super::tensors;
use crate::error::Error;

pub(super) fn inspect(folder: &Path) -> Result<InspectReport, Error> {
    let checkpoint = match Checkpoint::open(folder) {
        Err(ModelError::NoWeights { .. }) if folder.join("config.json").exists() => None,
        opened => Some(opened?),
    };
    let config = HfConfig::open(folder)?;
    let named = config.optional_string("model_type")?.or(config.optional_string("_class_name")?);
    let model_type = named.unwrap_or_default().to_string();
    // A quantization that the configuration states alone is passed over when the weights are opened.
    let as_opened = |error| match (&checkpoint, ModelFiles::open(folder)) {
        (Some(_), Ok(files)) => Ok(files.network().clone()),
        (Some(_) | None, _) => Err(error),
    };
    let known = Family::of(&config).and_then(|family| family.config(&config)).or_else(as_opened);
    let files = tensors::folder_files(folder)?;
    let views = checkpoint.iter().flat_map(Checkpoint::tensors);
    let mut report = tensors::report(folder, Kind::Model, views, files)?;
    let mut scheme = None;
    let (architecture, unsupported) = match known {
        Ok(network) if checkpoint.is_none() => {
            let mut shapes = Shapes;
            let mut listing = Listing::of(&mut shapes);
            Network::new(&network, &mut listing);
            report.parameters = elements(&listing.parameters);
            (Some(sizes(&network, &config)), None)
        }
        Ok(_) => {
            let files = ModelFiles::open(folder)?;
            for parameter in files.parameters() {
                files.quantized(&parameter.path)?;
            }
            scheme = files.scheme().map(|scheme| scheme.to_string());
            report.notes = files.notes().to_vec();
            // Shapes were compared, so the expected numbers are those in the files.
            report.parameters = elements(files.parameters());
            (Some(sizes(files.network(), &config)), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    report.family = Some(FamilyReport { model_type, scheme, architecture, unsupported });
    Ok(report)
}

fn elements(parameters: &[ParameterInfo]) -> u64 {
    parameters.iter().map(|info| info.elements() as u64).sum()
}

fn sizes(network: &NetworkConfig, config: &HfConfig) -> Architecture {
    let named = network.classes().map(|count| ClassNames::of(config, count)).unwrap_or_default();
    match network {
        NetworkConfig::Decoder(decoder) => Architecture::Decoder(DecoderSizes {
            vocab_size: decoder.vocab_size,
            classes: decoder.classes,
            labels: named.names,
            problem_type: named.problem_type,
            blocks: block_sizes(&decoder.block, decoder.layers),
            max_positions: decoder.max_positions,
            tied_head: decoder.head.tied,
        }),
        NetworkConfig::Image(image) => Architecture::Image(ImageSizes {
            classes: image.classes,
            labels: named.names,
            registers: image.patches.registers,
            images: VisionSizes {
                image_size: image.patches.image,
                patch_size: image.patches.patch,
                blocks: block_sizes(&image.block, image.layers),
            },
        }),
        NetworkConfig::Diffusion(DiffusionConfig { unet, schedule, sampler: _, parts: _ }) => {
            Architecture::Diffusion(DiffusionSizes {
                channels: unet.channels(),
                widths: unet.down.iter().map(|stage| stage.channels).collect(),
                transformer_layers: unet
                    .down
                    .iter()
                    .map(|stage| stage.spatial.map_or(0, |spatial| spatial.layers))
                    .collect(),
                text_width: unet.text,
                sample_size: unet.sample,
                schedule: schedule.as_ref().map(|schedule| {
                    let target = match schedule.target {
                        Target::Noise => "noise",
                        Target::Velocity => "velocity",
                    };
                    format!("{target} at {} times", schedule.len())
                }),
            })
        }
        NetworkConfig::Towers(towers) => Architecture::Towers(TowersSizes {
            embedding: towers.embedding,
            text: TextSizes {
                vocab_size: towers.text.vocab_size,
                blocks: block_sizes(&towers.text.block, towers.text.layers),
                max_positions: towers.text.max_positions,
            },
            vision: VisionSizes {
                image_size: towers.vision.patches.image,
                patch_size: towers.vision.patches.patch,
                blocks: block_sizes(&towers.vision.block, towers.vision.layers),
            },
        }),
    }
}

fn block_sizes(block: &BlockConfig, layers: usize) -> BlockSizes {
    BlockSizes {
        hidden_size: block.width,
        layers,
        heads: block.attention.heads,
        kv_heads: block.attention.kv_heads,
        head_dim: block.attention.head_dim,
        intermediate_size: block.mlp.intermediate_size(),
    }
}
