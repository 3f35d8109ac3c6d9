//! One test per kind of mistake: the message names key and line, and the help says what to do.

use super::super::{ComplaintKind, Recipe};
use super::{SHORTEST, load, shown};

/// Loads, and asserts that a diagnostic of this kind is there and that what is shown has each of `parts`.
pub(super) fn refuses(text: &str, overrides: &[&str], kind: ComplaintKind, parts: &[&str]) {
    let error = load(text, overrides).expect_err(text);
    let shown = shown(&error);
    let kinds: Vec<ComplaintKind> = error.complaints().iter().map(|complaint| complaint.kind).collect();
    assert!(kinds.contains(&kind), "{kinds:?}\n{shown}");
    for part in parts {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
    assert!(error.complaints().iter().all(|complaint| !complaint.help.is_empty()), "no help in:\n{shown}");
}

/// [`SHORTEST`], then `text` from line 7 on.
fn with(text: &str) -> String {
    format!("{SHORTEST}\n{text}")
}

#[test]
fn broken_toml_shows_the_line() {
    refuses(
        "model = \"a/b\"\noutput = runs/a\n",
        &[],
        ComplaintKind::Syntax,
        &["not valid TOML", "recipe.toml:2:", "output = runs/a", "quotes"],
    );
}

#[test]
fn an_empty_recipe_and_a_repeated_key_are_refused() {
    refuses("", &[], ComplaintKind::MissingKey, &["the recipe needs the key `model`"]);
    refuses("", &[""], ComplaintKind::Syntax, &["`--set` needs a key and a value"]);
    refuses(&with("[train]\nsteps = 1\nsteps = 2"), &[], ComplaintKind::Syntax, &["duplicate key", "recipe.toml:9:1"]);
}

#[test]
fn a_misspelt_key_is_told_the_nearest_one() {
    refuses(
        &with("[train]\nbatch_szie = 8\n"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `batch_szie` in [train]", "recipe.toml:8:1", "batch_szie = 8", "did you mean `batch_size`?"],
    );
    refuses(
        &format!("sede = 1\n{SHORTEST}"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `sede` in the recipe", "recipe.toml:1:1", "did you mean `seed`?"],
    );
    refuses(
        &with("[adapter]\nkind = \"lora\"\nrnak = 8\n"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `rnak` in [adapter]", "recipe.toml:9:1", "did you mean `rank`?"],
    );
    refuses(
        &SHORTEST.replace("path", "pth"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `pth` in [data.train.0]", "recipe.toml:5:1", "did you mean `path`?"],
    );
}

#[test]
fn a_key_in_the_wrong_section_is_told_its_home() {
    refuses(
        &with("[train]\nlearning_rate = 1e-3\n"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `learning_rate` in [train]", "`learning_rate` belongs into [optimizer]"],
    );
    refuses(
        &with("[optimizer]\nmomentum = 0.9\n"),
        &[],
        ComplaintKind::UnknownKey,
        &["belongs into [optimizer] with kind = \"muon\" or \"sgd\""],
    );
}

#[test]
fn what_is_not_built_yet_is_refused() {
    refuses(
        &with("[quantization]\nkind = \"nf4\"\n"),
        &[],
        ComplaintKind::Conflict,
        &["full fine-tuning freezes none", "recipe.toml:7:2", "[adapter]"],
    );
    refuses(
        &with("[adapter]\nkind = \"lora\"\n[quantization]\nkind = \"nf4\"\nblock = 96\n"),
        &[],
        ComplaintKind::OutOfRange,
        &["is no power of two", "block = 96"],
    );
    refuses(
        &with("[adapter]\nkind = \"lora\"\n[quantization]\nkind = \"int8\"\n"),
        &["base_dtype=bf16"],
        ComplaintKind::Conflict,
        &["both say how frozen weights are held"],
    );
    refuses(
        &with("[export]\ndtype = \"nf4\"\n"),
        &[],
        ComplaintKind::Conflict,
        &["full fine-tuning merges nothing", "export.dtype"],
    );
    for (text, value, known) in [
        ("[adapter]\nkind = \"loha\"", "loha", "\"ia3\""),
        ("[objective]\nkind = \"grpo\"", "grpo", "supported are \"sft\", \"distill\""),
        ("[optimizer]\nkind = \"lamb\"", "lamb", "supported are \"adamw\", \"adamw-8bit\", \"adafactor\""),
        ("[schedule]\nkind = \"exponential\"", "exponential", "\"cosine-with-min-lr\""),
        ("[schedule]\nkind = \"wsd\"", "wsd", "is \"warmup-stable-decay\" here"),
    ] {
        let message = format!("unknown value \"{value}\"");
        refuses(&with(text), &[], ComplaintKind::UnknownValue, &[&message, "recipe.toml:8:", known]);
    }
    refuses(
        &format!("dtype = \"f64\"\n{SHORTEST}"),
        &[],
        ComplaintKind::UnknownValue,
        &["unknown value \"f64\" for `dtype`", "supported are \"f32\", \"bf16\", \"auto\""],
    );
}

#[test]
fn a_key_that_moved_is_told_where_it_went() {
    refuses(
        &with("[train]\nobjective = \"sft\"\n"),
        &[],
        ComplaintKind::UnknownKey,
        &["`train.objective` is now [objective] kind", "recipe.toml:8:1", "kind = \"sft\""],
    );
    let moved = "`train.router_aux_loss` is now router_aux_loss in [objective]";
    refuses(
        &with("[train]\nsteps = 3\nrouter_aux_loss = 0.01\n"),
        &[],
        ComplaintKind::UnknownKey,
        &[moved, "recipe.toml:9:1", "router_aux_loss = 0.02"],
    );
    refuses(SHORTEST, &["train.router_aux_loss=0.01"], ComplaintKind::UnknownKey, &[moved]);
}

#[test]
fn a_misspelt_word_is_told_the_nearest_one() {
    refuses(
        &with("[data]\ntrain_on = \"asistant\"\n").replace("[[data.train]]\npath = \"rows.jsonl\"\n", ""),
        &[],
        ComplaintKind::UnknownValue,
        &["unknown value \"asistant\" for `data.train_on`", "did you mean \"assistant\"?", "recipe.toml:6:12"],
    );
    refuses(
        &format!("device = \"gpu\"\n{SHORTEST}"),
        &[],
        ComplaintKind::UnknownValue,
        &["unknown device \"gpu\"", "recipe.toml:1:10", "cuda[:N]"],
    );
}

#[test]
fn missing_keys_are_named_with_an_example() {
    refuses(
        &SHORTEST.replace("model", "# model"),
        &[],
        ComplaintKind::MissingKey,
        &["the recipe needs the key `model`", "add model = "],
    );
    refuses(
        "model = \"a/b\"\noutput = \"runs/a\"\n",
        &[],
        ComplaintKind::MissingKey,
        &["needs [[data.train]]", "path = "],
    );
    refuses(
        "model = \"a/b\"\noutput = \"runs/a\"\n[data]\nmax_length = 8\n",
        &[],
        ComplaintKind::MissingKey,
        &["[data] needs [[data.train]]", "recipe.toml:3:2"],
    );
    refuses(
        &with("[adapter]\nrank = 8\n"),
        &[],
        ComplaintKind::MissingKey,
        &["[adapter] needs the key `kind`", "recipe.toml:7:2", "add kind = \"lora\""],
    );
}

#[test]
fn wrong_types_say_what_was_found_and_what_is_expected() {
    for (text, key, found, expected) in [
        ("[train]\nbatch_size = \"16\"", "train.batch_size", "the string \"16\"", "an integer of at least 1"),
        ("[train]\nbatch_size = 1.5", "train.batch_size", "the number 1.5", "an integer"),
        ("[train]\nmax_grad_norm = true", "train.max_grad_norm", "the boolean true", "a number above 0, or \"off\""),
        ("[log]\ntensorboard = 1", "log.tensorboard", "the integer 1", "true or false"),
        (
            "[optimizer]\nlearning_rate = true\nkind = \"adafactor\"",
            "optimizer.learning_rate",
            "the boolean true",
            "a number above 0, or one of \"relative\", \"relative-with-warmup\"",
        ),
        ("[optimizer]\nbetas = 0.9", "optimizer.betas", "the number 0.9", "a list of 2 numbers"),
        ("[eval]\nearly_stopping = 3", "eval.early_stopping", "the integer 3", "a section"),
    ] {
        let message = format!("`{key}` has the wrong type");
        let help = format!("`{key}` must be {expected}");
        refuses(&with(text), &[], ComplaintKind::WrongType, &[&message, "recipe.toml:8:", found, &help]);
    }
    refuses(
        &with("[adapter]\nkind = \"lora\"\ntargets = 3"),
        &[],
        ComplaintKind::WrongType,
        &["`adapter.targets` must be \"all-linear\", or a list of strings, or a table { regex = ... }"],
    );
    refuses(
        &with("optimizer = 3").replace("\n\noptimizer", "\noptimizer"),
        &[],
        ComplaintKind::UnknownKey,
        &["unknown key `optimizer` in [data.train.0]", "the top of the recipe"],
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    let lora = "[adapter]\nkind = \"lora\"\n";
    for (text, key) in [
        (format!("{lora}rank = 0"), "adapter.rank"),
        (format!("{lora}rank = -1"), "adapter.rank"),
        (format!("{lora}alpha = 0.0"), "adapter.alpha"),
        (format!("{lora}dropout = 1.0"), "adapter.dropout"),
        (format!("{lora}rank_pattern = {{ q_proj = 0 }}"), "adapter.rank_pattern.q_proj"),
        (format!("{lora}alpha_pattern = {{ q_proj = 0 }}"), "adapter.alpha_pattern.q_proj"),
        ("[optimizer]\n\nlearning_rate = -1e-3".into(), "optimizer.learning_rate"),
        ("[optimizer]\n\nlearning_rate = nan".into(), "optimizer.learning_rate"),
        ("[optimizer]\n\nlearning_rate = inf".into(), "optimizer.learning_rate"),
        ("[optimizer]\n\nbetas = [0.9, 1.0]".into(), "optimizer.betas.1"),
        (format!("{lora}loraplus_lr_ratio = 0.0"), "adapter.loraplus_lr_ratio"),
        (format!("{lora}loraplus_lr_embedding = 0.0"), "adapter.loraplus_lr_embedding"),
        ("[optimizer]\nkind = \"adamw-8bit\"\nmin_8bit_size = 0".into(), "optimizer.min_8bit_size"),
        ("[optimizer]\nkind = \"adafactor\"\ndecay_rate = 0.8".into(), "optimizer.decay_rate"),
        ("[optimizer]\nkind = \"adafactor\"\nbeta1 = 1.0".into(), "optimizer.beta1"),
        ("[optimizer]\nkind = \"lion\"\nbetas = [1.0, 0.9]".into(), "optimizer.betas.0"),
        ("[optimizer]\nkind = \"muon\"\nns_steps = 0".into(), "optimizer.ns_steps"),
        ("[optimizer]\nkind = \"muon\"\nadamw.eps = 0.0".into(), "optimizer.adamw.eps"),
        ("[train]\n\nmax_grad_norm = 0.0".into(), "train.max_grad_norm"),
        ("[train]\n\nsteps = 0".into(), "train.steps"),
        ("[train]\n\nema = 1.0".into(), "train.ema"),
        ("[optimizer]\n\nlayer_decay = 0.0".into(), "optimizer.layer_decay"),
        ("[optimizer]\n\nlayer_decay = 1.5".into(), "optimizer.layer_decay"),
        ("[eval]\n\nevery = 0".into(), "eval.every"),
        ("[schedule]\n\nwarmup_ratio = 1.5".into(), "schedule.warmup_ratio"),
        ("[schedule]\nkind = \"cosine-with-restarts\"\ncycles = 0".into(), "schedule.cycles"),
        ("[schedule]\nkind = \"polynomial\"\npower = 0.0".into(), "schedule.power"),
        ("[schedule]\nkind = \"polynomial\"\nlr_end = -1e-7".into(), "schedule.lr_end"),
        ("[schedule]\nkind = \"inverse-sqrt\"\ntimescale = 0".into(), "schedule.timescale"),
        ("[schedule]\nkind = \"warmup-stable-decay\"\ndecay_ratio = 0.0".into(), "schedule.decay_ratio"),
        ("[schedule]\nkind = \"warmup-stable-decay\"\ndecay_steps = 0".into(), "schedule.decay_steps"),
        ("[schedule]\nkind = \"warmup-stable-decay\"\nmin_ratio = 1.5".into(), "schedule.min_ratio"),
        ("[data.gate]\n\nallow_truncated = 2.0".into(), "data.gate.allow_truncated"),
    ] {
        let message = format!("`{key}` is out of range");
        refuses(&with(&text), &[], ComplaintKind::OutOfRange, &[&message, "recipe.toml:9:"]);
    }
    refuses(
        &with("[optimizer]\nbetas = [0.9]"),
        &[],
        ComplaintKind::OutOfRange,
        &["`optimizer.betas` has 1 elements where it needs 2"],
    );
    refuses(
        &format!("seed = 99999999999999999999\n{SHORTEST}"),
        &[],
        ComplaintKind::OutOfRange,
        &["too large", "recipe.toml:1:8"],
    );
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    let cases = [
        ("[train]\nepochs = 1\nsteps = 5", "has both `epochs` and `steps`", "recipe.toml:9:", "keep one"),
        ("[train]\nbatch_size = 6\nmicro_batch_size = 4", "does not divide", "recipe.toml:9:", "use one of 1, 2, 3, 6"),
        ("[schedule]\nwarmup_steps = 1\nwarmup_ratio = 0.1", "has both `warmup_steps`", "recipe.toml:9:", "keep one"),
        (
            "[schedule]\nkind = \"warmup-stable-decay\"\ndecay_ratio = 0.6\nwarmup_ratio = 0.5",
            "are more than the whole run",
            "recipe.toml:9:",
            "their sum",
        ),
        (
            "[schedule]\nkind = \"warmup-stable-decay\"\ndecay_ratio = 0.6\ndecay_steps = 5",
            "has both `decay_steps`",
            "recipe.toml:9:",
            "keep one",
        ),
        (
            "[schedule]\nkind = \"polynomial\"\nlr_end = 2e-4",
            "not below the highest rate",
            "recipe.toml:9:",
            "a lower lr_end",
        ),
        (
            "[log]\n\nnoise_scale = true\n[train]\nbatch_size = 3",
            "a step of 3 rows is one",
            "recipe.toml:9:",
            "micro_batch_size",
        ),
        ("[export]\n\nweights = \"ema\"", "asks for the moving average", "recipe.toml:9:", "ema = 0.999"),
        (
            "[train]\nepochs = 1\nfreeze = [\"a\"]\n[adapter]\nkind = \"lora\"",
            "trains none of",
            "recipe.toml:9:",
            "remove",
        ),
        ("[optimizer]\nkind = \"sgd\"\nnesterov = true", "there is none", "recipe.toml:9:", "set momentum"),
        (
            "[optimizer]\nkind = \"adafactor\"\nlearning_rate = \"relative\"",
            "is a schedule",
            "recipe.toml:9:",
            "warmup_steps = 0",
        ),
        (
            "[eval]\n\nearly_stopping = { patience = 2 }",
            "`eval.early_stopping` watches",
            "recipe.toml:9:",
            "[[data.eval]]",
        ),
        ("[checkpoint]\n\nbest = \"eval/loss\"", "`checkpoint.best` ranks", "recipe.toml:9:", "[[data.eval]]"),
        (
            "[objective]\nkind = \"contrastive\"\nlearn_temperature = true\n[adapter]\nkind = \"lora\"",
            "a PEFT adapter cannot hold it",
            "recipe.toml:9:",
            "remove [adapter]",
        ),
        (
            "[adapter]\nkind = \"lora\"\nensure_weight_tying = true",
            "modules_to_save has none",
            "recipe.toml:9:",
            "[\"embed_tokens\"]",
        ),
    ];
    for (text, message, line, help) in cases {
        refuses(&with(text), &[], ComplaintKind::Conflict, &[message, line, help]);
    }
    refuses(
        &format!("init = \"random\"\n{SHORTEST}[adapter]\nkind = \"lora\"\n"),
        &[],
        ComplaintKind::Conflict,
        &["an adapter on random weights", "recipe.toml:1:8", "remove [adapter]"],
    );
    refuses(
        &format!("base_dtype = \"bf16\"\n{SHORTEST}"),
        &[],
        ComplaintKind::Conflict,
        &["full fine-tuning freezes none", "recipe.toml:1:14", "add [adapter]"],
    );
}

#[test]
fn texts_with_a_grammar_are_checked() {
    let lora = |text: &str| with(&format!("[adapter]\nkind = \"lora\"\n{text}"));
    refuses(
        &lora("targets = { regex = '(' }"),
        &[],
        ComplaintKind::UnknownValue,
        &["`(` in `adapter.targets.regex` is not a regular expression", "recipe.toml:9:"],
    );
    refuses(
        &lora("rank_pattern = { '(' = 4 }"),
        &[],
        ComplaintKind::UnknownValue,
        &["`adapter.rank_pattern` is not a regular expression"],
    );
    refuses(&lora("targets = []"), &[], ComplaintKind::OutOfRange, &["names no layer", "all-linear"]);
    refuses(SHORTEST, &["data.date=tomorrow"], ComplaintKind::UnknownValue, &["`tomorrow` is not a day", "2025-01-31"]);
    refuses(
        &with("[sample]\nprompts = [\" \"]"),
        &[],
        ComplaintKind::OutOfRange,
        &["a prompt in `sample.prompts` is empty", "recipe.toml:8:"],
    );
}

#[test]
fn a_missing_recipe_is_named() {
    let error = Recipe::load("no/such/recipe.toml".as_ref(), &[]).unwrap_err();
    let shown = shown(&error);
    assert!(shown.contains("no/such/recipe.toml") && shown.contains("check the path"), "{shown}");
}

#[test]
fn later_checks_point_at_the_line_too() {
    let folder = super::folder();
    let loaded = super::load_in(folder.path(), &with("[adapter]\nkind = \"lora\"\nrank = 4"), &[]).unwrap();
    let error = loaded.complain("adapter.rank", "the folder's rank is 8", "set rank = 8");
    assert!(shown(&error).contains("recipe.toml:9:8"), "{}", shown(&error));
    let error = loaded.complain("adapter.targets", "no layer fits", "look at the names");
    assert!(shown(&error).contains("recipe.toml:7:2"), "{}", shown(&error));
}
