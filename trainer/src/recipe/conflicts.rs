//! Keys that are right by themselves and wrong together, and texts that have a grammar of their own.

use regex::Regex;

use super::adapter::{AdapterSection, Exclude, LoraInit, LoraRecipe, Targets};
use super::checkpoint::BestKey;
use super::document::Document;
use super::dtype::WrittenDtype;
use super::error::{Complaint, ComplaintKind};
use super::file::{Init, RecipeFile};
use super::objective::{DistillKeys, DistillLoss, DpoVariant, ObjectiveSection};
use super::optimizer::{AdafactorRate, Optimizer};
use super::output::ExportedWeights;
use super::schedule::{ScheduleSection, WarmupKeys};

/// What each rule says, in the order of the recipe's sections: all that are broken.
pub(super) fn check(file: &RecipeFile, document: &Document) -> Vec<Complaint> {
    let rules = Rules { file, document };
    let results = [
        rules.method(),
        rules.vocabulary(),
        rules.quantization(),
        rules.quantized_export(),
        rules.data(),
        rules.objective(),
        rules.train(),
        rules.optimizer(),
        rules.schedule(),
        rules.evaluation(),
        rules.sample(),
    ];
    results.into_iter().filter_map(Result::err).collect()
}

struct Rules<'a> {
    file: &'a RecipeFile,
    document: &'a Document,
}

