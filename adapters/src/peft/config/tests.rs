use super::*;

fn parse(text: &str) -> Result<PeftConfig, AdapterError> {
    PeftConfig::parse(Path::new("adapter_config.json"), text)
}

fn config() -> LoraConfig {
    LoraConfig {
        rank: 8,
        alpha: 16.5,
        dropout: 0.1,
        rslora: true,
        targets: Targets::Pattern(ModulePattern::Suffixes(vec!["q_proj".into(), "v_proj".into()])),
        exclude: None,
        rank_pattern: vec![("layers.1.self_attn.q_proj".into(), 4), ("q_proj".into(), 2)],
        alpha_pattern: vec![("v_proj".into(), 32.0)],
        layers: Some(Layers { indices: vec![1, 3], patterns: vec!["layers".into()] }),
        init: LoraInit::Kaiming,
        base: TrainedBase {
            modules: vec!["embed_tokens".into(), "norm".into()],
            biases: Biases::OfAdapted,
            tying: Tying::Kept,
        },
    }
}

fn base(name: &str) -> BaseModel {
    BaseModel { name: name.into(), fan_in_fan_out: false, task: Task::CausalLm }
}

#[test]
fn a_model_without_a_task_is_named_by_its_class() {
    let task = Task::Plain { class: "CLIPModel".into(), library: "transformers.models.clip".into() };
    let text = PeftConfig::render(&AdapterConfig::Lora(config()), &[], &BaseModel { task, ..base("b") });
    let read = parse(&text).unwrap();
    assert_eq!(
        (&read.raw["task_type"], read.raw["auto_mapping"]["base_model_class"].as_str()),
        (&Value::Null, Some("CLIPModel"))
    );
    assert_eq!(PeftConfig::render(&read.method, &[], &read.base()), text);
}

#[test]
fn what_is_written_reads_back_equal() {
    let names = |names: &[&str]| ModulePattern::Suffixes(names.iter().map(|name| name.to_string()).collect());
    let ia3 = Ia3Config {
        targets: Targets::Pattern(names(&["k_proj", "down_proj"])),
        exclude: None,
        feedforward: names(&["down_proj"]),
        base: TrainedBase { modules: vec!["lm_head".into()], ..TrainedBase::default() },
    };
    for method in [AdapterConfig::Lora(config()), AdapterConfig::Dora(config()), AdapterConfig::Ia3(ia3)] {
        let text = PeftConfig::render(&method, &[], &base("some/base"));
        let read = parse(&text).unwrap();
        assert_eq!(read.method, method);
        assert_eq!(read.base_model.as_deref(), Some("some/base"));
    }
}

#[test]
fn all_linear_is_written_as_names() {
    let config = AdapterConfig::Lora(LoraConfig { targets: Targets::AllLinear, layers: None, ..config() });
    let modules = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"].map(String::from);
    let text = PeftConfig::render(&config, &modules, &BaseModel { fan_in_fan_out: true, ..base("base") });
    let read = parse(&text).unwrap().method;
    assert_eq!(read.targets(), &Targets::Pattern(ModulePattern::Suffixes(vec!["up_proj".into()])));
}

#[test]
fn an_adapter_that_subtracts_its_start_is_written_as_one_of_twice_the_rank() {
    for (rslora, alpha) in [(false, 33.0), (true, 16.5 * std::f64::consts::SQRT_2)] {
        let config = LoraConfig { init: LoraInit::Pissa, rslora, ..config() };
        let text = PeftConfig::render(&AdapterConfig::Lora(config.clone()), &[], &base("base"));
        let AdapterConfig::Lora(read) = parse(&text).unwrap().method else { panic!() };
        assert_eq!((read.rank, read.alpha, read.init), (16, alpha, LoraInit::Kaiming));
        for path in ["layers.0.v_proj", "layers.1.self_attn.q_proj"] {
            assert_eq!(read.rank_at(path).unwrap(), 2 * config.rank_at(path).unwrap());
            assert!((read.scale_at(path).unwrap() - config.scale_at(path).unwrap()).abs() < 1e-12);
        }
    }
}

#[test]
fn unknown_keys_are_kept() {
    let read = parse(r#"{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q"],"new_key":[1]}"#).unwrap();
    assert_eq!(read.raw["new_key"], json!([1]));
}

#[test]
fn keys_that_change_the_meaning_are_refused_by_name() {
    for (key, value) in [
        ("use_qalora", "true"),
        ("enable_lora", "[true, false]"),
        ("layer_replication", "[[0, 2]]"),
        ("lora_bias", "true"),
    ] {
        let text = format!(r#"{{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q"],"{key}":{value}}}"#);
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("not supported"), "{error}");
    }
    assert!(parse(r#"{"peft_type":"LOHA"}"#).unwrap_err().to_string().contains("LOHA"));
}

#[test]
fn starts_and_rows_that_are_the_base_s_are_read_or_refused_by_name() {
    let with = |key: &str, value: &str| {
        parse(&format!(r#"{{"peft_type":"LORA","r":2,"lora_alpha":4,"target_modules":["q"],"{key}":{value}}}"#))
    };
    for (value, restart) in [
        ("true", None),
        ("\"Gaussian\"", None),
        ("\"mica\"", None),
        ("\"pissa\"", Some(LoraInit::Pissa)),
        ("\"OLoRA\"", Some(LoraInit::Olora)),
    ] {
        let read = with("init_lora_weights", value).unwrap();
        assert_eq!((read.restart, read.changes_base()), (restart, restart.is_some()), "{value}");
    }
    let error = with("init_lora_weights", "\"corda\"").unwrap_err().to_string();
    assert!(error.contains("init_lora_weights = \"corda\"") && error.contains("path_initial_model_for"), "{error}");
    let rows = with("trainable_token_indices", r#"{"embed_tokens": [3, 1]}"#).unwrap().rows;
    assert_eq!(rows, [TokenRows { module: Some("embed_tokens".into()), ids: vec![3, 1] }]);
    assert_eq!(with("trainable_token_indices", "[7]").unwrap().rows, [TokenRows { module: None, ids: vec![7] }]);
    for wrong in ["[1, 1]", "[-1]", "7", r#"{"embed_tokens": 3}"#] {
        let error = with("trainable_token_indices", wrong).unwrap_err().to_string();
        assert!(error.contains("`trainable_token_indices`: expected a list of token ids"), "{error}");
    }
}

#[test]
fn wrong_values_name_the_key() {
    for (key, text) in [
        ("r", r#"{"peft_type":"LORA","r":0,"lora_alpha":4,"target_modules":["q"]}"#),
        ("lora_alpha", r#"{"peft_type":"LORA","r":1,"lora_alpha":"x","target_modules":["q"]}"#),
        ("target_modules", r#"{"peft_type":"LORA","r":1,"lora_alpha":4}"#),
        ("rank_pattern", r#"{"peft_type":"LORA","r":1,"lora_alpha":4,"target_modules":["q"],"rank_pattern":{"q":-1}}"#),
        ("bias", r#"{"peft_type":"LORA","r":1,"lora_alpha":4,"target_modules":["q"],"bias":"some"}"#),
        ("modules_to_save", r#"{"peft_type":"LORA","r":1,"lora_alpha":4,"target_modules":["q"],"modules_to_save":7}"#),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }
}
