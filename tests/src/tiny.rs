//! A model folder with everything: the weights of a golden, and a tokenizer of single characters with a chat template.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::golden;

/// Whose weights it has: a vocabulary of 97, one end token (32), a tied head.
pub const GOLDEN: &str = "llama-gqa-tied";
/// Ends a turn, and is the padding too.
pub const END: &str = "<|im_end|>";
/// Its id.
pub const END_ID: u32 = 32;
/// Begins a text.
pub const BOS_ID: u32 = 1;

/// ChatML.
pub const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes the folder.
pub fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(golden::path(GOLDEN).join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    write_tokenizer_config(folder, &json!({}));
}

/// Writes `tokenizer_config.json` with some keys changed.
pub fn write_tokenizer_config(folder: &Path, changes: &Value) {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": END,
        // As many models have it: an end that looks like padding must be trained all the same.
        "pad_token": END,
        "unk_token": "<unk>",
        "add_bos_token": false,
        "add_eos_token": false,
        "chat_template": TEMPLATE,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    fs::write(folder.join("tokenizer_config.json"), format!("{config:#}\n")).unwrap();
}

/// Lets the tokenizer put `<s>` before every text.
pub fn begin_with_bos(folder: &Path) {
    let mut whole = tokenizer();
    whole["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS_ID], "tokens": ["<s>"]}},
    });
    fs::write(folder.join("tokenizer.json"), whole.to_string()).unwrap();
}

fn tokenizer() -> Value {
    let special = [("<pad>", 0), ("<s>", BOS_ID), ("<unk>", 2), ("<|im_start|>", 3), (END, END_ID)];
    let mut vocabulary = Map::new();
    let mut characters = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(" \n.,?!:;'-".chars());
    for id in 0..97_u32 {
        let text = match special.iter().find(|(_, number)| *number == id) {
            Some((text, _)) => text.to_string(),
            None => characters.next().map_or_else(|| format!("<unused{id}>"), String::from),
        };
        vocabulary.insert(text, id.into());
    }
    let added: Vec<Value> = special
        .iter()
        .map(|(text, id)| {
            json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}