impl Rules<'_> {
    fn conflict(&self, key: &str) -> Complaint {
        self.document.at_key(ComplaintKind::Conflict, key)
    }

    fn method(&self) -> Result<(), Complaint> {
        match &self.file.adapter {
            Some(_) if self.file.init == Init::Random => Err(self
                .conflict("init")
                .message("an adapter on random weights would learn nothing of use")
                .advice("remove [adapter] to train every weight, or init to start from the model's own weights")),
            None if self.file.base_dtype.is_some() => Err(self
                .conflict("base_dtype")
                .message("`base_dtype` is how frozen weights are held, and full fine-tuning freezes none")
                .advice("remove base_dtype, or add [adapter] with kind = \"lora\"")),
            None => Ok(()),
            Some(AdapterSection::Lora(lora)) => self.lora(lora),
            Some(AdapterSection::Dora(lora)) => {
                if matches!(lora.init, LoraInit::Pissa | LoraInit::Olora | LoraInit::Loftq) {
                    return Err(self
                        .conflict("adapter.init")
                        .message("DoRA starts with a product of zero")
                        .advice("write kind = \"lora\", or init = \"kaiming\", \"gaussian\" or \"orthogonal\""));
                }
                self.lora(lora)
            }
            Some(AdapterSection::Ia3(ia3)) => self.modules(&ia3.targets, &ia3.exclude),
        }
    }

    /// What quantization costs is measured by merging, so only a merged model is written so.
    fn quantized_export(&self) -> Result<(), Complaint> {
        match self.file.export.dtype {
            Some(WrittenDtype::Nf4 | WrittenDtype::Fp4) if self.file.adapter.is_none() => Err(self
                .conflict("export.dtype")
                .message("`export.dtype` quantizes merged models only, and full fine-tuning merges nothing")
                .advice("write bf16; [quantization] and transformers quantize weights while they read them")),
            _ => Ok(()),
        }
    }

    fn vocabulary(&self) -> Result<(), Complaint> {
        match self.file.vocabulary.as_ref().and_then(|vocabulary| vocabulary.stray()) {
            None => Ok(()),
            Some(token) => Err(self
                .conflict("vocabulary.init")
                .message(format!("`vocabulary.init` has a start for {token:?}, which is not among the new tokens"))
                .advice("name it in vocabulary.add or vocabulary.add_words too, or remove its start")),
        }
    }

    fn quantization(&self) -> Result<(), Complaint> {
        let Some(quantization) = self.file.quantization else { return Ok(()) };
        if self.file.adapter.is_none() {
            return Err(self
                .conflict("quantization")
                .message("quantized weights are frozen, and full fine-tuning freezes none")
                .advice("add [adapter] with kind = \"lora\", or remove [quantization]"));
        }
        if self.file.base_dtype.is_some() {
            return Err(self
                .conflict("base_dtype")
                .message("`base_dtype` and [quantization] both say how frozen weights are held")
                .advice("remove one of them"));
        }
        let block = quantization.block();
        if !block.is_power_of_two() {
            return Err(self
                .document
                .at_key(ComplaintKind::OutOfRange, "quantization.block")
                .message(format!("`quantization.block` = {block} is no power of two"))
                .advice("use 32, 64, 128, 256, 512, 1024, 2048 or 4096; 64 is usual"));
        }
        Ok(())
    }

    fn lora(&self, lora: &LoraRecipe) -> Result<(), Complaint> {
        self.modules(&lora.targets, &lora.exclude)?;
        for pattern in lora.rank_pattern.keys() {
            self.regex("adapter.rank_pattern", pattern)?;
        }
        for pattern in lora.alpha_pattern.keys() {
            self.regex("adapter.alpha_pattern", pattern)?;
        }
        for pattern in &lora.layers_pattern {
            self.regex("adapter.layers_pattern", pattern)?;
        }
        if !lora.layers_pattern.is_empty() && lora.layers.is_empty() {
            return Err(self
                .conflict("adapter.layers_pattern")
                .message("`adapter.layers_pattern` says what `adapter.layers` counts, and that is not there")
                .advice("add layers, for example layers = [0, 1], or remove layers_pattern"));
        }
        if let (false, Targets::Regex(_)) = (lora.layers.is_empty(), &lora.targets) {
            return Err(self
                .conflict("adapter.layers")
                .message("`adapter.layers` does not go with a regular expression, for PEFT either")
                .advice("put the numbers of the layers into the expression"));
        }
        if lora.ensure_weight_tying && lora.modules_to_save.is_empty() {
            return Err(self
                .conflict("adapter.ensure_weight_tying")
                .message("`adapter.ensure_weight_tying` is about an embedding or head that is trained, and modules_to_save has none")
                .advice("name them, for example modules_to_save = [\"embed_tokens\"], or remove ensure_weight_tying"));
        }
        if lora.init_from.is_some() && lora.init != LoraInit::Kaiming {
            return Err(self
                .conflict("adapter.init")
                .message("`adapter.init` makes fresh values, and `adapter.init_from` reads them")
                .advice("keep one of them"));
        }
        if lora.init == LoraInit::Loftq && self.file.quantization.is_none() {
            return Err(self
                .conflict("adapter.init")
                .message("`loftq` makes up for what quantizing the base lost, and this base is not quantized")
                .advice("add [quantization] with kind = \"nf4\", or choose another init"));
        }
        Ok(())
    }

    fn modules(&self, targets: &Targets, exclude: &Exclude) -> Result<(), Complaint> {
        match targets {
            Targets::Names(names) if names.is_empty() => {
                return Err(self
                    .document
                    .at_key(ComplaintKind::OutOfRange, "adapter.targets")
                    .message("`adapter.targets` names no layer")
                    .advice("write \"all-linear\", names such as [\"q_proj\", \"v_proj\"], or { regex = \"...\" }"));
            }
            Targets::Regex(pattern) => self.regex("adapter.targets.regex", &pattern.regex)?,
            Targets::Names(_) | Targets::Preset(_) => {}
        }
        if let Exclude::Regex(pattern) = exclude {
            self.regex("adapter.exclude.regex", &pattern.regex)?;
        }
        Ok(())
    }

    fn regex(&self, key: &str, pattern: &str) -> Result<(), Complaint> {
        let Err(error) = Regex::new(pattern) else {
            return Ok(());
        };
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Err(self
            .document
            .at_key(ComplaintKind::UnknownValue, key)
            .message(format!("`{pattern}` in `{key}` is not a regular expression"))
            .advice(format!("{reason}; in TOML, 'single quotes' keep backslashes as they are")))
    }

    fn data(&self) -> Result<(), Complaint> {
        let data = &self.file.data;
        if data.validation_split.is_some() && !data.eval.is_empty() {
            return Err(self
                .conflict("data.validation_split")
                .message("`data.validation_split` and [[data.eval]] both say what to evaluate on")
                .advice("keep one of them"));
        }
        if data.group_by_length && data.packing {
            return Err(self
                .conflict("data.group_by_length")
                .message("`data.group_by_length` is for rows that are not packed")
                .advice("add packing = false, or remove group_by_length: packing leaves less padding"));
        }
        for (index, source) in data.train.iter().enumerate() {
            let weight = format!("data.train.{index}.weight");
            if source.rows.is_some() && self.document.get(&weight).is_some() {
                return Err(self
                    .conflict(&weight)
                    .message("`weight` and `rows` both say how much of the source an epoch visits")
                    .advice("keep one of them"));
            }
        }
        self.date()
    }

    fn date(&self) -> Result<(), Complaint> {
        let Some(date) = &self.file.data.date else {
            return Ok(());
        };
        let shape = Regex::new("^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$");
        if shape.is_ok_and(|shape| shape.is_match(date)) {
            return Ok(());
        }
        Err(self
            .document
            .at_key(ComplaintKind::UnknownValue, "data.date")
            .message(format!("`{date}` is not a day"))
            .advice("write it as \"2025-01-31\""))
    }

    fn objective(&self) -> Result<(), Complaint> {
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
                | ObjectiveSection::Sft(_)
                | ObjectiveSection::Dpo(_)
                | ObjectiveSection::Orpo(_)
                | ObjectiveSection::Simpo(_)
                | ObjectiveSection::Kto(_),
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
            (_, Some(_)) if distill.on_policy > 0.0 => (
                "objective.on_policy",
                "a cache holds no distributions for answers that the student has yet to write",
                "remove cache and name the teacher, or remove on_policy",
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

    fn train(&self) -> Result<(), Complaint> {
        let train = &self.file.train;
        if train.epochs.is_some() && train.steps.is_some() {
            return Err(self
                .conflict("train.steps")
                .message("[train] has both `epochs` and `steps`")
                .advice("keep one of them: either ends the run"));
        }
        match train.micro_batch_size {
            Some(micro) if !train.batch_size.is_multiple_of(micro) => {
                let divisors: Vec<String> = (1..=train.batch_size.min(64))
                    .filter(|size| train.batch_size.is_multiple_of(*size))
                    .map(|size| size.to_string())
                    .collect();
                Err(self
                    .conflict("train.micro_batch_size")
                    .message(format!(
                        "`train.micro_batch_size` = {micro} does not divide `train.batch_size` = {}",
                        train.batch_size
                    ))
                    .advice(format!("use one of {}", divisors.join(", "))))
            }
            _ => Ok(()),
        }
    }

    fn optimizer(&self) -> Result<(), Complaint> {
        match &self.file.optimizer {
            Optimizer::Sgd(sgd) if sgd.nesterov && sgd.momentum == 0.0 => Err(self
                .conflict("optimizer.nesterov")
                .message("`optimizer.nesterov` looks ahead along the momentum, and there is none")
                .advice("set momentum, for example momentum = 0.9")),
            Optimizer::Adafactor(adafactor) => match (adafactor.learning_rate, &self.file.schedule) {
                (AdafactorRate::Fixed(_), _)
                | (_, ScheduleSection::Constant(WarmupKeys { warmup_steps: Some(0), warmup_ratio: None })) => Ok(()),
                (AdafactorRate::Relative(_), _) => Err(self
                    .conflict("optimizer.learning_rate")
                    .message("a relative `optimizer.learning_rate` is a schedule, and [schedule] says another one")
                    .advice("add [schedule] with kind = \"constant\" and warmup_steps = 0, or write a number")),
            },
            Optimizer::Adamw(_)
            | Optimizer::Adamw8bit(_)
            | Optimizer::Lion(_)
            | Optimizer::Muon(_)
            | Optimizer::Sgd(_) => Ok(()),
        }
    }

    fn schedule(&self) -> Result<(), Complaint> {
        let given = |key: &str| self.document.get(&format!("schedule.{key}")).is_some();
        if given("warmup_steps") && given("warmup_ratio") {
            return Err(self
                .conflict("schedule.warmup_ratio")
                .message("[schedule] has both `warmup_steps` and `warmup_ratio`")
                .advice("keep one of them"));
        }
        Ok(())
    }

    fn evaluation(&self) -> Result<(), Complaint> {
        let exports_best = self.file.export.weights == Some(ExportedWeights::Best);
        if exports_best && self.file.checkpoint.best == Some(BestKey::Off) {
            return Err(self
                .conflict("export.weights")
                .message("`export.weights` asks for the best checkpoint, and with `checkpoint.best` = \"off\" it does not stay")
                .advice("remove checkpoint.best, or write weights = \"last\""));
        }
        if self.file.data.has_eval() {
            return Ok(());
        }
        let help = "add eval data:\n[[data.eval]]\npath = \"data/eval.jsonl\"\nor set a part of the rows aside: \
                    validation_split = 0.05 in [data]";
        if self.file.eval.early_stopping.is_some() {
            return Err(self
                .conflict("eval.early_stopping")
                .message("`eval.early_stopping` watches the loss on eval data, and there is none")
                .advice(help));
        }
        if self.file.eval.at_start {
            return Err(self
                .conflict("eval.at_start")
                .message("`eval.at_start` evaluates on eval data, and there is none")
                .advice(help));
        }
        if exports_best {
            return Err(self
                .conflict("export.weights")
                .message("`export.weights` = \"best\" is decided by the loss on eval data, and there is none")
                .advice(help));
        }
        if self.file.checkpoint.best == Some(BestKey::EvalLoss) {
            return Err(self
                .conflict("checkpoint.best")
                .message("`checkpoint.best` ranks by the loss on eval data, and there is none")
                .advice(help));
        }
        Ok(())
    }

    fn sample(&self) -> Result<(), Complaint> {
        let blank = |prompt: &String| prompt.trim().is_empty();
        match &self.file.sample {
            Some(sample) if sample.prompts.iter().any(blank) => Err(self
                .document
                .at_key(ComplaintKind::OutOfRange, "sample.prompts")
                .message("a prompt in `sample.prompts` is empty")
                .advice("write the question, or remove the element")),
            _ => Ok(()),
        }
    }
}
