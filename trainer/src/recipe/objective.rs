//! `[objective]`: what is minimised.

mod distill;
mod preference;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use distill::{DistillKeys, DistillLoss};
pub use distill::{DistillRecipe, HiddenLoss, HiddenRecipe, TeacherModel, TeacherRecipe};
pub(super) use preference::DpoKeys;
pub use preference::{DpoRecipe, DpoVariant, KtoRecipe, OrpoRecipe, ReferenceRecipe, SimpoRecipe};

use super::adapter::Method;
use super::score::{ClassifyKeys, ClassifyRecipe, RewardKeys, RewardRecipe};

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectiveRecipe {
    /// The likelihood of the labelled tokens.
    Sft(SftRecipe),
    /// The divergence from a teacher's distributions, beside that likelihood.
    Distill(DistillRecipe),
    /// The likelihood of the labels of whole texts.
    Classify(ClassifyRecipe),
    /// That of better answers having a higher score than worse ones.
    Reward(RewardRecipe),
    /// The margin between better and worse answers, from a reference on.
    Dpo(DpoRecipe),
    /// The likelihood of better answers, and the odds between them and worse ones.
    Orpo(OrpoRecipe),
    /// The margin between better and worse answers by token, without a reference.
    Simpo(SimpoRecipe),
    /// The likelihood of good answers and the unlikelihood of bad ones, from the base on.
    Kto(KtoRecipe),
    /// The distance of matching pairs among all pairs of a step.
    Contrastive(ContrastiveRecipe),
    /// The squared error of the noise of pictures.
    Denoise(DenoiseRecipe),
}

/// Supervised fine-tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SftRecipe {
    /// The share of each label that is spread over the vocabulary.
    pub label_smoothing: f64,
    /// Factor of the squared log-sum-exp of the logits.
    pub z_loss: f64,
    /// Size of the noise on embedded tokens. Absent = none.
    pub neftune_alpha: Option<f64>,
    /// Factor of the load-balancing loss of routers. Absent = it is not charged.
    pub router_aux_loss: Option<f64>,
}

/// Contrastive learning of two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContrastiveRecipe {
    /// Whether the temperature is trained with the weights.
    pub learn_temperature: bool,
}

/// Denoising of pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DenoiseRecipe {
    /// The ratio of signal to noise from which on rows weigh less. Absent: all weigh the same.
    pub min_snr: Option<f64>,
    /// Deviation of the noise that all pixels of a channel share.
    pub noise_offset: f64,
    /// The share of rows that are trained without their text.
    pub caption_dropout: f64,
}

/// What is minimised. Leave the section out for what the model is made for: the likelihood of labelled tokens for a decoder, that
/// of labels for a classifier of texts or images, the distance of pairs for two towers, the error of told noise for a diffusion pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum ObjectiveSection {
    /// Supervised fine-tuning: the likelihood of the labelled tokens.
    Sft(SftKeys),
    /// Distillation: the student learns a teacher's distributions at labelled positions, beside the labels themselves.
    Distill(DistillKeys),
    /// Sequence classification: the label of a whole text, which is read at its last token that is no padding. The output head
    /// is replaced by a score for each class (`score`), always trained whole; the folder is one of
    /// `AutoModelForSequenceClassification`, an adapter one of PEFT's `SEQ_CLS`. Rows are `labelled`. Of models over images
    /// (DINOv2): the class of an image, with the head `classifier`; rows are pictures with labels, or `tensors` with `pixel_values` and `labels`.
    Classify(ClassifyKeys),
    /// A reward model (Ouyang et al. 2022, arXiv 2203.02155): of two answers to a prompt the better one is to have the higher
    /// score. One score in place of the output head, as in `classify`. Rows are `preference`.
    Reward(RewardKeys),
    /// Direct preference optimisation: better answers become likelier than worse ones, measured from a reference. For `preference`
    /// rows; a row is a pair.
    Dpo(DpoKeys),
    /// ORPO: the likelihood of better answers, and the odds between them and worse ones; without a reference. For `preference` rows.
    Orpo(OrpoRecipe),
    /// SimPO: the margin of the answers' mean log-probabilities, without a reference. For `preference` rows.
    Simpo(SimpoRecipe),
    /// KTO: good answers become likelier and bad ones less likely, measured from the base. For `unpaired` rows, more than one in a
    /// step.
    Kto(KtoRecipe),
    /// CLIP's symmetric cross-entropy over all pairs of the step, whatever the micro-batches. For models with two towers.
    Contrastive(ContrastiveKeys),
    /// The mean squared error of the noise, or of the velocity, that a diffusion pipeline's UNet tells of noisy pictures, as the
    /// pipeline's scheduler defines them. For pictures with captions, and rows of `tensors`.
    Denoise(DenoiseKeys),
}

