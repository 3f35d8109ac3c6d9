//! Every key is read by something: who does, asserted to be complete and true.

use std::fs;
use std::path::Path;

use super::keys::{ONE_VALUE, every_leaf};

/// A key, a source file, and the expression there that reads it.
const CONSUMERS: &[(&str, &str, &str)] = &[
    ("model", "trainer/src/plan/opened.rs", "model_folder(&loaded.recipe.model)"),
    ("init", "trainer/src/plan/model.rs", "recipe.init"),
    ("output", "trainer/src/commands/train.rs", "recipe.output"),
    ("seed", "trainer/src/plan/model.rs", "recipe.seed"),
    ("device", "trainer/src/commands/train/info.rs", "recipe.device"),
    ("base_dtype", "trainer/src/plan/model.rs", "recipe.base_dtype"),
    ("vocabulary.add", "trainer/src/plan/vocabulary.rs", "recipe.add.clone()"),
    ("vocabulary.add_words", "trainer/src/plan/vocabulary.rs", "recipe.add_words.clone()"),
    ("vocabulary.init", "trainer/src/plan/vocabulary.rs", "recipe.init.text"),
    ("quantization.block", "trainer/src/recipe/quantization.rs", "block: recipe.block"),
    ("quantization.double", "trainer/src/recipe/quantization.rs", "double: recipe.double"),
    ("adapter.rank", "adapters/src/lora.rs", "self.rank"),
    ("adapter.alpha", "adapters/src/lora.rs", "self.alpha"),
    ("adapter.dropout", "adapters/src/lora.rs", "self.settings.dropout"),
    ("adapter.targets", "adapters/src/targets.rs", "pattern.compile(\"adapter.targets\")"),
    ("adapter.exclude", "adapters/src/targets.rs", "pattern.compile(\"adapter.exclude\")"),
    ("adapter.rslora", "adapters/src/lora.rs", "self.rslora"),
    ("adapter.rank_pattern", "adapters/src/lora.rs", "&self.rank_pattern"),
    ("adapter.alpha_pattern", "adapters/src/lora.rs", "&self.alpha_pattern"),
    ("adapter.loraplus_lr_ratio", "trainer/src/training/trainer.rs", "lora.loraplus_lr_ratio"),
    ("adapter.layers", "adapters/src/targets.rs", "self.indices"),
    ("adapter.layers_pattern", "adapters/src/targets.rs", "self.patterns"),
    ("adapter.loraplus_lr_embedding", "trainer/src/training/trainer.rs", "lora.loraplus_lr_embedding"),
    ("adapter.modules_to_save", "adapters/src/trained_base.rs", "self.modules"),
    ("adapter.bias", "adapters/src/trained_base.rs", "self.biases"),
    ("adapter.ensure_weight_tying", "models/src/adapter/trained_base.rs", "config.tying"),
    ("adapter.init", "adapters/src/lora.rs", "self.init"),
    ("adapter.feedforward", "adapters/src/ia3.rs", "self.feedforward"),
    ("adapter.init_from", "trainer/src/plan/model.rs", "recipe.method.init_from()"),
    ("data.max_length", "datasets/src/prepare.rs", "config.max_length"),
    ("data.packing", "datasets/src/dataset/epoch.rs", "config.packing"),
    ("data.train_on", "datasets/src/encoder.rs", "self.train_on"),
    ("data.template", "trainer/src/plan/text.rs", "recipe.data.template"),
    ("data.system", "datasets/src/encoder.rs", "self.system"),
    ("data.truncation", "datasets/src/encoder.rs", "self.truncation"),
    ("data.shuffle", "datasets/src/dataset/epoch.rs", "config.shuffle"),
    ("data.group_by_length", "datasets/src/dataset/epoch.rs", "config.group_by_length"),
    ("data.validation_split", "datasets/src/dataset.rs", "config.validation_split"),
    ("data.cache", "trainer/src/plan/data.rs", "recipe.data.cache"),
    ("data.date", "trainer/src/plan/text.rs", "recipe.data.date"),
    ("data.gate.allow_truncated", "datasets/src/gate/checks.rs", "config.allow_truncated"),
    ("data.gate.allow_empty", "datasets/src/gate/checks.rs", "config.allow_empty"),
    ("data.gate.allow_unended", "datasets/src/gate/checks.rs", "config.allow_unended"),
    ("data.gate.allow_media", "datasets/src/gate/checks.rs", "config.allow_media"),
    ("data.allow_outside", "datasets/src/prepare/request.rs", "config.allow_outside"),
    ("data.broken", "datasets/src/prepare/pipeline.rs", "config.broken"),
    ("data.empty", "datasets/src/prepare/pipeline.rs", "config.empty"),
    ("data.gate.allow_unlabelled", "datasets/src/gate/checks.rs", "config.allow_unlabelled"),
    ("data.gate.few_labels", "datasets/src/gate/checks.rs", "config.few_labels"),
    ("data.gate.allow_few_labels", "datasets/src/gate/checks.rs", "config.allow_few_labels"),
    ("data.gate.allow_duplicates", "datasets/src/gate/checks.rs", "config.allow_duplicates"),
    ("data.gate.allow_leaked", "datasets/src/gate/checks.rs", "config.allow_leaked"),
    ("data.gate.allow_control", "datasets/src/gate/checks.rs", "config.allow_control"),
    ("data.gate.allow_lossy", "datasets/src/gate/checks.rs", "config.allow_lossy"),
    ("data.gate.allow_odd_order", "datasets/src/gate/checks.rs", "config.allow_odd_order"),
    ("data.gate.allow_equal_pairs", "datasets/src/gate/checks.rs", "config.allow_equal_pairs"),
    ("data.gate.allow_broken", "datasets/src/gate/checks.rs", "config.allow_broken"),
    ("data.train.0.path", "datasets/src/prepare.rs", "source.path"),
    ("data.train.0.format", "datasets/src/prepare/pipeline.rs", "source.format"),
    ("data.train.0.where", "datasets/src/query/asked.rs", "source.keep"),
    ("data.train.0.sql", "datasets/src/query/asked.rs", "source.sql"),
    ("data.train.0.columns", "datasets/src/source/reader.rs", "source.columns"),
    ("data.train.0.text_rows", "datasets/src/source/reader.rs", "source.text_rows"),
    ("data.train.0.encoding", "datasets/src/source/reader.rs", "source.encoding"),
    ("data.train.0.delimiter", "datasets/src/source/reader.rs", "source.delimiter"),
    ("data.train.0.weight", "datasets/src/dataset.rs", "source.weight"),
    ("data.train.0.rows", "datasets/src/dataset.rs", "source.rows"),
    ("data.train.0.epochs", "datasets/src/dataset.rs", "source.epochs"),
    ("data.eval.0.path", "datasets/src/prepare.rs", "source.path"),
    ("data.eval.0.format", "datasets/src/prepare/pipeline.rs", "source.format"),
    ("data.eval.0.where", "datasets/src/query/asked.rs", "source.keep"),
    ("data.eval.0.sql", "datasets/src/query/asked.rs", "source.sql"),
    ("data.eval.0.columns", "datasets/src/source/reader.rs", "source.columns"),
    ("data.eval.0.text_rows", "datasets/src/source/reader.rs", "source.text_rows"),
    ("data.eval.0.encoding", "datasets/src/source/reader.rs", "source.encoding"),
    ("data.eval.0.delimiter", "datasets/src/source/reader.rs", "source.delimiter"),
    ("data.eval.0.weight", "datasets/src/prepare.rs", "source.weight"),
    ("train.epochs", "trainer/src/training/steps.rs", "Duration::Epochs"),
    ("train.steps", "trainer/src/training/steps.rs", "Duration::Steps"),
    ("train.batch_size", "trainer/src/training/steps.rs", "self.batch_size"),
    ("train.micro_batch_size", "trainer/src/training/trainer.rs", "recipe.train.micro_batch_size"),
    ("train.max_grad_norm", "trainer/src/training/trainer.rs", "recipe.train.max_grad_norm"),
    ("train.recompute", "trainer/src/plan/recompute.rs", "recipe.train.recompute"),
    ("objective.router_aux_loss", "trainer/src/objective/mod.rs", "sft.router_aux_loss"),
    ("objective.learn_temperature", "trainer/src/recipe/conflicts.rs", "contrastive.learn_temperature"),
    ("optimizer.learning_rate", "trainer/src/training/trainer.rs", "optimizer.learning_rate(index)"),
    ("optimizer.betas", "trainer/src/optim/adamw.rs", "self.betas"),
    ("optimizer.eps", "trainer/src/optim/adamw.rs", "self.eps"),
    ("optimizer.weight_decay", "trainer/src/optim/adamw.rs", "self.weight_decay"),
    ("optimizer.weight_decay", "trainer/src/optim/sgd.rs", "self.weight_decay"),
    ("optimizer.momentum", "trainer/src/optim/sgd.rs", "self.momentum"),
    ("optimizer.nesterov", "trainer/src/optim/sgd.rs", "self.nesterov"),
    ("optimizer.betas", "trainer/src/optim/adamw_8bit.rs", "self.betas"),
    ("optimizer.eps", "trainer/src/optim/adamw_8bit.rs", "self.eps"),
    ("optimizer.weight_decay", "trainer/src/optim/adamw_8bit.rs", "self.weight_decay"),
    ("optimizer.min_8bit_size", "trainer/src/optim/adamw_8bit.rs", "self.min_8bit_size"),
    ("optimizer.eps", "trainer/src/optim/adafactor.rs", "self.eps"),
    ("optimizer.clip_threshold", "trainer/src/optim/adafactor.rs", "self.clip_threshold"),
    ("optimizer.decay_rate", "trainer/src/optim/adafactor.rs", "self.decay_rate"),
    ("optimizer.beta1", "trainer/src/optim/adafactor.rs", "self.beta1"),
    ("optimizer.weight_decay", "trainer/src/optim/adafactor.rs", "self.weight_decay"),
    ("optimizer.scale_parameter", "trainer/src/optim/adafactor.rs", "self.scale_parameter"),
    ("optimizer.betas", "trainer/src/optim/lion.rs", "self.betas"),
    ("optimizer.weight_decay", "trainer/src/optim/lion.rs", "self.weight_decay"),
    ("optimizer.momentum", "trainer/src/optim/muon.rs", "self.momentum"),
    ("optimizer.nesterov", "trainer/src/optim/muon.rs", "self.nesterov"),
    ("optimizer.weight_decay", "trainer/src/optim/muon.rs", "self.weight_decay"),
    ("optimizer.ns_steps", "trainer/src/optim/muon.rs", "self.ns_steps"),
    ("optimizer.adjust_lr_fn", "trainer/src/optim/muon.rs", "self.adjust_lr_fn"),
    ("optimizer.adamw.learning_rate", "trainer/src/optim/update.rs", "muon.adamw.learning_rate"),
    ("optimizer.adamw.betas", "trainer/src/optim/adamw.rs", "self.betas"),
    ("optimizer.adamw.eps", "trainer/src/optim/adamw.rs", "self.eps"),
    ("optimizer.adamw.weight_decay", "trainer/src/optim/adamw.rs", "self.weight_decay"),
    ("schedule.warmup_steps", "trainer/src/training/trainer.rs", "schedule.warmup"),
    ("schedule.warmup_ratio", "trainer/src/training/trainer.rs", "schedule.warmup"),
    ("schedule.min_ratio", "trainer/src/optim/schedule.rs", "CosineWithMinLr { min_ratio }"),
    ("eval.every", "trainer/src/training/trainer.rs", "recipe.eval.every"),
    ("eval.batch_size", "trainer/src/training/trainer.rs", "recipe.eval.batch_size"),
    ("eval.at_start", "trainer/src/training/trainer.rs", "recipe.eval.at_start"),
    ("eval.early_stopping.patience", "trainer/src/training/trainer.rs", "stopping.patience"),
    ("eval.early_stopping.min_delta", "trainer/src/training/trainer.rs", "stopping.min_delta"),
    ("checkpoint.every", "trainer/src/training/trainer.rs", "recipe.checkpoint.every"),
    ("checkpoint.keep", "trainer/src/training/trainer.rs", "recipe.checkpoint.keep"),
    ("checkpoint.best", "trainer/src/training/trainer.rs", "recipe.checkpoint.best"),
    ("log.every", "trainer/src/training/trainer.rs", "recipe.log.every"),
    ("log.tensorboard", "trainer/src/commands/train.rs", "recipe.log.tensorboard"),
    ("sample.prompts", "trainer/src/inference/samples.rs", "sample.prompts"),
    ("sample.max_new_tokens", "trainer/src/inference/samples.rs", "sample.max_new_tokens"),
    ("sample.every", "trainer/src/commands/train.rs", "sample.every"),
    ("export.weights", "trainer/src/training/trainer.rs", "recipe.export.weights"),
    ("export.merge", "trainer/src/export/finished.rs", "recipe.export.merge"),
    ("export.dtype", "trainer/src/export/finished.rs", "recipe.export.dtype"),
];

#[test]
fn every_key_has_a_consumer() {
    for leaf in every_leaf() {
        let key = leaf.key.as_str();
        let chosen_by_type = key.ends_with(".kind") || ONE_VALUE.contains(&key);
        let listed = CONSUMERS.iter().any(|(name, ..)| *name == key);
        assert!(listed != chosen_by_type, "{key}: say in CONSUMERS what reads it");
    }
    for (key, ..) in CONSUMERS {
        assert!(every_leaf().iter().any(|leaf| leaf.key == *key), "{key} is no key");
    }
}

#[test]
fn every_consumer_reads_its_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (key, file, expression) in CONSUMERS {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(text.contains(expression), "{file} no longer says `{expression}`: what reads {key} now?");
    }
}
