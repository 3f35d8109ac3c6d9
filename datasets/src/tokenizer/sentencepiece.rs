//! SentencePiece: [`build`] turns a `tokenizer.model` into a tokenizer of the `tokenizers` crate, for LLaMA, Mistral,
//! Gemma, Yi and Phi-3.
//!
//! The ids are those of SentencePiece itself and of the `tokenizer.json` files published beside such models, which
//! transformers 4 made (`LlamaConverter` in its `convert_slow_tokenizer.py`). Transformers 5 reads a lone `.model` file
//! differently in two ways: it ranks merges by id instead of score, which changes runs of spaces; and for families
//! without a tokenizer class of their own it leaves out the space before the text.
//!
//! With `legacy` (the default), SentencePiece's space before a text is added to every stretch of text between control
//! tokens; without it, only to the first.

use serde_json::{Map, Value};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::{DecoderWrapper, DecoderWrapper::Replace as ReplaceDecoder};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Prepend, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, ModelWrapper};

use super::merges::merges;
use super::model_proto::{Algorithm, Kind, ModelProto};

/// The character that stands for a space.
const SPACE: &str = "▁";

/// Names of the classes that are read here, for messages.
pub(super) const CLASSES: &str = "LlamaTokenizer, CodeLlamaTokenizer and GemmaTokenizer";

/// Whether a `tokenizer_class` without `Fast` treats the file as SentencePiece does.
pub(super) fn knows_class(class: &str) -> bool {
    matches!(class, "LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer")
}

/// Builds the tokenizer without control tokens; also returns these and the tokens defined by users. `config` is
/// `tokenizer_config.json`; the error is the reason without a path.
pub(super) fn build(
    model: &ModelProto,
    config: &Map<String, Value>,
) -> Result<(tokenizers::Tokenizer, Vec<AddedToken>), String> {
    if model.whitespace_is_suffix || !model.escape_whitespaces {
        return Err("it keeps spaces in a way no language model uses (treat_whitespace_as_suffix or \
            escape_whitespaces = false); a tokenizer.json made by transformers can be read instead"
            .into());
    }
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    let prefix = flag("add_prefix_space").unwrap_or(model.add_dummy_prefix);
    let legacy = flag("legacy").unwrap_or(true);
    let say = |problem: tokenizers::Error| problem.to_string();

    let mut tokenizer = tokenizers::Tokenizer::new(vocabulary(model)?);
    let mut normalizers = clean_up(model).map_err(say)?;
    if legacy {
        if prefix {
            normalizers.push(Prepend::new(SPACE.into()).into());
        }
        normalizers.push(replace(" ", SPACE).map_err(say)?.into());
    } else {
        let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    }
    if !normalizers.is_empty() {
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers)));
    }
    let mut decoders: Vec<DecoderWrapper> =
        vec![ReplaceDecoder(replace(SPACE, " ").map_err(say)?), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    let added = model
        .pieces
        .iter()
        .filter(|piece| matches!(piece.kind, Kind::Control | Kind::UserDefined))
        .map(|piece| AddedToken::from(piece.text.clone(), piece.kind == Kind::Control).normalized(false))
        .collect();
    Ok((tokenizer, added))
}

/// The pieces, and the algorithm that combines them.
fn vocabulary(model: &ModelProto) -> Result<ModelWrapper, String> {
    let say = |problem: tokenizers::Error| problem.to_string();
    let unknown = model.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
    let bytes = model.byte_fallback || model.pieces.iter().any(|piece| piece.kind == Kind::Byte);
    match model.algorithm {
        Algorithm::Unigram => {
            let pieces = model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect();
            Ok(Unigram::from(pieces, unknown, bytes).map_err(say)?.into())
        }
        Algorithm::Bpe => {
            let ids: Vocab = model.pieces.iter().zip(0u32..).map(|(piece, id)| (piece.text.clone(), id)).collect();
            let mut builder =
                BPE::builder().vocab_and_merges(ids, merges(&model.pieces)?).fuse_unk(true).byte_fallback(bytes);
            if let Some(unknown) = unknown {
                builder = builder.unk_token(model.pieces[unknown].text.clone());
            }
            Ok(builder.build().map_err(say)?.into())
        }
    }
}

/// The normalisation of a text before its spaces are escaped.
fn clean_up(model: &ModelProto) -> tokenizers::Result<Vec<NormalizerWrapper>> {
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if !model.charsmap.is_empty() {
        // The reader of the map allocates what its first number claims before it checks how many bytes there are.
        let claimed = model.charsmap.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        if claimed.is_none_or(|claimed| claimed > model.charsmap.len() - 4) {
            return Err("its precompiled_charsmap ends too early".into());
        }
        normalizers.push(Precompiled::from(&model.charsmap)?.into());
    }
    if model.remove_extra_whitespaces {
        normalizers.push(Replace::new(ReplacePattern::Regex(r"\A +| +\z".into()), "")?.into());
        normalizers.push(Replace::new(ReplacePattern::Regex(" {2,}".into()), " ")?.into());
    }
    Ok(normalizers)
}

fn replace(pattern: &str, content: &str) -> tokenizers::Result<Replace> {
    Replace::new(ReplacePattern::String(pattern.into()), content)
}
