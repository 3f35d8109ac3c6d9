//! `config.json` of every family, changed: what is wrong or not supported is refused by the name of its key.

use burn::tensor::Device;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::{Hold, Model};
use firebrand_tests::golden;
use serde_json::{Map, Value, json};

fn refusal(config: Map<String, Value>) -> Option<String> {
    let config = HfConfig::from_map("config.json", config);
    Family::of(&config).and_then(|family| family.config(&config)).err().map(|error| error.to_string())
}

fn map(case: &str) -> Map<String, Value> {
    golden::json(&format!("{case}/config.json")).as_object().unwrap().clone()
}

fn refused(case: &str, key: &str, value: &Value) {
    let mut config = map(case);
    config.insert(key.into(), value.clone());
    let message = refusal(config).unwrap_or_else(|| panic!("{case}: {key} = {value} is accepted"));
    assert!(message.contains(&format!("`{key}")), "{case}: {key} = {value}: {message}");
}

#[test]
fn every_golden_is_accepted() {
    golden::each_model(|case| assert_eq!(refusal(map(case)), None, "{case}"));
}

#[test]
fn sizes_that_are_none_are_refused_in_every_family() {
    let sizes = [
        "vocab_size",
        "hidden_size",
        "n_embd",
        "d_model",
        "num_hidden_layers",
        "n_layer",
        "num_layers",
        "n_layers",
        "num_attention_heads",
        "n_head",
        "num_heads",
        "n_heads",
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
    ];
    golden::each_model(|case| {
        let config = map(case);
        let present: Vec<&str> = sizes.into_iter().filter(|key| config.contains_key(*key)).collect();
        assert!(present.len() >= 4, "{case}: {present:?}");
        for key in present {
            // BLOOM has no table of positions, and no key for one.
            for value in [json!(0), json!(-3), json!(1.5), json!("8"), json!([8]), json!(1_u64 << 40)] {
                refused(case, key, &value);
            }
        }
    });
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    for (case, key, value) in [
        ("llama-gqa-tied", "num_key_value_heads", 5),
        ("mistral-window", "num_key_value_heads", 3),
        ("falcon-40b", "num_kv_heads", 3),
        ("gpt-neox", "num_attention_heads", 3),
        ("gptj", "n_head", 3),
        ("gpt-neo", "num_heads", 3),
        ("opt", "num_attention_heads", 3),
        ("bloom", "n_head", 4),
        ("gpt2", "n_head", 3),
        ("mpt", "n_heads", 4),
    ] {
        refused(case, key, &json!(value));
    }
}

#[test]
fn unknown_activations_are_refused_in_every_family() {
    golden::each_model(|case| {
        let config = map(case);
        let keys = ["hidden_act", "hidden_activation", "activation_function", "activation"];
        // BLOOM and MPT have theirs built in.
        for key in keys.into_iter().filter(|key| config.contains_key(*key)) {
            refused(case, key, &json!("gelu_9"));
        }
    });
}

#[test]
fn unknown_ropes_are_refused_in_every_family_that_has_one() {
    for case in
        ["mistral-window", "mixtral", "gemma", "gemma2", "falcon-7b", "qwen2", "qwen3", "olmo2", "phi3", "smollm3"]
    {
        let mut config = map(case);
        config.remove("rope_scaling");
        config.insert("rope_parameters".into(), json!({ "rope_type": "spiral", "rope_theta": 10000.0 }));
        let message = refusal(config).unwrap_or_else(|| panic!("{case}: accepted"));
        assert!(message.contains("`rope_parameters.rope_type`") && message.contains("spiral"), "{case}: {message}");
    }
}

#[test]
fn what_would_change_the_arithmetic_unheard_is_refused() {
    for (case, key, value) in [
        ("mixtral", "router_jitter_noise", json!(0.1)),
        ("mixtral", "num_experts_per_tok", json!(5)),
        ("gemma", "use_bidirectional_attention", json!(true)),
        ("gemma3", "attn_logit_softcapping", json!(30.0)),
        ("gemma2", "layer_types", json!(["sliding_attention", "chunked_attention"])),
        ("gemma2", "layer_types", json!(["sliding_attention"])),
        ("falcon-40b", "num_ln_in_parallel_attn", json!(3)),
        ("falcon-40b", "parallel_attn", json!(false)),
        ("gptj", "rotary_dim", json!(3)),
        ("gptj", "rotary_dim", json!(64)),
        ("gpt-neo", "attention_types", json!([[["global", "near"], 1]])),
        ("gpt-neo", "attention_types", json!([[["global"], 3]])),
        ("opt", "_remove_final_layer_norm", json!(true)),
        ("bloom", "apply_residual_connection_post_layernorm", json!(true)),
        ("gpt2", "add_cross_attention", json!(true)),
        ("mpt", "no_bias", json!(false)),
        ("mpt", "expansion_ratio", json!(2)),
        ("mpt", "logit_scale", json!("inv_sqrt_d_model")),
        ("mpt", "attn_config", json!({ "alibi": false })),
        ("mpt", "attn_config", json!({ "alibi_bias_max": 16 })),
        ("mpt", "attn_config", json!({ "qk_ln": true })),
        ("smollm3", "no_rope_layers", json!([1])),
        ("llama-gqa-tied", "partial_rotary_factor", json!(0.4)),
        ("llama-gqa-tied", "quantization_config", json!({ "quant_method": "gptq" })),
    ] {
        refused(case, key, &value);
    }
}

