//! DINOv2 with registers (Darcet et al. 2023, arXiv:2309.16588). `model_type` "dinov2_with_registers"; reference: transformers
//! 5.24 `models/dinov2_with_registers/modeling_dinov2_with_registers.py`.
//!
//! DINOv2 (`dinov2.rs`) with vectors behind the class embedding that belong to no patch. Oddities: positions are resampled with
//! antialias, patches are 16 pixels wide where the file does not say so, and there is always a `mask_token`.

use super::dinov2::{Registers, names, read};
use super::{BasePrompt, Definition, NetworkDefinition, TransformersClass};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::image::ImageConfig;
use crate::parts::Interpolation;
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["dinov2_with_registers"],
    models: "DINOv2 S/14, B/14, L/14, g/14 with registers",
    // PEFT has no default targets for it.
    targets: &[],
    prompt: BasePrompt::Wordless,
    silent: &[],
    network: NetworkDefinition::Image {
        config,
        rules,
        class: TransformersClass {
            name: "Dinov2WithRegistersForImageClassification",
            module: "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers",
        },
    },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<ImageConfig, ModelError> {
    let count = config.optional_size("num_register_tokens")?.unwrap_or(4);
    read(config, Registers { count, patch: 16, interpolation: Interpolation::BicubicAntialias }, true)
}

/// The names of tensors.
fn rules(config: &ImageConfig) -> Vec<Rule> {
    names("dinov2_with_registers", config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_file_has_four_registers_and_patches_of_sixteen() {
        let config = config(&HfConfig::from_json("config.json", "{}").unwrap()).unwrap();
        assert_eq!((config.patches.registers, config.patches.patch, config.patches.length()), (4, 16, 201));
    }
}
