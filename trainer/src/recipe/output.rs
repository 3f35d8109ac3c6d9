//! `[log]`, `[sample]` and `[export]`: what a run shows and leaves behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dtype::WrittenDtype;

/// What is written down while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Optimiser steps between lines of `metrics.jsonl` (and points in TensorBoard).
    #[schemars(range(min = 1), example = 10)]
    pub every: usize,
    /// Write event files for TensorBoard.
    #[schemars(example = false)]
    pub tensorboard: bool,
    /// Measure the gradient noise scale (McCandlish et al., arXiv 1812.06162) from the micro-batches of each step: about the
    /// `batch_size` from which larger ones learn hardly more a step. Reported as `noise_scale`, in rows (packs when packing), with
    /// what it is made of; it settles within some twenty steps. Needs two micro-batches a step, and memory for one more
    /// gradient. Nothing that is trained changes.
    #[schemars(example = true)]
    pub noise_scale: bool,
}

/// The same questions answered before and after training, greedily, rendered with the chat template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The questions, each one user turn.
    #[schemars(length(min = 1), extend("examples" = [["Who founded Firebrand?"]]))]
    pub prompts: Vec<String>,
    /// Longest answer, in tokens.
    #[serde(default = "super::default_values::max_new_tokens")]
    #[schemars(range(min = 1), example = 16)]
    pub max_new_tokens: usize,
    /// Optimiser steps between further answers, during training; when not given, there are none. They are printed, and in
    /// TensorBoard as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 50)]
    pub every: Option<usize>,
}

/// What is written when the run is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Whether an adapter run also writes the merged model.
    pub merge: bool,
    /// What `model/` is written in. Absent: the base model's own dtype.
    pub dtype: Option<WrittenDtype>,
    /// Of which step the weights are.
    pub weights: ExportedWeights,
    /// The files of LoRA on a diffusion pipeline.
    pub lora_format: LoraFormat,
}

/// The files of LoRA on a diffusion pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum LoraFormat {
    #[default]
    Diffusers,
    Kohya,
}

/// The step whose weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum ExportedWeights {
    Last,
    Best,
    Ema,
}

/// What is written when the run is over. A full run always writes `model/`, an adapter run always `adapter/`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSection {
    /// After an adapter run, also write the merged model to `model/`. Nothing to do after a full run.
    #[schemars(example = true)]
    pub merge: bool,
    /// What `model/` is written in; the base model's own dtype when not given. `nf4` and `fp4` quantize the merged linear maps in 4 bits, as
    /// bitsandbytes and transformers read them; the rest stays as in the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = WrittenDtype::Bf16)]
    pub dtype: Option<WrittenDtype>,
    /// The weights that `adapter/` and `model/` get: those of the last step, those of the lowest evaluation loss (its
    /// checkpoint stays, by `checkpoint.best`; with `eval.weights = "ema"` they are the average at that step), or the moving
    /// average at the last step (`train.ema`). When not given: `best` where `eval.early_stopping` is given, else `last`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = ExportedWeights::Best)]
    pub weights: Option<ExportedWeights>,
    /// How `adapter/` holds LoRA on a diffusion pipeline: as diffusers' `load_lora_weights` reads it, or as `kohya`'s scripts
    /// write it, and ComfyUI and A1111 read it.
    #[schemars(example = LoraFormat::Kohya)]
    pub lora_format: LoraFormat,
}

impl ExportSection {
    /// `ranked`: the checkpoint of the lowest evaluation loss stays. `stops_early`: `eval.early_stopping` is given.
    pub(super) fn resolve(self, ranked: bool, stops_early: bool) -> Export {
        let by_default = if ranked && stops_early { ExportedWeights::Best } else { ExportedWeights::Last };
        Export {
            merge: self.merge,
            dtype: self.dtype,
            weights: self.weights.unwrap_or(by_default),
            lora_format: self.lora_format,
        }
    }
}

impl From<&Export> for ExportSection {
    fn from(export: &Export) -> Self {
        let Export { merge, dtype, weights, lora_format } = *export;
        ExportSection { merge, dtype, weights: Some(weights), lora_format }
    }
}