/// Row 41: of every key of every golden's file.
#[test]
fn an_absent_key_is_what_transformers_takes_for_it() {
    let answers = golden::json("config_defaults.json");
    let network = |config: Map<String, Value>| {
        let config = HfConfig::from_map("config.json", config);
        Family::of(&config).and_then(|family| family.config(&config))
    };
    // Without the width of a head they cannot be told from shapes, so an absent one is refused.
    let heads = ["num_attention_heads", "n_head", "num_heads", "n_heads"];
    let mut compared = 0;
    for (case, keys) in answers.as_object().unwrap() {
        for (key, changed) in keys.as_object().unwrap() {
            let mut without = map(case);
            without.remove(key).unwrap();
            let ours = network(without.clone());
            if let (true, Err(refused)) = (heads.contains(&key.as_str()), &ours) {
                assert!(refused.to_string().contains(&format!("`{key}`")), "{case}: {key}");
                continue;
            }
            // The reference refuses the file.
            let Some(changed) = changed.as_object() else { continue };
            let mut said = without;
            if changed.contains_key("rope_parameters") {
                // All that the older keys say stands in the object too.
                for older in ["rope_scaling", "rope_theta", "rope_local_base_freq", "rotary_pct", "rotary_emb_base"] {
                    said.remove(older);
                }
            }
            let padding = changed.get("pad_token_id").and_then(Value::as_u64);
            if padding.is_some_and(|id| said["vocab_size"].as_u64().is_some_and(|rows| rows <= id)) {
                // A row that the tiny table does not have: the reference fails later.
                continue;
            }
            said.extend(changed.clone());
            match (ours, network(said)) {
                (Ok(ours), Ok(said)) => assert_eq!(ours, said, "{case} without {key}"),
                // As many as there are heads, where the reference's number does not divide them.
                (Ok(_), Err(_)) if key == "num_key_value_heads" => {}
                // The rope's own object states another value, which the reference overrides without a word.
                (Err(refused), Ok(_)) if key == "original_max_position_embeddings" => {
                    assert!(refused.to_string().contains(key.as_str()), "{case}: {refused}");
                }
                // The reference's list is for 24 layers, and goes on here as it begins.
                (Ok(_), Err(_)) if key == "attention_types" => {}
                (Err(_), Err(_)) => {}
                (ours, said) => panic!("{case} without {key}: {ours:?}, with {changed:?}: {said:?}"),
            }
            compared += 1;
        }
    }
    assert!(compared > 500, "{compared}");
}

/// Row 41: what no file states is told, and sizes that the weights do not have are refused by their key.
#[test]
fn what_no_file_states_is_told_and_must_fit_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden::path("llama-gqa-tied").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let load = |absent: &[&str], more: Value| {
        let mut config = map("llama-gqa-tied");
        config.extend(more.as_object().unwrap().clone());
        absent.iter().for_each(|key| drop(config.remove(*key).unwrap()));
        std::fs::write(folder.path().join("config.json"), Value::Object(config).to_string()).unwrap();
        Model::load(folder.path(), Hold::F32, &Device::flex())
    };
    assert!(load(&[], json!({})).unwrap().notes().is_empty());
    let notes = load(&["rms_norm_eps", "max_position_embeddings", "hidden_act"], json!({})).unwrap().notes().join("\n");
    for says in [
        "transformers' values for llama",
        "rms_norm_eps = 0.000001",
        "max_position_embeddings = 2048",
        "hidden_act = \"silu\"",
    ] {
        assert!(notes.contains(&says.replace("0.000001", "1e-6")), "{notes}");
    }
    let refused = load(&["hidden_size"], json!({"hiden_size": 30})).unwrap_err().to_string();
    for says in ["`hidden_size`", "nearest: `hiden_size`", "and 4096, which transformers takes then"] {
        assert!(refused.contains(says), "{refused}");
    }
    let fresh = Model::random(folder.path(), 1, &Device::flex()).unwrap_err().to_string();
    assert!(fresh.contains("`hidden_size`: expected a size, found nothing"), "{fresh}");
}

/// Row 41: a quantization that the weights do not have.
#[test]
fn a_left_over_quantization_is_told_and_the_weights_decide() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden::path("llama-gqa-tied").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let load = |section: Value| {
        let mut config = map("llama-gqa-tied");
        config.insert("quantization_config".into(), section);
        std::fs::write(folder.path().join("config.json"), Value::Object(config).to_string()).unwrap();
        Model::load(folder.path(), Hold::F32, &Device::flex())
    };
    for section in [
        json!({"load_in_4bit": false, "load_in_8bit": false, "llm_int8_skip_modules": "null", "quant_method": "bitsandbytes"}),
        json!({"_load_in_4bit": false, "_load_in_8bit": false}),
        json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "quant_method": "bitsandbytes"}),
        json!({"load_in_8bit": true, "quant_method": "bitsandbytes"}),
    ] {
        let model = load(section.clone()).unwrap();
        assert!(
            model.notes()[0].contains("`quantization_config` of config.json says"),
            "{section}: {:?}",
            model.notes()
        );
        assert!(!model.config_json(None).contains("quantization_config"), "{section}");
    }
    for (section, says) in [
        (json!({"quant_method": "gptq", "bits": 4, "group_size": 128}), "`gptq` (GPTQ)"),
        (json!({"quant_method": "fp8"}), "`fp8` (floats of 8 bits)"),
        (json!({"group_size": 64, "bits": 4}), "a model that MLX quantized"),
    ] {
        let refused = load(section).unwrap_err().to_string();
        assert!(
            refused.contains(says) && refused.contains("take the folder with the weights in f32, f16 or bf16"),
            "{refused}"
        );
    }
}