/// Keys of supervised fine-tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SftKeys {
    /// The share of each label that is spread evenly over the whole vocabulary, as `label_smoothing` of torch's cross-entropy.
    /// In training only: evaluation is plain cross-entropy, which training reports as `sft/ce`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.1)]
    pub label_smoothing: f64,
    /// Factor of a loss that keeps logits near zero (PaLM's z-loss, arXiv 2204.02311): the mean of `log(sum(exp(logits)))^2`
    /// over the labelled tokens. 1e-4 is usual. Reported as `sft/z_loss`, without the factor.
    #[schemars(range(min = 0), example = 1e-4)]
    pub z_loss: f64,
    /// NEFTune (arXiv 2310.05914): noise on embedded tokens in training, uniform in plus or minus
    /// `neftune_alpha / sqrt(tokens * width)`, where `tokens` is the length of the row itself, padding and other rows of its
    /// pack not counted. 5 to 15 is usual. None when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 5.0)]
    pub neftune_alpha: Option<f64>,
    /// Models with experts: factor of the loss that makes routers use all experts alike, 0.02 for Mixtral. Measured over the
    /// whole step; costs one more forward pass. Not charged when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.02)]
    pub router_aux_loss: Option<f64>,
}

/// Keys of contrastive learning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ContrastiveKeys {
    /// Whether the temperature is trained. When not given: in a full run, and not in an adapter run, because a PEFT adapter
    /// cannot hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = false)]
    pub learn_temperature: Option<bool>,
}

/// Keys of denoising.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DenoiseKeys {
    /// Rows whose ratio of signal to noise `s` is larger than this weigh less: `min(s, min_snr) / s`, with `s + 1` below where
    /// velocities are told (Hang et al. 2023, arXiv 2303.09556). 5 is usual. All weigh the same when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 5.0)]
    pub min_snr: Option<f64>,
    /// Noise that is drawn has an offset for each channel, of this deviation, so that very dark and very bright pictures are
    /// learned. 0.05 to 0.1 is usual. Noise that a row brings with it is not changed.
    #[schemars(range(min = 0), example = 0.1)]
    pub noise_offset: f64,
    /// The share of rows whose text is replaced by the empty one, drawn anew each step, so that the network can be guided away
    /// from it (Ho and Salimans 2022, arXiv 2207.12598). 0.1 is usual. Evaluation keeps all texts.
    #[schemars(range(min = 0, max = 1), example = 0.1)]
    pub caption_dropout: f64,
}

impl ObjectiveRecipe {
    /// Supervised fine-tuning with its defaults.
    pub fn sft() -> Self {
        Self::Sft(SftRecipe::default())
    }

    /// Distillation with its defaults.
    pub fn distill(teacher: TeacherRecipe) -> Self {
        Self::Distill(DistillRecipe { teacher, ..DistillKeys::default().decide() })
    }

    /// Contrastive learning with its defaults, by which the temperature is trained where every weight is.
    pub fn contrastive(method: &Method) -> Self {
        Self::Contrastive(ContrastiveRecipe { learn_temperature: *method == Method::Full })
    }

