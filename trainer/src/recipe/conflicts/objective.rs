//! What the keys of `[objective]` mean together, and with other sections.

use firebrand_datasets::{DocumentAttention, Problem};

use super::super::error::Complaint;
use super::super::objective::{DistillKeys, DistillLoss, DpoVariant, ObjectiveSection};
use super::super::score::{ClassifyKeys, ClassifyRecipe};
use super::Rules;

impl Rules<'_> {
    pub(super) fn objective(&self) -> Result<(), Complaint> {
        match &self.file.objective {
            Some(ObjectiveSection::Contrastive(contrastive))
                if contrastive.learn_temperature == Some(true) && self.file.adapter.is_some() =>
            {
                Err(self
                    .conflict("objective.learn_temperature")
                    .message("`objective.learn_temperature` trains the temperature, and a PEFT adapter cannot hold it")
                    .advice("remove learn_temperature, or remove [adapter] to train every weight"))
            }
            Some(ObjectiveSection::Distill(distill)) => self.distill(distill),
            Some(ObjectiveSection::Classify(classify)) => self.classes(classify),
            Some(ObjectiveSection::Dpo(dpo)) if dpo.label_smoothing > 0.0 && dpo.variant != DpoVariant::Sigmoid => {
                Err(self
                    .conflict("objective.label_smoothing")
                    .message("`objective.label_smoothing` changes the loss of variant = \"sigmoid\" only")
                    .advice("remove label_smoothing, or remove variant"))
            }
            Some(ObjectiveSection::Kto(kto)) if kto.desirable_weight == 0.0 && kto.undesirable_weight == 0.0 => {
                Err(self
                    .conflict("objective.undesirable_weight")
                    .message("with both weights 0 no row is learned from")
                    .advice("raise desirable_weight or undesirable_weight"))
            }
            Some(
                ObjectiveSection::Contrastive(_)
                | ObjectiveSection::Reward(_)
                | ObjectiveSection::Sft(_)
                | ObjectiveSection::Dpo(_)
                | ObjectiveSection::Orpo(_)
                | ObjectiveSection::Simpo(_)
                | ObjectiveSection::Kto(_)
                | ObjectiveSection::Denoise(_),
            )
            | None => Ok(()),
        }
    }

    fn distill(&self, distill: &DistillKeys) -> Result<(), Complaint> {
        let (key, message, advice) = match (&distill.teacher, &distill.cache) {
            (None, None) => (
                "objective",
                "distillation needs a teacher",
                "add teacher = \"folder or hub id\", or cache = \"folder\" with what `firebrand distill cache` wrote",
            ),
            (None, Some(_)) if distill.teacher_quantization.is_some() => (
                "objective.teacher_quantization",
                "`objective.teacher_quantization` is how the teacher's weights are held, and no teacher is named",
                "add teacher = \"folder or hub id\", or remove teacher_quantization",
            ),
            _ if self.file.data.document_attention == DocumentAttention::Joined
                && (distill.cache.is_some() || distill.on_policy > 0.0) =>
            {
                (
                    "data.document_attention",
                    "joined documents see those before them, which differ from epoch to epoch: a cache and answers of the \
                     student are of single documents",
                    "write document_attention = \"separate\", or remove cache and on_policy",
                )
            }
            (_, Some(_)) if distill.on_policy > 0.0 => (
                "objective.on_policy",
                "a cache holds no distributions for answers that the student has yet to write",
                "remove cache and name the teacher, or remove on_policy",
            ),
            (_, Some(_)) if distill.hidden_weight > 0.0 => (
                "objective.hidden_weight",
                "a cache holds no hidden states of the teacher",
                "remove cache and name the teacher, or remove hidden_weight",
            ),
            _ if distill.hidden_layers.is_some() && distill.hidden_weight == 0.0 => (
                "objective.hidden_layers",
                "`objective.hidden_layers` says which hidden states are matched, and none are: hidden_weight is 0",
                "write hidden_weight = 1.0, or remove hidden_layers",
            ),
            _ if distill.loss == DistillLoss::Jsd && distill.beta == 0.0 => (
                "objective.beta",
                "a mixture without the teacher has no divergence: `jsd` is 0 there",
                "write loss = \"forward_kl\", to which jsd / beta comes near, or 0 < beta < 1",
            ),
            _ if distill.loss == DistillLoss::Jsd && distill.beta == 1.0 => (
                "objective.beta",
                "a mixture without the student has no divergence: `jsd` is 0 there",
                "write loss = \"reverse_kl\", to which jsd / (1 - beta) comes near, or 0 < beta < 1",
            ),
            _ => return Ok(()),
        };
        Err(self.conflict(key).message(message).advice(advice))
    }

    fn classes(&self, classify: &ClassifyKeys) -> Result<(), Complaint> {
        let problem = classify.problem.unwrap_or_default();
        let (message, advice) = match (ClassifyRecipe::repeated(&classify.labels), problem, classify.labels.len()) {
            (Some(name), ..) => (format!("`objective.labels` names {name:?} twice"), "name each class once"),
            (None, Problem::Single, 1) => {
                ("`objective.labels` names one class, and there is nothing to tell it from".into(), "name all classes")
            }
            (None, Problem::Regression, 2..) => {
                ("`objective.labels` names several values, and regression learns one".into(), "remove labels")
            }
            (None, Problem::Single | Problem::Multi | Problem::Regression, _) => return Ok(()),
        };
        Err(self.conflict("objective.labels").message(message).advice(advice))
    }
}
