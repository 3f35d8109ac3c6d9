//! All mistakes at once, names of other trainers, values in the wrong form, and recipes in other languages.

use super::super::{ComplaintKind, Recipe, RecipeError};
use super::errors::refuses;
use super::{SHORTEST, folder, load, load_in, shown};

/// Messages of all that is wrong, in order.
fn wrong(text: &str) -> Vec<String> {
    let error = load(text, &[]).expect_err(text);
    error.complaints().iter().map(|complaint| complaint.message.clone()).collect()
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let text = "model = \"./gone\"\noutput = \"runs/a\"\nsede = 3\n[[data.train]]\npath = \"gone.jsonl\"\n[train]\nsteps = \"5\"\n[optimizer]\nlearning_rate = -1.0\n[log]\nevery = 0\n";
    let error = load(text, &[]).unwrap_err();
    assert!(matches!(error, RecipeError::Several { .. }));
    let shown = shown(&error);
    for part in [
        "6 things are wrong with the recipe",
        "recipe.toml:3:1",
        "did you mean `seed`?",
        "recipe.toml:7:9",
        "the string \"5\"",
        "`optimizer.learning_rate` is out of range",
        "`log.every` is out of range",
        "there is no model at ./gone",
        "there is no gone.jsonl",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
    }
}

#[test]
fn keys_that_do_not_go_together_are_all_named() {
    let text = format!(
        "base_dtype = \"bf16\"\n{SHORTEST}[train]\nepochs = 1\nsteps = 5\n[schedule]\nwarmup_steps = 1\nwarmup_ratio = 0.1\n"
    );
    let messages = wrong(&text).join("\n");
    for part in ["full fine-tuning freezes none", "has both `epochs` and `steps`", "has both `warmup_steps`"] {
        assert!(messages.contains(part), "{part}: {messages}");
    }
}

#[test]
fn a_mistake_makes_no_second_one() {
    // The adapter is there, only misspelt: nothing is said of a full run's quantization.
    assert_eq!(wrong(&format!("{SHORTEST}[adaptor]\nkind = \"lora\"\n[quantization]\nkind = \"nf4\"\n")).len(), 1);
    assert_eq!(wrong(&format!("{SHORTEST}[train]\nbatch_size = \"12\"\nmicro_batch_size = 6\n")).len(), 1);
    assert_eq!(wrong(&SHORTEST.replace("path", "pth")).len(), 1, "not also that `path` is missing");
    assert_eq!(wrong(&SHORTEST.replace("model", "base_model")).len(), 1);
    assert_eq!(wrong(&SHORTEST.replace("output", "ouput")).len(), 1);
}

