//! `config.json` of every family, changed: what is wrong or not supported is refused by the name of its key.

use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
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
