//! Names of tensors in LoRA files of diffusion pipelines: [`parse`] reads them, [`write`] makes them.
//!
//! | | names |
//! |---|---|
//! | diffusers | `unet.<module>.lora_A.weight`, `.lora_B.weight`; older scripts `.lora.down.weight`, `.lora.up.weight` |
//! | kohya | `lora_unet_<module with _ for .>.lora_down.weight`, `.lora_up.weight`, `.alpha` |
//!
//! In kohya's files for XL, stages may have the names of Stability's own code (`input_blocks_4_1`).

/// The name under which diffusers looks for LoRA in a folder.
pub const LORA_FILE: &str = "pytorch_lora_weights.safetensors";

const OF_DIFFUSERS: &str = "unet.";
const OF_KOHYA: &str = "lora_unet_";

/// The conventions in which LoRA of a pipeline is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraFormat {
    /// As diffusers' `load_lora_weights` reads it.
    Diffusers,
    /// As kohya's scripts write it, and ComfyUI and A1111 read it.
    Kohya,
}

/// A tensor of an adapted module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoraTensor {
    /// `A`, `[rank, in]`.
    Down,
    /// `B`, `[out, rank]`.
    Up,
    /// The factor on their product, times the rank.
    Alpha,
}

const SUFFIXES: [(&str, LoraTensor); 7] = [
    (".lora_A.weight", LoraTensor::Down),
    (".lora_B.weight", LoraTensor::Up),
    (".lora.down.weight", LoraTensor::Down),
    (".lora.up.weight", LoraTensor::Up),
    (".lora_down.weight", LoraTensor::Down),
    (".lora_up.weight", LoraTensor::Up),
    (".alpha", LoraTensor::Alpha),
];

/// Names of modules that have `_` in them.
const JOINED: [&str; 19] = [
    "down_blocks",
    "up_blocks",
    "mid_block",
    "transformer_blocks",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "proj_in",
    "proj_out",
    "time_emb_proj",
    "conv_shortcut",
    "time_embedding",
    "add_embedding",
    "linear_1",
    "linear_2",
    "conv_in",
    "conv_out",
    "conv_norm_out",
];

/// The path of the module in the UNet, and which of its tensors `name` is; `None`: it is no such name.
pub fn parse(name: &str) -> Option<(String, LoraTensor)> {
    let (module, tensor) = SUFFIXES.iter().find_map(|(suffix, tensor)| Some((name.strip_suffix(suffix)?, *tensor)))?;
    if let Some(module) = module.strip_prefix(OF_DIFFUSERS) {
        return Some((module.to_owned(), tensor));
    }
    let module = with_dots(module.strip_prefix(OF_KOHYA)?);
    Some((of_stability(&module).unwrap_or(module), tensor))
}

/// The name of a tensor of the module at that path.
pub fn write(module: &str, tensor: LoraTensor, format: LoraFormat) -> String {
    match format {
        LoraFormat::Diffusers => {
            let suffix = match tensor {
                LoraTensor::Down => ".lora_A.weight",
                LoraTensor::Up => ".lora_B.weight",
                LoraTensor::Alpha => ".alpha",
            };
            format!("{OF_DIFFUSERS}{module}{suffix}")
        }
        LoraFormat::Kohya => {
            let suffix = match tensor {
                LoraTensor::Down => ".lora_down.weight",
                LoraTensor::Up => ".lora_up.weight",
                LoraTensor::Alpha => ".alpha",
            };
            format!("{OF_KOHYA}{}{suffix}", module.replace('.', "_"))
        }
    }
}

/// A path whose dots were written as `_`.
fn with_dots(flat: &str) -> String {
    let (mut rest, mut parts) = (flat, vec![]);
    while !rest.is_empty() {
        let ends =
            |name: &&&str| rest.strip_prefix(**name).is_some_and(|after| after.is_empty() || after.starts_with('_'));
        let length = match JOINED.iter().find(ends) {
            Some(name) => name.len(),
            None => rest.find('_').unwrap_or(rest.len()),
        };
        parts.push(&rest[..length]);
        rest = rest[length..].strip_prefix('_').unwrap_or(&rest[length..]);
    }
    parts.join(".")
}

