//! `[objective]`: what is minimised.

mod distill;
mod preference;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use distill::{DistillKeys, DistillLoss};
pub use distill::{DistillRecipe, TeacherModel, TeacherRecipe};
pub(super) use preference::DpoKeys;
pub use preference::{DpoRecipe, DpoVariant, KtoRecipe, OrpoRecipe, ReferenceRecipe, SimpoRecipe};

use super::adapter::Method;

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectiveRecipe {
    /// The likelihood of the labelled tokens.
    Sft(SftRecipe),
    /// The divergence from a teacher's distributions, beside that likelihood.
    Distill(DistillRecipe),
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
}

/// Supervised fine-tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SftRecipe {
    /// Factor of the load-balancing loss of routers. Absent = it is not charged.
    pub router_aux_loss: Option<f64>,
}

/// Contrastive learning of two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContrastiveRecipe {
    /// Whether the temperature is trained with the weights.
    pub learn_temperature: bool,
}

/// What is minimised. Leave the section out for what the model is made for: the likelihood of labelled tokens for a decoder, the
/// distance of pairs for two towers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum ObjectiveSection {
    /// Supervised fine-tuning: the likelihood of the labelled tokens.
    Sft(SftKeys),
    /// Distillation: the student learns a teacher's distributions at labelled positions, beside the labels themselves.
    Distill(DistillKeys),
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
}

/// Keys of supervised fine-tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SftKeys {
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
            Self::Distill(_) | Self::Dpo(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Kto(_) | Self::Contrastive(_) => {
                None
            }
        }
    }

    /// The model that it measures from, where it has one.
    pub fn reference(&self) -> Option<&ReferenceRecipe> {
        match self {
            Self::Dpo(dpo) => Some(&dpo.reference),
            Self::Kto(_) => Some(&ReferenceRecipe::Base),
            Self::Sft(_) | Self::Distill(_) | Self::Orpo(_) | Self::Simpo(_) | Self::Contrastive(_) => None,
        }
    }
}

impl ObjectiveSection {
    /// With every default decided.
    pub(super) fn decide(self, method: &Method) -> ObjectiveRecipe {
        match self {
            Self::Sft(keys) => ObjectiveRecipe::Sft(SftRecipe { router_aux_loss: keys.router_aux_loss }),
            Self::Distill(keys) => ObjectiveRecipe::Distill(keys.decide()),
            Self::Dpo(keys) => ObjectiveRecipe::Dpo(keys.decide()),
            Self::Orpo(orpo) => ObjectiveRecipe::Orpo(orpo),
            Self::Simpo(simpo) => ObjectiveRecipe::Simpo(simpo),
            Self::Kto(kto) => ObjectiveRecipe::Kto(kto),
            Self::Contrastive(keys) => match keys.learn_temperature {
                Some(learn_temperature) => ObjectiveRecipe::Contrastive(ContrastiveRecipe { learn_temperature }),
                None => ObjectiveRecipe::contrastive(method),
            },
        }
    }
}

impl From<ObjectiveRecipe> for ObjectiveSection {
    fn from(objective: ObjectiveRecipe) -> Self {
        match objective {
            ObjectiveRecipe::Sft(sft) => Self::Sft(SftKeys { router_aux_loss: sft.router_aux_loss }),
            ObjectiveRecipe::Distill(distill) => Self::Distill(distill.into()),
            ObjectiveRecipe::Dpo(dpo) => Self::Dpo(dpo.into()),
            ObjectiveRecipe::Orpo(orpo) => Self::Orpo(orpo),
            ObjectiveRecipe::Simpo(simpo) => Self::Simpo(simpo),
            ObjectiveRecipe::Kto(kto) => Self::Kto(kto),
            ObjectiveRecipe::Contrastive(contrastive) => {
                Self::Contrastive(ContrastiveKeys { learn_temperature: Some(contrastive.learn_temperature) })
            }
        }
    }
}
