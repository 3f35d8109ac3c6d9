//! What of dropout a configuration asks for: base models are trained without.

use super::Model;
use crate::hf_config::HfConfig;

impl Model {
    /// Keys of its `config.json` that set dropout of the base model in training; it is not applied. A key in a section
    /// has the section's name in front.
    pub fn dropout_keys(&self) -> Vec<String> {
        const KEYS: [&str; 12] = [
            "attention_dropout",
            "attn_pdrop",
            "resid_pdrop",
            "embd_pdrop",
            "emb_pdrop",
            "dropout",
            "resid_dropout",
            "embed_dropout",
            "hidden_dropout",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "layerdrop",
        ];
        let asked =
            |config: &HfConfig, key: &str| config.optional_f64(key).ok().flatten().is_some_and(|share| share > 0.0);
        let config = self.config();
        let whole = KEYS.into_iter().filter(|key| asked(config, key)).map(String::from);
        let sections = config.map().keys().filter_map(|name| Some((name, config.section(name).ok()??)));
        let of_sections = sections.flat_map(|(name, section)| {
            let found: Vec<&str> = KEYS.into_iter().filter(|key| asked(&section, key)).collect();
            found.into_iter().map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
        });
        whole.chain(of_sections).collect()
    }
}
