//! Names and values of other trainers, and what says the same here: for "unknown key" and for recipes in YAML or JSON.
//!
//! The names are those of transformers' and TRL's arguments, PEFT's configuration, Axolotl, LLaMA-Factory, mlx-lm and
//! Unsloth. A name that is also one of ours is not listed. Nothing here is read as a recipe: it only makes advice.

use super::document::{Node, Value};

/// What says the same here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Here {
    /// The same value under this key; `data.train` and `data.eval` are paths of data.
    Key(&'static str),
    /// This key with this value, when the value there is not `false`.
    Set(&'static str, &'static str),
    /// No single key: what to do.
    Words(&'static str),
}

use Here::{Key, Set, Words};

const BATCH: &str = "a step is batch_size rows, in portions of micro_batch_size: batch_size = (rows per device) x (accumulation) in [train]";
const DTYPE: &str = "write dtype = \"bf16\" at the top to compute in bf16, or dtype = \"auto\"; it is f32 when not given, and f16 is not computed in";
const STAGE: &str = "firebrand train runs a recipe, and the kind of training is [objective] kind; it may be left out";
const ALWAYS: &str = "leave it out: nothing here needs it";
const ONE_DEVICE: &str = "leave it out: a run uses one device";
const BETAS: &str = "write both in [optimizer]: betas = [0.9, 0.999]";

const NAMES: &[(&[&str], Here)] = &[
    (&["base_model", "model_name_or_path", "model_name", "model_id", "pretrained_model_name_or_path"], Key("model")),
    (&["output_dir", "adapter_path", "save_path", "save_dir"], Key("output")),
    (&["random_seed", "data_seed"], Key("seed")),
    (&["device_map"], Key("device")),
    (
        &["bf16", "fp16", "tf32", "bfloat16", "float16", "torch_dtype", "precision", "mixed_precision", "pure_bf16"],
        Words(DTYPE),
    ),
    (&["finetuning_type", "fine_tune_type", "peft_type", "train_type"], Key("adapter.kind")),
    (&["lora_r", "lora_rank", "lora_dim", "lora_n", "r"], Key("adapter.rank")),
    (&["lora_alpha"], Key("adapter.alpha")),
    (&["lora_dropout"], Key("adapter.dropout")),
    (&["lora_target_modules", "lora_target", "target_modules", "lora_targets"], Key("adapter.targets")),
    (&["lora_target_linear"], Set("adapter.targets", "\"all-linear\"")),
    (&["exclude_modules"], Key("adapter.exclude")),
    (&["lora_modules_to_save", "additional_target"], Key("adapter.modules_to_save")),
    (&["lora_bias"], Key("adapter.bias")),
    (&["use_rslora", "peft_use_rslora"], Key("adapter.rslora")),
    (&["use_dora", "peft_use_dora"], Set("adapter.kind", "\"dora\"")),
    (&["init_lora_weights", "peft_init_lora_weights"], Key("adapter.init")),
    (&["lora_model_dir", "adapter_name_or_path"], Key("adapter.init_from")),
    (&["layers_to_transform"], Key("adapter.layers")),
    (
        &["lora", "peft", "peft_config", "lora_config", "lora_parameters", "qlora"],
        Words("write the section [adapter] with kind = \"lora\""),
    ),
    (&["load_in_4bit", "bnb_4bit", "use_4bit"], Set("quantization.kind", "\"nf4\"")),
    (&["load_in_8bit", "use_8bit"], Set("quantization.kind", "\"int8\"")),
    (&["quantization_bit"], Words("write [quantization] with kind = \"nf4\" (4 bits) or kind = \"int8\" (8 bits)")),
    (&["bnb_4bit_quant_type"], Key("quantization.kind")),
    (&["bnb_4bit_use_double_quant", "double_quantization"], Key("quantization.double")),
    (&["bnb_4bit_compute_dtype"], Words("leave it out: what is computed in is `dtype` at the top")),
    (
        &[
            "datasets",
            "dataset",
            "dataset_name",
            "dataset_path",
            "data_path",
            "train_file",
            "train_files",
            "train_data",
            "train_dataset",
        ],
        Key("data.train"),
    ),
    (&["test_datasets", "eval_dataset", "eval_file", "validation_file", "valid_file", "eval_data"], Key("data.eval")),
    (&["val_set_size", "val_size", "test_size", "eval_ratio"], Key("data.validation_split")),
    (
        &[
            "cutoff_len",
            "sequence_len",
            "seq_len",
            "seq_length",
            "sequence_length",
            "max_seq_length",
            "max_seq_len",
            "model_max_length",
            "block_size",
            "context_length",
        ],
        Key("data.max_length"),
    ),
    (&["sample_packing", "neat_packing"], Key("data.packing")),
    (&["chat_template", "prompt_template"], Key("data.template")),
    (&["train_on_inputs", "train_on_input", "train_on_prompt"], Set("data.train_on", "\"all\"")),
    (&["assistant_only_loss", "train_on_responses_only"], Set("data.train_on", "\"assistant\"")),
    (&["completion_only_loss", "mask_prompt"], Set("data.train_on", "\"completion\"")),
    (&["mask_history"], Set("data.train_on", "\"last\"")),
    (&["shuffle_dataset", "shuffle_merged_datasets"], Key("data.shuffle")),
    (&["max_samples", "max_train_samples"], Words("write rows = N in [[data.train]]")),
    (&["dataset_text_field"], Words("name it in [[data.train]]: format = \"text\" and columns = { text = \"NAME\" }")),
    (&["num_epochs", "num_train_epochs", "n_epochs", "max_epochs", "nepochs"], Key("train.epochs")),
    (&["max_steps", "iters", "num_steps", "total_steps", "max_iters", "num_train_steps"], Key("train.steps")),
    (
        &[
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "train_micro_batch_size_per_gpu",
            "device_batch_size",
        ],
        Key("train.micro_batch_size"),
    ),
    (&["global_batch_size", "train_batch_size", "effective_batch_size", "total_batch_size"], Key("train.batch_size")),
    (
        &[
            "gradient_accumulation_steps",
            "gradient_accumulation",
            "grad_accumulation_steps",
            "grad_accum_steps",
            "accumulate_grad_batches",
        ],
        Words(BATCH),
    ),
    (
        &["gradient_checkpointing", "use_gradient_checkpointing", "activation_checkpointing", "grad_checkpoint"],
        Set("train.recompute", "\"blocks\""),
    ),
    (
        &["max_norm", "grad_clip", "gradient_clipping", "clip_grad_norm", "gradient_clip_val"],
        Key("train.max_grad_norm"),
    ),
    (&["ema_decay", "model_ema_decay", "ema_beta"], Key("train.ema")),
    (&["use_ema", "model_ema"], Set("train.ema", "0.999")),
    (&["lr", "peak_lr"], Key("optimizer.learning_rate")),
    (&["optim", "optimizer_type", "optimizer_name"], Key("optimizer.kind")),
    (&["adam_beta1", "adam_beta2", "beta1", "beta2"], Words(BETAS)),
    (&["adam_epsilon", "epsilon"], Key("optimizer.eps")),
    (&["adam_weight_decay", "wd"], Key("optimizer.weight_decay")),
    (&["layerwise_lr_decay", "layer_wise_lr_decay", "llrd", "lr_layer_decay"], Key("optimizer.layer_decay")),
    (
        &[
            "freeze_layers",
            "frozen_layers",
            "freeze_modules",
            "freeze_parameters",
            "freeze_trainable_layers",
            "unfrozen_parameters",
        ],
        Words(
            "write freeze = [\"..\"] in [train]: patterns that are found in the names of weights to leave as they are",
        ),
    ),
    (
        &["freeze_vision_tower", "freeze_embeddings"],
        Words("write freeze = [\"..\"] in [train], with a part of the names"),
    ),
    (&["loraplus_lr_ratio"], Key("adapter.loraplus_lr_ratio")),
    (&["lr_scheduler_type", "lr_scheduler", "scheduler", "lr_schedule", "lr_decay_style"], Key("schedule.kind")),
    (&["warmup", "num_warmup_steps", "lr_warmup_steps", "warmup_iters"], Key("schedule.warmup_steps")),
    (&["warmup_proportion", "warmup_fraction"], Key("schedule.warmup_ratio")),
    (&["cosine_min_lr_ratio", "min_lr_ratio", "min_lr_rate"], Key("schedule.min_ratio")),
    (&["num_cycles", "lr_scheduler_num_cycles", "cosine_restarts"], Key("schedule.cycles")),
    (&["num_decay_steps", "lr_decay_steps", "cooldown_steps"], Key("schedule.decay_steps")),
    (&["cooldown_fraction", "decay_fraction", "lr_decay_ratio"], Key("schedule.decay_ratio")),
    (&["lr_decay_type", "cooldown_type", "lr_wsd_decay_style"], Key("schedule.decay_type")),
    (&["lr_power", "lr_scheduler_power"], Key("schedule.power")),
    (
        &["lr_scheduler_kwargs", "lr_scheduler_args"],
        Words("write its entries as keys of [schedule]: cycles, power, lr_end, timescale, decay_steps, min_ratio"),
    ),
    (&["eval_steps", "eval_interval", "steps_per_eval", "eval_every", "val_check_interval"], Key("eval.every")),
    (
        &["evals_per_epoch", "saves_per_epoch", "eval_strategy", "evaluation_strategy", "save_strategy"],
        Words("write every = N, in optimiser steps, in [eval] and [checkpoint]"),
    ),
    (&["per_device_eval_batch_size", "eval_batch_size"], Key("eval.batch_size")),
    (&["early_stopping_patience"], Words("write early_stopping = { patience = N } in [eval]")),
    (&["save_steps", "save_every", "save_interval", "checkpoint_every"], Key("checkpoint.every")),
    (&["save_total_limit", "max_checkpoints"], Key("checkpoint.keep")),
    (&["load_best_model_at_end", "metric_for_best_model"], Set("checkpoint.best", "\"eval/loss\"")),
    (
        &["resume_from_checkpoint", "auto_resume_from_checkpoints"],
        Words("it is an argument: firebrand train RECIPE --resume"),
    ),
    (&["logging_steps", "log_every", "log_interval", "steps_per_report", "log_every_n_steps"], Key("log.every")),
    (&["report_to", "logging_dir", "use_tensorboard"], Set("log.tensorboard", "true")),
    (&["router_aux_loss_coef"], Key("objective.router_aux_loss")),
    (&["neftune_noise_alpha", "noisy_embedding_alpha"], Key("objective.neftune_alpha")),
    (&["label_smoothing_factor"], Key("objective.label_smoothing")),
    (&["z_loss_coef", "z_loss_coefficient", "z_loss_weight", "softmax_auxiliary_loss"], Key("objective.z_loss")),
    (&["center_rewards_coefficient"], Key("objective.center")),
    (&["problem_type"], Key("objective.problem")),
    (&["id2label", "label_names", "class_names"], Key("objective.labels")),
    (&["merge_lora", "save_merged"], Key("export.merge")),
    (&["stage", "rl", "do_train", "do_eval", "trainer", "task", "training_type"], Words(STAGE)),
    (
        &[
            "trust_remote_code",
            "overwrite_output_dir",
            "overwrite_cache",
            "preprocessing_num_workers",
            "dataloader_num_workers",
            "dataset_num_proc",
            "flash_attention",
            "flash_attn",
            "attn_implementation",
            "sdp_attention",
            "xformers_attention",
            "pad_to_sequence_len",
            "group_by_length_column",
            "remove_unused_columns",
            "ddp_timeout",
            "plot_loss",
            "use_fast_tokenizer",
            "tokenizer_type",
            "model_type",
            "is_llama_derived_model",
            "strict",
            "dataset_prepared_path",
            "eval_sample_packing",
            "low_cpu_mem_usage",
        ],
        Words(ALWAYS),
    ),
    (&["deepspeed", "fsdp", "fsdp_config", "world_size", "tensor_parallel"], Words(ONE_DEVICE)),
    (&["hub_token", "hf_token", "use_auth_token"], Words("set the environment variable HF_TOKEN")),
    (&["push_to_hub", "hub_model_id"], Words("leave it out: a finished run is uploaded with the hub's own tools")),
    (
        &[
            "wandb_project",
            "wandb_entity",
            "wandb_name",
            "wandb_run_id",
            "wandb_watch",
            "wandb_log_model",
            "mlflow_tracking_uri",
            "run_name",
        ],
        Words("leave it out: a run writes metrics.jsonl and TensorBoard's files ([log])"),
    ),
];

/// What says the same here as the key `name` of another trainer.
pub(super) fn here(name: &str) -> Option<Here> {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().find(|(names, _)| names.contains(&plain.as_str())).map(|(_, here)| *here)
}

/// What to write here in place of `name = value`, as lines of TOML or as words.
pub(super) fn instead(name: &str, value: &Node) -> Option<String> {
    Some(match here(name)? {
        Key(key) => format!("here it is written so:\n{}", lines(&translated(key, value))),
        Set(_, _) if matches!(value.value, Value::Boolean(false)) => "leave it out".into(),
        Set(key, text) => format!("here it is written so:\n{}", lines(&[(key.to_owned(), text.to_owned())])),
        Words(words) => words.to_owned(),
    })
}

/// Keys and values of a recipe that say the same as `value` under `key` of another trainer.
pub(super) fn translated(key: &str, value: &Node) -> Vec<(String, String)> {
    let text = value.to_toml().to_string();
    let word = match &value.value {
        Value::String(word) => word.as_str(),
        _ => "",
    };
    let path = |key: &str| vec![(format!("{key}.0.path"), text.clone())];
    let plain = vec![(key.to_owned(), value_here(key, word).map_or_else(|| text.clone(), str::to_owned))];
    match (key, word) {
        ("train.epochs" | "train.steps", _) => match value.value {
            Value::Float(number) => vec![(key.to_owned(), format!("{number:.0}"))],
            _ => plain,
        },
        ("data.train" | "data.eval", _) => match &value.value {
            Value::String(_) => path(key),
            _ => vec![(format!("{key}.0.path"), "\"FILE\"".to_owned())],
        },
        ("adapter.kind", "qlora") => {
            vec![("adapter.kind".into(), "\"lora\"".into()), ("quantization.kind".into(), "\"nf4\"".into())]
        }
        ("adapter.targets", names) if names.contains(',') => {
            let names: Vec<String> = names.split(',').map(|name| format!("\"{}\"", name.trim())).collect();
            vec![(key.into(), format!("[{}]", names.join(", ")))]
        }
        _ => plain,
    }
}

/// Words of other trainers for values of our keys, and ours in TOML.
const VALUES: &[(&str, &[&str], &str)] = &[
    ("adapter.targets", &["all", "all_linear", "linear", "all-linear-layers", "auto"], "\"all-linear\""),
    ("dtype", &["bfloat16", "bfloat", "torch.bfloat16"], "\"bf16\""),
    ("dtype", &["float32", "fp32", "float", "full", "no"], "\"f32\""),
    ("base_dtype", &["bfloat16", "bfloat", "torch.bfloat16"], "\"bf16\""),
    ("base_dtype", &["float16", "fp16", "half", "torch.float16"], "\"f16\""),
    ("base_dtype", &["float32", "fp32", "float"], "\"f32\""),
    ("export.dtype", &["bfloat16", "bfloat", "torch.bfloat16"], "\"bf16\""),
    ("export.dtype", &["float16", "fp16", "half", "torch.float16"], "\"f16\""),
    ("export.dtype", &["float32", "fp32", "float"], "\"f32\""),
    ("quantization.kind", &["4bit", "4-bit", "int4", "bnb", "bitsandbytes", "bnb_nf4"], "\"nf4\""),
    ("quantization.kind", &["8bit", "8-bit", "llm.int8"], "\"int8\""),
    (
        "optimizer.kind",
        &["adam", "adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "fused_adamw"],
        "\"adamw\"",
    ),
    (
        "optimizer.kind",
        &["adamw_8bit", "adamw8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adam8bit"],
        "\"adamw-8bit\"",
    ),
    ("optimizer.kind", &["lion_32bit", "lion_8bit", "paged_lion_8bit"], "\"lion\""),
    ("schedule.kind", &["constant_with_warmup", "none"], "\"constant\""),
    ("schedule.kind", &["cosine_with_min_lr", "cosine_decay"], "\"cosine-with-min-lr\""),
    (
        "schedule.kind",
        &["cosine_with_restarts", "cosine_with_hard_restarts", "cosine_with_hard_restarts_with_warmup"],
        "\"cosine-with-restarts\"",
    ),
    ("schedule.kind", &["polynomial_with_warmup", "polynomial_decay", "poly"], "\"polynomial\""),
    ("schedule.kind", &["inverse_sqrt", "inverse_square_root", "rsqrt", "noam"], "\"inverse-sqrt\""),
    (
        "schedule.kind",
        &["warmup_stable_decay", "wsd", "trapezoidal", "warmup_stable_decay_schedule"],
        "\"warmup-stable-decay\"",
    ),
    ("schedule.kind", &["linear_decay", "linear_with_warmup"], "\"linear\""),
    ("schedule.decay_type", &["sqrt", "1_sqrt", "minus_sqrt"], "\"1-sqrt\""),
    ("train.recompute", &["true", "unsloth", "full", "selective"], "\"blocks\""),
    ("data.train_on", &["inputs", "everything", "full"], "\"all\""),
    ("data.train_on", &["responses", "assistant_only", "outputs", "completions", "last_turn"], "\"assistant\""),
    ("checkpoint.best", &["eval_loss", "loss"], "\"eval/loss\""),
    ("data.train.format", &["chat_template", "chatml", "openai", "chat", "conversation", "dialogue"], "\"messages\""),
    ("data.train.format", &["share_gpt", "sharegpt_chat", "conversations", "vicuna"], "\"sharegpt\""),
    ("data.train.format", &["instruction", "instruct", "alpaca_chat", "alpaca:chat"], "\"alpaca\""),
    (
        "data.train.format",
        &["completion", "input_output", "prompt_completion", "instruction-response"],
        "\"prompt-completion\"",
    ),
    ("data.train.format", &["pretrain", "plain", "raw"], "\"text\""),
];

/// What `word` of another trainer is as a value of the key `key`, in TOML.
pub(super) fn value_here(key: &str, word: &str) -> Option<&'static str> {
    let key: Vec<&str> = key.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
    let key = key.join(".").replace("data.eval", "data.train");
    let plain = word.to_ascii_lowercase();
    VALUES.iter().find(|(name, words, _)| *name == key && words.contains(&plain.as_str())).map(|(.., ours)| *ours)
}

/// What to write in place of a word of another trainer that is no value of a key by itself.
pub(super) fn words_for(key: &str, word: &str) -> Option<&'static str> {
    match (key, word.to_ascii_lowercase().as_str()) {
        ("adapter.kind", "qlora") => {
            Some("QLoRA is kind = \"lora\" and a quantized base:\n[quantization]\nkind = \"nf4\"")
        }
        ("adapter.kind", "full" | "none" | "freeze") => Some("leave [adapter] out to train every weight"),
        ("adapter.kind", "rslora") => Some("write kind = \"lora\" and rslora = true"),
        ("dtype", "f16" | "fp16" | "float16" | "half" | "torch.float16") => Some(DTYPE),
        ("quantization.kind", "gptq" | "awq" | "hqq" | "eetq" | "aqlm") => {
            Some("take the model with its original weights: they are quantized while they are read")
        }
        _ => None,
    }
}