/// The path in diffusers of a module of Stability's code, whose stages have two resnet blocks each.
fn of_stability(module: &str) -> Option<String> {
    let parts: Vec<&str> = module.split('.').collect();
    let (place, rest) = match parts.as_slice() {
        ["input", "blocks", index, at, rest @ ..] => {
            let (index, at): (usize, usize) = (index.parse().ok()?, at.parse().ok()?);
            let (stage, block) = (index.checked_sub(1)? / 3, (index - 1) % 3);
            match (block, at) {
                (0 | 1, 0) => (format!("down_blocks.{stage}.resnets.{block}"), rest),
                (0 | 1, 1) => (format!("down_blocks.{stage}.attentions.{block}"), rest),
                (2, 0) => (format!("down_blocks.{stage}.downsamplers.0"), rest),
                _ => return None,
            }
        }
        ["middle", "block", at, rest @ ..] => match *at {
            "0" => ("mid_block.resnets.0".into(), rest),
            "1" => ("mid_block.attentions.0".into(), rest),
            "2" => ("mid_block.resnets.1".into(), rest),
            _ => return None,
        },
        ["output", "blocks", index, at, rest @ ..] => {
            let (index, at): (usize, usize) = (index.parse().ok()?, at.parse().ok()?);
            let (stage, block) = (index / 3, index % 3);
            match (at, rest.first()) {
                (0, _) => (format!("up_blocks.{stage}.resnets.{block}"), rest),
                (1 | 2, Some(&"conv")) => (format!("up_blocks.{stage}.upsamplers.0"), rest),
                (1, _) => (format!("up_blocks.{stage}.attentions.{block}"), rest),
                _ => return None,
            }
        }
        _ => return None,
    };
    let inner = match rest {
        ["in", "layers", "2"] => "conv1".to_owned(),
        ["out", "layers", "3"] => "conv2".to_owned(),
        ["emb", "layers", "1"] => "time_emb_proj".to_owned(),
        ["skip", "connection"] => "conv_shortcut".to_owned(),
        ["op"] => "conv".to_owned(),
        rest => rest.join("."),
    };
    Some(format!("{place}.{inner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_name_is_the_path_it_was_made_of() {
        for module in [
            "down_blocks.0.attentions.1.transformer_blocks.9.attn1.to_out.0",
            "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
            "up_blocks.2.resnets.1.time_emb_proj",
            "up_blocks.1.upsamplers.0.conv",
            "down_blocks.1.attentions.0.proj_in",
            "time_embedding.linear_1",
        ] {
            for format in [LoraFormat::Kohya, LoraFormat::Diffusers] {
                let name = write(module, LoraTensor::Up, format);
                assert_eq!(parse(&name), Some((module.to_owned(), LoraTensor::Up)), "{name}");
            }
        }
        assert_eq!(parse("lora_te_text_model_encoder.lora_up.weight"), None);
        assert_eq!(parse("unet.conv_in.weight"), None);
    }

    #[test]
    fn stages_of_stability_are_those_of_diffusers() {
        for (theirs, ours) in [
            (
                "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            ),
            ("input_blocks_8_1_proj_in", "down_blocks.2.attentions.1.proj_in"),
            ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
            ("middle_block_1_transformer_blocks_3_ff_net_2", "mid_block.attentions.0.transformer_blocks.3.ff.net.2"),
            (
                "output_blocks_2_1_transformer_blocks_1_attn2_to_out_0",
                "up_blocks.0.attentions.2.transformer_blocks.1.attn2.to_out.0",
            ),
            ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
            ("output_blocks_6_0_emb_layers_1", "up_blocks.2.resnets.0.time_emb_proj"),
        ] {
            assert_eq!(parse(&format!("lora_unet_{theirs}.alpha")), Some((ours.to_owned(), LoraTensor::Alpha)));
        }
    }
}
