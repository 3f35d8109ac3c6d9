//! The tiny model of the self-test and its rows.
//!
//! No part of it has a default that could hide a mistake: it has grouped heads, a head width of its own, biases
//! everywhere, a tied head, and random norms and biases.

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use firebrand_adapters::{stream, uniform};
use firebrand_models::parameters::ModulePath;
use serde_json::json;

/// The seed of everything random in the self-test.
pub(super) const SEED: u64 = 20_170_612;
const VOCABULARY: usize = 61;
const ROWS: usize = 13;

/// The content of `config.json`.
pub(super) fn config() -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 44,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": true,
        "mlp_bias": true,
        "tie_word_embeddings": true,
        // Large enough that logits differ and attention weights are not all equal.
        "initializer_range": 0.2,
    })
}

/// Lines of token ids: rows of 5 to 13 tokens that count up in steps of their own. The first tokens of each are not
/// labelled.
pub(super) fn rows() -> String {
    let row = |row: usize| {
        let length = 5 + row * 5 % 9;
        let ids: Vec<usize> =
            (0..length).map(|index| 1 + (row * 17 + index * (3 + row % 4)) % (VOCABULARY - 1)).collect();
        let untrained = 1 + row % 3;
        let labels: Vec<i64> =
            ids.iter().enumerate().map(|(index, id)| if index < untrained { -100 } else { *id as i64 }).collect();
        json!({ "input_ids": ids, "labels": labels }).to_string() + "\n"
    };
    (0..ROWS).map(row).collect()
}

/// Changes every norm and bias to values other than one and zero.
#[derive(Debug, Default)]
pub(super) struct Unsettle {
    path: ModulePath,
}

impl ModuleMapper for Unsettle {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 1 {
            return param;
        }
        let mut random = stream(SEED, &format!("unsettle/{}", self.path.join()));
        param.map(|value| {
            let shape = value.dims();
            let noise = uniform(&mut random, shape.iter().product(), 0.3);
            let noise = Tensor::from_data(TensorData::new(noise, shape), &value.device());
            value + noise
        })
    }
}