/// Where a value belongs whose form is not that of its key, such as `data = "x.jsonl"` or `[data.train]`.
pub(super) fn form(path: &str, node: &Node) -> Option<String> {
    let value = node.to_toml();
    let section = |name: &str, value: &str| {
        Some(format!("it is a list of sections, each in two brackets:\n[[{name}]]\npath = {value}"))
    };
    match (path, &node.value) {
        ("data" | "data.train", Value::String(_)) => section("data.train", &value.to_string()),
        (item, Value::String(_)) if is_item(item, "data.train") => section("data.train", &value.to_string()),
        (item, Value::String(_)) if is_item(item, "data.eval") => section("data.eval", &value.to_string()),
        ("data.eval" | "eval", Value::String(_)) => section("data.eval", &value.to_string()),
        ("data" | "data.train" | "data.eval" | "eval", Value::Array(items)) => {
            let name = if path.ends_with("eval") { "data.eval" } else { "data.train" };
            let sections: Vec<String> = items
                .iter()
                .filter(|item| matches!(item.value, Value::String(_)))
                .map(|item| format!("[[{name}]]\npath = {}", item.to_toml()))
                .collect();
            (!sections.is_empty()).then(|| format!("each source is a section of its own:\n{}", sections.join("\n")))
        }
        ("data.train" | "data.eval", Value::Table(entries)) => {
            let file = entries.iter().find(|entry| matches!(entry.key.as_str(), "path" | "file" | "data"));
            let file = file.map_or_else(|| "\"FILE\"".to_owned(), |entry| entry.node.to_toml().to_string());
            section(path, &file)
        }
        ("adapter" | "optimizer" | "schedule" | "objective" | "quantization", Value::String(word)) => {
            let key = format!("{path}.kind");
            match words_for(&key, word) {
                Some(words) => Some(format!("{path} is a section: [{path}]; {words}")),
                None => Some(lines(&translated(&key, node))),
            }
        }
        ("adapter", Value::Boolean(true)) => Some(lines(&[("adapter.kind".into(), "\"lora\"".into())])),
        ("model" | "output", Value::Table(_)) => {
            Some(format!("it is one key at the top, before the first [section]: {path} = \"...\""))
        }
        _ => None,
    }
}

/// Whether `path` is an element of the list at `list`.
fn is_item(path: &str, list: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(before, last)| before == list && last.parse::<usize>().is_ok())
}

/// Keys and values as lines of a recipe: the top first, then section by section.
pub(super) fn lines(keys: &[(String, String)]) -> String {
    let parts = |path: &str| {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        (section.to_owned(), key.to_owned())
    };
    let mut sections: Vec<String> = vec![String::new()];
    for (path, _) in keys {
        let section = parts(path).0;
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    let mut text = vec![];
    for section in sections {
        let inside: Vec<String> = keys
            .iter()
            .filter(|(path, _)| parts(path).0 == section)
            .map(|(path, value)| format!("{} = {value}", parts(path).1))
            .collect();
        match (section.as_str(), section.strip_suffix(".0")) {
            (_, _) if inside.is_empty() => continue,
            ("", _) => {}
            (_, Some(list)) => text.push(format!("[[{list}]]")),
            (name, None) => text.push(format!("[{name}]")),
        }
        text.extend(inside);
    }
    text.join("\n")
}