#[test]
fn names_of_other_trainers_are_told_ours() {
    for (text, help) in [
        ("lora_r = 8", "[adapter]\nrank = 8"),
        ("lora_alpha = 16", "[adapter]\nalpha = 16"),
        ("lora_dropout = 0.05", "[adapter]\ndropout = 0.05"),
        ("lora_target_modules = [\"q_proj\"]", "[adapter]\ntargets = [\"q_proj\"]"),
        ("lora_target = \"q_proj,v_proj\"", "targets = [\"q_proj\", \"v_proj\"]"),
        ("lora_target = \"all\"", "targets = \"all-linear\""),
        ("lora_target_linear = true", "targets = \"all-linear\""),
        ("lr = 1e-4", "[optimizer]\nlearning_rate = 0.0001"),
        ("num_train_epochs = 3.0", "[train]\nepochs = 3"),
        ("num_epochs = 3", "[train]\nepochs = 3"),
        ("max_steps = 30", "[train]\nsteps = 30"),
        ("cutoff_len = 2048", "[data]\nmax_length = 2048"),
        ("sequence_len = 2048", "[data]\nmax_length = 2048"),
        ("max_seq_length = 2048", "[data]\nmax_length = 2048"),
        ("gradient_accumulation_steps = 4", "batch_size = (rows per device) x (accumulation) in [train]"),
        ("per_device_train_batch_size = 2", "[train]\nmicro_batch_size = 2"),
        ("lr_scheduler_type = \"cosine\"", "[schedule]\nkind = \"cosine\""),
        ("output_dir = \"out\"", "output = \"out\""),
        ("model_name_or_path = \"a/b\"", "model = \"a/b\""),
        ("base_model = \"a/b\"", "model = \"a/b\""),
        ("datasets = \"x.jsonl\"", "[[data.train]]\npath = \"x.jsonl\""),
        ("dataset = \"x.jsonl\"", "[[data.train]]\npath = \"x.jsonl\""),
        ("load_in_4bit = true", "[quantization]\nkind = \"nf4\""),
        ("load_in_4bit = false", "leave it out"),
        ("load_in_8bit = true", "[quantization]\nkind = \"int8\""),
        ("bf16 = true", "dtype = \"bf16\" at the top"),
        ("optim = \"adamw_torch\"", "[optimizer]\nkind = \"adamw\""),
        ("optim = \"paged_adamw_8bit\"", "[optimizer]\nkind = \"adamw-8bit\""),
        ("val_set_size = 0.05", "[data]\nvalidation_split = 0.05"),
        ("sample_packing = true", "[data]\npacking = true"),
        ("gradient_checkpointing = true", "[train]\nrecompute = \"blocks\""),
        ("save_total_limit = 3", "[checkpoint]\nkeep = 3"),
        ("logging_steps = 10", "[log]\nevery = 10"),
        ("use_dora = true", "kind = \"dora\""),
        ("flash_attention = true", "leave it out"),
        ("resume_from_checkpoint = true", "--resume"),
    ] {
        let error = load(&format!("{text}\n{SHORTEST}"), &[]).expect_err(text);
        let found = error.complaints().iter().any(|complaint| complaint.help.contains(help) && complaint.line() == 1);
        assert!(found, "{text}\n{}", shown(&error));
    }
    // In a section too, and keys of ours in the wrong place.
    let path = SHORTEST.replace("[[data.train]]", "[data]");
    refuses(&path, &[], ComplaintKind::UnknownKey, &["unknown key `path` in [data]", "belongs into [[data.train]]"]);
    let lora = format!("{SHORTEST}[adapter]\nkind = \"lora\"\nr = 8\n");
    refuses(&lora, &[], ComplaintKind::UnknownKey, &["unknown key `r` in [adapter]", "rank = 8"]);
    refuses(&format!("warmup_ratio = 0.1\n{SHORTEST}"), &[], ComplaintKind::UnknownKey, &["belongs into [schedule]"]);
    refuses(&format!("learning_rate = 0.1\n{SHORTEST}"), &[], ComplaintKind::UnknownKey, &["belongs into [optimizer]"]);
    refuses(&format!("micro_batch_size = 2\n{SHORTEST}"), &[], ComplaintKind::UnknownKey, &["belongs into [train]"]);
}

#[test]
fn values_of_other_trainers_are_told_ours() {
    for (text, help) in [
        ("[adapter]\nkind = \"qlora\"", "[quantization]"),
        ("[adapter]\nkind = \"full\"", "leave [adapter] out"),
        ("[optimizer]\nkind = \"adamw_torch\"", "is \"adamw\" here"),
        ("[schedule]\nkind = \"constant_with_warmup\"", "is \"constant\" here"),
        ("[quantization]\nkind = \"4bit\"", "is \"nf4\" here"),
        ("[train]\nrecompute = \"unsloth\"", "is \"blocks\" here"),
    ] {
        refuses(&format!("{SHORTEST}{text}\n"), &[], ComplaintKind::UnknownValue, &[help]);
    }
    for dtype in ["float16", "fp16"] {
        refuses(
            &format!("dtype = \"{dtype}\"\n{SHORTEST}"),
            &[],
            ComplaintKind::UnknownValue,
            &["dtype = \"bf16\" at the top", "f16 is not computed in"],
        );
    }
    refuses(&format!("dtype = \"bfloat16\"\n{SHORTEST}"), &[], ComplaintKind::UnknownValue, &["is \"bf16\" here"]);
    refuses(&format!("dtype = \"float32\"\n{SHORTEST}"), &[], ComplaintKind::UnknownValue, &["is \"f32\" here"]);
    refuses(&format!("base_dtype = \"bfloat16\"\n{SHORTEST}"), &[], ComplaintKind::UnknownValue, &["is \"bf16\" here"]);
    let format = SHORTEST.replace("path", "format = \"chat_template\"\npath");
    refuses(&format, &[], ComplaintKind::UnknownValue, &["is \"messages\" here"]);
}

