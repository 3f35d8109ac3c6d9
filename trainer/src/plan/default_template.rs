//! Chooses a built-in chat template for a model that ships none: [`of_folder`]. These are base models, and the first
//! files of some chat models.
//!
//! If the vocabulary has the control tokens of a chat format, the model was made for that format. Otherwise the
//! family's template is used: the prompt that its publishers documented, or a plain-text prompt that ends in the
//! model's own end token. Control tokens that the vocabulary lacks would be split into pieces, and the end of a turn
//! would not be learned.

use std::path::Path;

use firebrand_datasets::{Builtin, Tokenizer};
use firebrand_models::families::{BasePrompt, Family};
use firebrand_models::hf_config::HfConfig;

/// The template for the model in `folder`; `None` if its `config.json` cannot be read or names no known family.
pub fn of_folder(folder: &Path, tokenizer: &Tokenizer) -> Option<Builtin> {
    let family = HfConfig::open(folder).ok().and_then(|config| Family::of(&config).ok())?;
    Some(of(family, |token| tokenizer.token_to_id(token).is_some()))
}

/// The template for a family. `knows` says whether a token is in the vocabulary.
fn of(family: Family, knows: impl Fn(&str) -> bool) -> Builtin {
    let formats = [
        (Builtin::ChatMl, "<|im_end|>"),
        (Builtin::Llama3, "<|eot_id|>"),
        (Builtin::Gemma, "<end_of_turn>"),
        (Builtin::Phi3, "<|end|>"),
    ];
    if let Some((builtin, _)) = formats.into_iter().find(|(_, token)| knows(token)) {
        return builtin;
    }
    match family.prompt() {
        BasePrompt::Alpaca | BasePrompt::Wordless => Builtin::Alpaca,
        BasePrompt::Falcon => Builtin::Falcon,
        BasePrompt::Mistral => Builtin::Mistral,
        BasePrompt::Olmo2 => Builtin::Olmo2,
        BasePrompt::RedPajama => Builtin::RedPajama,
        BasePrompt::Vicuna => Builtin::Vicuna,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_of_the_vocabulary_decide_first() {
        assert_eq!(of(Family::Llama, |token| token == "<|eot_id|>"), Builtin::Llama3);
        assert_eq!(of(Family::Qwen2, |token| token == "<|im_end|>"), Builtin::ChatMl);
        assert_eq!(of(Family::Gemma2, |token| token == "<end_of_turn>"), Builtin::Gemma);
    }

    #[test]
    fn no_family_falls_back_on_tokens_its_vocabulary_lacks() {
        for family in Family::ALL {
            let source = of(*family, |_| false).source();
            assert!(
                !source.contains("<|im_") && !source.contains("_turn>") && !source.contains("<|end|>"),
                "{family:?}"
            );
        }
    }
}
