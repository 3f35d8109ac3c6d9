//! Byte-level BPE: [`ByteBpe`] makes tokenizers from `vocab.json` and `merges.txt`, for GPT-2 and later models and CLIP.
//!
//! The two files do not say how text is split into words before merging; the tokenizer's class does. The classes are
//! defined in transformers' `tokenization_gpt2.py`, `tokenization_qwen2.py`, `tokenization_gpt_neox.py` and `tokenization_clip.py`.

use std::collections::HashMap;

use tokenizers::decoders;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{self, Lowercase, NFC};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// Qwen's words: as GPT-2's, but each digit is a word, and line ends stay together.
const QWEN_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// CLIP's words. A digit is a word, and spaces belong to none.
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// What stands at the end of a piece that ends a word, in CLIP's vocabulary.
const END_OF_WORD: &str = "</w>";
const CLIP_START: &str = "<|startoftext|>";
const CLIP_END: &str = "<|endoftext|>";

/// How text is split into words before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteBpe {
    /// GPT-2, GPT-J, GPT-Neo, OPT, Phi: GPT-2's words.
    Gpt2,
    /// Qwen 2, 2.5 and 3: Qwen's words, after Unicode composition.
    Qwen2,
    /// GPT-NeoX, Pythia, MPT: GPT-2's words, after Unicode composition.
    GptNeoX,
    /// CLIP and the text encoders of Stable Diffusion: lower case, CLIP's words, and an end of each.
    Clip,
}

impl ByteBpe {
    /// Names of the classes that are read here, for messages.
    pub(super) const CLASSES: &str =
        "GPT2Tokenizer, CodeGenTokenizer, Qwen2Tokenizer, GPTNeoXTokenizer and CLIPTokenizer";

    /// The variant for a `tokenizer_class` without `Fast`.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        match class {
            "GPT2Tokenizer" | "CodeGenTokenizer" => Some(Self::Gpt2),
            "Qwen2Tokenizer" => Some(Self::Qwen2),
            "GPTNeoXTokenizer" => Some(Self::GptNeoX),
            "CLIPTokenizer" => Some(Self::Clip),
            _ => None,
        }
    }

    /// The variant for a `model_type`, when no class is named.
    pub(super) fn of_model(model_type: &str) -> Option<Self> {
        match model_type {
            "gpt2" | "gptj" | "gpt_neo" | "opt" | "codegen" | "phi" => Some(Self::Gpt2),
            "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" => Some(Self::Qwen2),
            "gpt_neox" | "mpt" => Some(Self::GptNeoX),
            "clip" | "clip_text_model" => Some(Self::Clip),
            _ => None,
        }
    }

    /// The special tokens of the class, when no file names them.
    pub(super) fn special_tokens(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            Self::Gpt2 => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
            Self::Qwen2 => &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
            Self::GptNeoX => {
                &[("bos_token", END), ("eos_token", END), ("unk_token", END), ("pad_token", "<|padding|>")]
            }
            Self::Clip => {
                &[("bos_token", CLIP_START), ("eos_token", CLIP_END), ("unk_token", CLIP_END), ("pad_token", CLIP_END)]
            }
        }
    }

    /// Whether a token stands before every text, and one after it.
    pub(super) fn around(self) -> (bool, bool) {
        match self {
            Self::Gpt2 | Self::Qwen2 | Self::GptNeoX => (false, false),
            Self::Clip => (true, true),
        }
    }

    /// Builds the tokenizer without its added tokens; the error is the reason without a path.
    pub(super) fn build(
        self,
        vocabulary: HashMap<String, u32>,
        merges: Merges,
        add_prefix_space: bool,
    ) -> tokenizers::Result<tokenizers::Tokenizer> {
        let builder = BPE::builder().vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges);
        if self == Self::Clip {
            let model = builder.end_of_word_suffix(END_OF_WORD.into()).unk_token(CLIP_END.into()).build()?;
            return clip(model);
        }
        let mut tokenizer = tokenizers::Tokenizer::new(builder.build()?);
        let (normalizer, words): (_, PreTokenizerWrapper) = match self {
            Self::Gpt2 => (None, ByteLevel::new(add_prefix_space, true, true).into()),
            Self::GptNeoX | Self::Clip => (Some(NFC), ByteLevel::new(add_prefix_space, true, true).into()),
            Self::Qwen2 => {
                let pattern = SplitPattern::Regex(QWEN_WORDS.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                let bytes = ByteLevel::new(add_prefix_space, true, false);
                (Some(NFC), Sequence::new(vec![split.into(), bytes.into()]).into())
            }
        };
        tokenizer.with_normalizer(normalizer).with_pre_tokenizer(Some(words)).with_decoder(Some(ByteLevel::default()));
        Ok(tokenizer)
    }
}

/// CLIP's tokenizer around its model.
fn clip(model: BPE) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
    let normalizer = normalizers::Sequence::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    let words = Split::new(SplitPattern::Regex(CLIP_WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let words = Sequence::new(vec![words.into(), ByteLevel::new(false, true, true).into()]);
    let ends = Replace::new(ReplacePattern::String(END_OF_WORD.into()), " ")?;
    let decoder = decoders::sequence::Sequence::new(vec![
        ByteLevel::default().into(),
        ends.into(),
        Replace::new(ReplacePattern::Regex(r" +$".into()), "")?.into(),
    ]);
    tokenizer.with_normalizer(Some(normalizer)).with_pre_tokenizer(Some(words)).with_decoder(Some(decoder));
    Ok(tokenizer)
}

/// Parses `merges.txt`: two halves per line, the first merge first, after a line with the version.
pub(super) fn read_merges(text: &str) -> Result<Merges, String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
        .map(|(number, line)| match line.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => Err(format!("line {}: expected two tokens and a space between them, found {line:?}", number + 1)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_two_tokens_a_line() {
        let merges = read_merges("#version: 0.2\nĠ t\r\nh e\n\n").unwrap();
        assert_eq!(merges, [("Ġ".into(), "t".into()), ("h".into(), "e".into())]);
        for wrong in ["ab", "a b c", " b", "a "] {
            let error = read_merges(&format!("a b\n{wrong}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
