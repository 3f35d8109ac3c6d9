//! `[objective] kind = "distill"`: learning from a teacher's distributions.

use std::path::PathBuf;

use firebrand_kernels::{Distillation, Divergence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::model::ModelSource;
use crate::recipe::quantization::{EightBitRecipe, FourBitRecipe, Quantization};

/// Distillation: the cross-entropy of labelled tokens, and the divergence of the student's distributions from the
/// teacher's.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillRecipe {
    /// Where the teacher's distributions come from.
    pub teacher: TeacherRecipe,
    /// Which divergence.
    pub divergence: Divergence,
    /// By which the logits of both are divided in the divergence.
    pub temperature: f64,
    /// Share of the divergence in the loss, 0 to 1.
    pub alpha: f64,
    /// Share of the rows whose answers the student writes, 0 to 1.
    pub on_policy: f64,
    /// The likeliest tokens of the teacher that a cache keeps for each labelled position.
    pub top_k: usize,
}

/// Where the teacher's distributions come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TeacherRecipe {
    /// A model that runs beside the student.
    Live(TeacherModel),
    /// A folder that `firebrand distill cache` wrote.
    Cached {
        /// The folder.
        folder: PathBuf,
        /// The model that wrote it, where the recipe names it.
        model: Option<TeacherModel>,
    },
}

/// A teacher, and how its weights are held.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherModel {
    /// The model.
    pub source: ModelSource,
    /// How its weights are quantized; absent: they are not.
    pub quantization: Option<Quantization>,
}

impl DistillRecipe {
    /// How the loss is made.
    pub fn settings(&self) -> Distillation {
        let Self { divergence, temperature, alpha, .. } = *self;
        Distillation { divergence, temperature, alpha }
    }
}

impl TeacherRecipe {
    /// The teacher, where the recipe names it.
    pub fn model(&self) -> Option<&TeacherModel> {
        match self {
            Self::Live(model) => Some(model),
            Self::Cached { model, .. } => model.as_ref(),
        }
    }
}

/// Keys of distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::recipe) struct DistillKeys {
    /// The teacher: a folder, or a hub id `owner/name[@revision]`, with the student's vocabulary. It runs beside the student, frozen.
    /// Not needed with `cache`; if it is there, it must be the one that wrote the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"owner/larger")]
    pub teacher: Option<String>,
    /// How the teacher's weights are quantized, in a word or with the keys of [quantization]. Not quantized when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["nf4"]))]
    pub teacher_quantization: Option<TeacherQuantization>,
    /// The divergence of the student's distributions from the teacher's.
    #[schemars(example = DistillLoss::Jsd)]
    pub loss: DistillLoss,
    /// Logits of both are divided by it in the divergence, which is multiplied by its square.
    #[schemars(extend("exclusiveMinimum" = 0), example = 2.0)]
    pub temperature: f64,
    /// The loss is `(1 - alpha)` times the cross-entropy of the labels, plus `alpha` times the divergence.
    #[schemars(range(min = 0, max = 1), example = 0.9)]
    pub alpha: f64,
    /// Weight of the teacher in the mixture of `jsd`: near 0 as forward KL, near 1 as reverse KL.
    #[schemars(range(min = 0, max = 1), example = 0.25)]
    pub beta: f64,
    /// The folder of the teacher's distributions that `firebrand distill cache RECIPE` writes. Training then loads no teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"teacher-cache")]
    pub cache: Option<PathBuf>,
    /// How many of the teacher's likeliest tokens the cache keeps for each labelled position. All others are one probability.
    #[schemars(range(min = 1), example = 128)]
    pub top_k: usize,
    /// Share of rows whose answers the student writes anew at each visit (GKD). They count in the divergence and not in the
    /// cross-entropy.
    #[schemars(range(min = 0, max = 1), example = 0.5)]
    pub on_policy: f64,
}

/// A divergence, by its name in recipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::recipe) enum DistillLoss {
    /// `KL(teacher || student)`.
    #[default]
    ForwardKl,
    /// `KL(student || teacher)`.
    ReverseKl,
    /// The generalised Jensen-Shannon divergence.
    Jsd,
}

/// The quantization of a teacher: a kind with its defaults, or with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::recipe) enum TeacherQuantization {
    Kind(QuantizationWord),
    Keys(Quantization),
}

/// A kind of quantization with its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::recipe) enum QuantizationWord {
    Nf4,
    Fp4,
    Int8,
}

impl Default for DistillKeys {
    fn default() -> Self {
        Self {
            teacher: None,
            teacher_quantization: None,
            loss: DistillLoss::default(),
            temperature: 1.0,
            alpha: 0.5,
            beta: 0.5,
            cache: None,
            top_k: 64,
            on_policy: 0.0,
        }
    }
}

impl TeacherQuantization {
    fn decide(self) -> Quantization {
        match self {
            Self::Kind(QuantizationWord::Nf4) => Quantization::Nf4(FourBitRecipe::default()),
            Self::Kind(QuantizationWord::Fp4) => Quantization::Fp4(FourBitRecipe::default()),
            Self::Kind(QuantizationWord::Int8) => Quantization::Int8(EightBitRecipe::default()),
            Self::Keys(quantization) => quantization,
        }
    }
}

impl DistillKeys {
    /// With every default decided. Without teacher and cache, which `conflicts.rs` refuses, the cache is the current folder.
    pub(super) fn decide(self) -> DistillRecipe {
        let quantization = self.teacher_quantization.map(TeacherQuantization::decide);
        let model = self.teacher.map(|text| TeacherModel { source: ModelSource::found(&text), quantization });
        let teacher = match (self.cache, model) {
            (None, Some(model)) => TeacherRecipe::Live(model),
            (cache, model) => TeacherRecipe::Cached { folder: cache.unwrap_or_default(), model },
        };
        let divergence = match self.loss {
            DistillLoss::ForwardKl => Divergence::ForwardKl,
            DistillLoss::ReverseKl => Divergence::ReverseKl,
            DistillLoss::Jsd => Divergence::Jsd { beta: self.beta },
        };
        let Self { temperature, alpha, on_policy, top_k, .. } = self;
        DistillRecipe { teacher, divergence, temperature, alpha, on_policy, top_k }
    }
}

impl From<DistillRecipe> for DistillKeys {
    fn from(recipe: DistillRecipe) -> Self {
        let DistillRecipe { teacher, divergence, temperature, alpha, on_policy, top_k } = recipe;
        let (cache, model) = match teacher {
            TeacherRecipe::Live(model) => (None, Some(model)),
            TeacherRecipe::Cached { folder, model } => (Some(folder), model),
        };
        let (loss, beta) = match divergence {
            Divergence::ForwardKl => (DistillLoss::ForwardKl, Self::default().beta),
            Divergence::ReverseKl => (DistillLoss::ReverseKl, Self::default().beta),
            Divergence::Jsd { beta } => (DistillLoss::Jsd, beta),
        };
        let quantization = model.as_ref().and_then(|model| model.quantization);
        Self {
            teacher: model.map(|model| model.source.to_string()),
            teacher_quantization: quantization.map(TeacherQuantization::Keys),
            loss,
            temperature,
            alpha,
            beta,
            cache,
            top_k,
            on_policy,
        }
    }
}