    /// Factor of the load-balancing loss of routers; absent where it is not charged.
    pub fn router_aux_loss(&self) -> Option<f64> {
        match self {
            Self::Sft(sft) => sft.router_aux_loss,
            Self::Distill(_) | Self::Classify(_) | Self::Reward(_) | Self::Contrastive(_) | Self::Denoise(_) => None,
            Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) => None,
        }
    }

    /// The model that it measures from, where it has one.
    pub fn reference(&self) -> Option<&ReferenceRecipe> {
        match self {
            Self::Dpo(dpo) => Some(&dpo.reference),
            Self::Kto(_) => Some(&ReferenceRecipe::Base),
            Self::Sft(_) | Self::Distill(_) | Self::Orpo(_) | Self::Simpo(_) => None,
            Self::Classify(_) | Self::Reward(_) | Self::Contrastive(_) | Self::Denoise(_) => None,
        }
    }

    /// The folder in which is kept what that model gives the answers, where the recipe names one.
    pub fn reference_cache(&self) -> Option<&Path> {
        match self {
            Self::Dpo(dpo) => dpo.reference_cache.as_deref(),
            Self::Sft(_) | Self::Distill(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) => None,
            Self::Classify(_) | Self::Reward(_) | Self::Contrastive(_) | Self::Denoise(_) => None,
        }
    }
}

impl ObjectiveSection {
    /// With every default decided.
    pub(super) fn decide(self, method: &Method) -> ObjectiveRecipe {
        match self {
            Self::Sft(SftKeys { label_smoothing, z_loss, neftune_alpha, router_aux_loss }) => {
                ObjectiveRecipe::Sft(SftRecipe { label_smoothing, z_loss, neftune_alpha, router_aux_loss })
            }
            Self::Classify(keys) => ObjectiveRecipe::Classify(keys.into()),
            Self::Reward(keys) => ObjectiveRecipe::Reward(keys.into()),
            Self::Distill(keys) => ObjectiveRecipe::Distill(keys.decide()),
            Self::Dpo(keys) => ObjectiveRecipe::Dpo(keys.decide()),
            Self::Orpo(orpo) => ObjectiveRecipe::Orpo(orpo),
            Self::Simpo(simpo) => ObjectiveRecipe::Simpo(simpo),
            Self::Kto(kto) => ObjectiveRecipe::Kto(kto),
            Self::Contrastive(keys) => match keys.learn_temperature {
                Some(learn_temperature) => ObjectiveRecipe::Contrastive(ContrastiveRecipe { learn_temperature }),
                None => ObjectiveRecipe::contrastive(method),
            },
            Self::Denoise(DenoiseKeys { min_snr, noise_offset, caption_dropout }) => {
                ObjectiveRecipe::Denoise(DenoiseRecipe { min_snr, noise_offset, caption_dropout })
            }
        }
    }
}

impl From<ObjectiveRecipe> for ObjectiveSection {
    fn from(objective: ObjectiveRecipe) -> Self {
        match objective {
            ObjectiveRecipe::Sft(SftRecipe { label_smoothing, z_loss, neftune_alpha, router_aux_loss }) => {
                Self::Sft(SftKeys { label_smoothing, z_loss, neftune_alpha, router_aux_loss })
            }
            ObjectiveRecipe::Classify(classify) => Self::Classify(classify.into()),
            ObjectiveRecipe::Reward(reward) => Self::Reward(reward.into()),
            ObjectiveRecipe::Distill(distill) => Self::Distill(distill.into()),
            ObjectiveRecipe::Dpo(dpo) => Self::Dpo(dpo.into()),
            ObjectiveRecipe::Orpo(orpo) => Self::Orpo(orpo),
            ObjectiveRecipe::Simpo(simpo) => Self::Simpo(simpo),
            ObjectiveRecipe::Kto(kto) => Self::Kto(kto),
            ObjectiveRecipe::Contrastive(contrastive) => {
                Self::Contrastive(ContrastiveKeys { learn_temperature: Some(contrastive.learn_temperature) })
            }
            ObjectiveRecipe::Denoise(DenoiseRecipe { min_snr, noise_offset, caption_dropout }) => {
                Self::Denoise(DenoiseKeys { min_snr, noise_offset, caption_dropout })
            }
        }
    }
}