#[test]
fn a_value_in_the_form_of_another_is_told_its_section() {
    const TOP: &str = "model = \"owner/name\"\noutput = \"runs/a\"\n";
    for (text, help) in [
        ("data = \"x.json\"", "[[data.train]]\npath = \"x.json\""),
        ("data = [\"x.json\", \"y.json\"]", "[[data.train]]\npath = \"x.json\"\n[[data.train]]\npath = \"y.json\""),
        ("data.train = \"x.json\"", "[[data.train]]\npath = \"x.json\""),
        ("data.train = [\"x.json\"]", "[[data.train]]\npath = \"x.json\""),
        ("[data]\ntrain = \"x.json\"", "[[data.train]]\npath = \"x.json\""),
        ("[data.train]\npath = \"x.json\"", "[[data.train]]\npath = \"x.json\""),
        ("[data]\neval = \"y.json\"\n[[data.train]]\npath = \"rows.jsonl\"", "[[data.eval]]\npath = \"y.json\""),
        ("adapter = \"lora\"\n[[data.train]]\npath = \"rows.jsonl\"", "[adapter]\nkind = \"lora\""),
        ("adapter = \"qlora\"\n[[data.train]]\npath = \"rows.jsonl\"", "[quantization]\nkind = \"nf4\""),
        ("optimizer = \"adamw_torch\"\n[[data.train]]\npath = \"rows.jsonl\"", "[optimizer]\nkind = \"adamw\""),
        ("schedule = \"linear\"\n[[data.train]]\npath = \"rows.jsonl\"", "[schedule]\nkind = \"linear\""),
    ] {
        let error = load(&format!("{TOP}{text}\n"), &[]).expect_err(text);
        let [complaint] = error.complaints() else { panic!("{text}\n{}", shown(&error)) };
        assert_eq!(complaint.kind, ComplaintKind::WrongType);
        assert!(complaint.help.contains(help), "{text}\n{}", complaint.help);
    }
}

const YAML: &str = "# a run\nbase_model: owner/name\noutput_dir: ./outputs/lora\nadapter: qlora\nlora_r: 8\nlora_target_linear: true\nsequence_len: 512\ndatasets:\n  - path: rows.jsonl\n    type: alpaca\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nnum_epochs: 3.0\nlearning_rate: 2e-4\noptimizer: adamw_torch\nlr_scheduler: cosine\nbf16: auto\nload_in_8bit: false\nwandb_project:\nodd_key: 3\n";

#[test]
fn a_recipe_in_yaml_is_recognised_and_its_keys_are_said() {
    let error = load(YAML, &[]).unwrap_err();
    let [complaint] = error.complaints() else { panic!("{}", shown(&error)) };
    assert!(complaint.message.contains("this is YAML, and a recipe is written in TOML"), "{complaint}");
    assert_eq!(complaint.line(), 1);
    for line in ["[adapter]\nkind = \"lora\"", "# bf16: ", "# not known: odd_key", "batch_size = 8", "epochs = 3"] {
        assert!(complaint.help.contains(line), "{line}: {}", complaint.help);
    }
    // What is said is a recipe.
    let recipe = complaint.help.split("known:\n\n").nth(1).unwrap();
    let loaded = load_in(folder().path(), recipe, &[]).map_err(|error| format!("{recipe}\n{}", shown(&error))).unwrap();
    let toml = Recipe::to_toml(&loaded.recipe).unwrap();
    for line in ["rank = 8", "max_length = 512", "kind = \"nf4\"", "micro_batch_size = 2", "rows.jsonl"] {
        assert!(toml.contains(line), "{line}: {toml}");
    }
}

#[test]
fn a_recipe_in_json_is_recognised_too() {
    let json = "{\n  \"model_name_or_path\": \"owner/name\", \"output_dir\": \"out\", \"lora_rank\": 4,\n  \"dataset\": \"rows.jsonl\", \"cutoff_len\": 64, \"fp16\": true}\n";
    let error = load(json, &[]).unwrap_err();
    let help = &error.complaints()[0].help;
    assert!(shown(&error).contains("this is JSON"), "{}", shown(&error));
    assert!(help.contains("rank = 4") && help.contains("[[data.train]]\npath = \"rows.jsonl\""), "{help}");
    // TOML with a slip stays TOML.
    let error = load(&SHORTEST.replace("\"owner/name\"", "owner/name"), &[]).unwrap_err();
    assert!(shown(&error).contains("not valid TOML"), "{}", shown(&error));
}
