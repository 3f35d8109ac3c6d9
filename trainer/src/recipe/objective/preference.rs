//! `[objective] kind = "dpo" | "orpo" | "simpo" | "kto"`: learning from judged answers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::model::ModelSource;

/// Direct preference optimisation.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoRecipe {
    /// How far the model may go from the reference: a small number lets it go far.
    pub beta: f64,
    /// Which loss.
    pub variant: DpoVariant,
    /// Share of pairs that are taken to be judged the wrong way round; with `sigmoid` only.
    pub label_smoothing: f64,
    /// The model from which is measured.
    pub reference: ReferenceRecipe,
    /// The folder in which is kept what the reference gives the answers; absent: it runs at every step.
    pub reference_cache: Option<PathBuf>,
}

/// The losses of direct preference optimisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DpoVariant {
    /// `-log sigmoid` of the margin (Rafailov 2023).
    #[default]
    Sigmoid,
    /// What the margin lacks to 1 (SLiC, Zhao 2023).
    Hinge,
    /// The squared distance of the margin, by token, from `1 / (2 beta)` (Azar 2023).
    Ipo,
}

/// The model that a preference objective measures from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReferenceRecipe {
    /// The base model, without adapter and without anything that is trained.
    #[default]
    Base,
    /// The model as it stands before the first step.
    Start,
    /// Another model.
    Model(ModelSource),
}

impl ReferenceRecipe {
    /// Whether it is the trained model at an earlier time.
    pub fn is_own(&self) -> bool {
        match self {
            Self::Base | Self::Start => true,
            Self::Model(_) => false,
        }
    }
}

/// ORPO (Hong 2024): the likelihood of the better answer, and the odds between the two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrpoRecipe {
    /// Factor of the odds ratio's loss beside the likelihood of the chosen row.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.25)]
    pub lambda: f64,
}

/// SimPO (Meng 2024): the margin of the answers' mean log-probabilities, without a reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimpoRecipe {
    /// Factor of the difference of the mean log-probabilities.
    #[schemars(extend("exclusiveMinimum" = 0), example = 2.5)]
    pub beta: f64,
    /// The margin that this product should have.
    #[schemars(range(min = 0), example = 1.0)]
    pub gamma: f64,
}

/// KTO (Ethayarajh 2024): answers that are good or bad by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KtoRecipe {
    /// How far the model may go from the base: a small number lets it go far.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.2)]
    pub beta: f64,
    /// Weight of the losses of good answers.
    #[schemars(range(min = 0), example = 1.33)]
    pub desirable_weight: f64,
    /// Weight of the losses of bad answers. With n good and m bad ones, a ratio of weights between m / n and 4 m / (3 n) is usual.
    #[schemars(range(min = 0), example = 0.5)]
    pub undesirable_weight: f64,
}

/// Keys of direct preference optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::recipe) struct DpoKeys {
    /// How far the model may go from the reference: a small number lets it go far.
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.3)]
    pub beta: f64,
    /// The loss: `sigmoid` (Rafailov 2023), `hinge` (Zhao 2023), or `ipo` (Azar 2023), which measures by token.
    #[schemars(example = DpoVariant::Ipo)]
    pub variant: DpoVariant,
    /// Share of pairs that are taken to be judged the wrong way round (conservative DPO). With `sigmoid` only.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 0.5), example = 0.1)]
    pub label_smoothing: f64,
    /// The model from which is measured. `base`: the model without adapter and without anything that is trained; no second copy of it
    /// is held where an adapter is trained. `start`: the model as it stands before the first step. Or another model of the same
    /// vocabulary, a folder or a hub id.
    #[schemars(example = &"start")]
    pub reference: String,
    /// A folder in which the reference's log-probabilities are kept. Before the first step the reference runs over the pairs that are not
    /// there, each once; then it runs no more, in this run and later ones with the same reference, and no copy of it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"reference-cache")]
    pub reference_cache: Option<PathBuf>,
}

const BASE: &str = "base";
const START: &str = "start";

impl Default for DpoKeys {
    fn default() -> Self {
        Self {
            beta: 0.1,
            variant: DpoVariant::default(),
            label_smoothing: 0.0,
            reference: BASE.into(),
            reference_cache: None,
        }
    }
}

impl Default for DpoRecipe {
    fn default() -> Self {
        DpoKeys::default().decide()
    }
}

impl Default for OrpoRecipe {
    fn default() -> Self {
        Self { lambda: 0.1 }
    }
}

impl Default for SimpoRecipe {
    fn default() -> Self {
        Self { beta: 2.0, gamma: 0.5 }
    }
}

impl Default for KtoRecipe {
    fn default() -> Self {
        Self { beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

impl DpoKeys {
    /// The text of another model, where the reference is one.
    pub fn model(&self) -> Option<&str> {
        Some(self.reference.as_str()).filter(|text| ![BASE, START].contains(text))
    }

    /// With every default decided.
    pub fn decide(self) -> DpoRecipe {
        let reference = match self.reference.as_str() {
            BASE => ReferenceRecipe::Base,
            START => ReferenceRecipe::Start,
            model => ReferenceRecipe::Model(ModelSource::found(model)),
        };
        let Self { beta, variant, label_smoothing, reference_cache, .. } = self;
        DpoRecipe { beta, variant, label_smoothing, reference, reference_cache }
    }
}

impl From<DpoRecipe> for DpoKeys {
    fn from(DpoRecipe { beta, variant, label_smoothing, reference, reference_cache }: DpoRecipe) -> Self {
        let reference = match reference {
            ReferenceRecipe::Base => BASE.into(),
            ReferenceRecipe::Start => START.into(),
            ReferenceRecipe::Model(model) => model.to_string(),
        };
        Self { beta, variant, label_smoothing, reference, reference_cache }
    }
}
