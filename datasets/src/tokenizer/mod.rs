//! Tokenizers: [`Tokenizer`] loads a model folder's tokenizer, which the `tokenizers` crate runs, with the special
//! tokens that the folder's files name. It is made from `tokenizer.json`, from `vocab.json` and `merges.txt`, or from a
//! SentencePiece `tokenizer.model`.
//!
//! Truncation and padding in `tokenizer.json` are switched off, because rows are cut and padded elsewhere in this
//! crate. The tokens around plain text follow transformers 5: the post-processor of `tokenizer.json` decides where there
//! is such a file; else `add_bos_token` / `add_eos_token` of `tokenizer_config.json` where they are set, else what models
//! of this class were trained with.

mod added;
mod byte_bpe;
mod extend;
mod json_file;
mod merges;
mod model_proto;
mod named;
mod sentencepiece;
mod source;
mod special;
mod stream;

pub use extend::{AddedId, FILES, NewTokens, copy, extend};
pub(crate) use json_file::object;
pub use special::{SpecialTokens, end_ids};
pub use stream::DecodeStream;

use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest;

use crate::error::DataError;
use crate::hex::hex;
use source::{Source, guarded};

/// The tokens of a text, with the bytes that each of them covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The byte range of the text that each token covers. Tokens added around the text cover `0..0`.
    pub offsets: Vec<Range<usize>>,
}

/// A tokenizer that many threads can share; a clone shares the vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    folder: PathBuf,
    /// The file that messages name.
    path: PathBuf,
    special: SpecialTokens,
    special_ids: HashSet<u32>,
    special_texts: Vec<String>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    hash: String,
}

impl Tokenizer {
    /// Whether a model folder holds a tokenizer, even one that cannot be read.
    pub fn is_in(folder: &Path) -> bool {
        Source::is_in(folder)
    }

    /// Loads the tokenizer of a model folder: `tokenizer.json`, else `vocab.json` with `merges.txt`, else
    /// `tokenizer.model`.
    ///
    /// # Errors
    /// When the folder holds none, its class is not supported, or a file is malformed.
    pub fn from_folder(folder: &Path) -> Result<Self, DataError> {
        let Source { mut inner, path, mut hash, defaults } = Source::load(folder)?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|problem| DataError::Tokenizer { path: path.clone(), why: problem.to_string() })?;
        let special = guarded(&path, || SpecialTokens::load(folder, &mut inner, &defaults))?;
        let mut added: Vec<_> =
            inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special).collect();
        added.sort_by_key(|(id, _)| *id);
        hash.update(special.fingerprint());
        let mut tokenizer = Self {
            inner: Arc::new(inner),
            folder: folder.to_path_buf(),
            path,
            special_ids: added.iter().map(|(id, _)| *id).collect(),
            special_texts: added.into_iter().map(|(_, token)| token.content).collect(),
            special,
            prefix: Vec::new(),
            suffix: Vec::new(),
            hash: hex(&hash.finalize()),
        };
        (tokenizer.prefix, tokenizer.suffix) = tokenizer.surroundings()?;
        Ok(tokenizer)
    }

    /// The tokens before and after plain text.
    fn surroundings(&self) -> Result<(Vec<u32>, Vec<u32>), DataError> {
        if let Some((bos, eos)) = self.special.explicit {
            let token = |wanted: bool, id: Option<u32>| id.filter(|_| wanted).into_iter().collect();
            return Ok((token(bos, self.special.bos_id), token(eos, self.special.eos_id)));
        }
        let plain = self.run("a", false)?.ids;
        let whole = self.run("a", true)?.ids;
        let start = whole.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
        let end = (start + plain.len()).min(whole.len());
        Ok((whole[..start].to_vec(), whole[end..].to_vec()))
    }

    /// The tokens of `text`, with the bytes that each covers. With `add_special_tokens`, the tokens around plain text
    /// are added. Chat templates write those themselves, so rendered chats are encoded without them.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode_with_offsets(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, DataError> {
        let mut encoding = self.run(text, false)?;
        if add_special_tokens {
            encoding.surround(&self.prefix, &self.suffix);
        }
        Ok(encoding)
    }

    /// The token ids of `text`; see [`Tokenizer::encode_with_offsets`].
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, DataError> {
        Ok(self.encode_with_offsets(text, add_special_tokens)?.ids)
    }

    /// Decodes `ids` to text.
    ///
    /// # Errors
    /// When the tokenizer's decoder refuses them.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, DataError> {
        self.inner.decode(ids, skip_special_tokens).map_err(|problem| self.refused(problem.as_ref()))
    }

    /// The id of the token with this text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as the vocabulary writes it (byte-level for most models).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of tokens, including added ones.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One more than the largest id; larger than [`Self::vocab_size`] where ids are left out.
    pub fn id_limit(&self) -> usize {
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// The named special tokens.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The ids that end a generation: those of `generation_config.json` and `config.json`, and the EOS token's.
    pub fn eos_ids(&self) -> &[u32] {
        &self.special.eos_ids
    }

    /// The texts of the control tokens that end a generation.
    pub fn end_texts(&self) -> Vec<&str> {
        let is_end = |text: &&String| self.token_to_id(text).is_some_and(|id| self.eos_ids().contains(&id));
        self.special_texts.iter().filter(|text| !text.is_empty()).filter(is_end).map(String::as_str).collect()
    }

    /// Whether `id` is a control token rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The texts of the control tokens.
    pub fn special_texts(&self) -> &[String] {
        &self.special_texts
    }

    /// The tokens put before plain text (a BOS, or nothing).
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// The tokens put after plain text (an EOS, or nothing).
    pub fn suffix(&self) -> &[u32] {
        &self.suffix
    }

    /// SHA-256 of the tokenizer's files and the special tokens.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Where the tokenizer was loaded from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn run(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, DataError> {
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode(text, add_special_tokens)))
            .map_err(|_| self.refused(&"the tokenizer gave up on a text"))?
            .map_err(|problem| self.refused(problem.as_ref()))?;
        Ok(Encoding {
            ids: encoding.get_ids().to_vec(),
            offsets: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
        })
    }

    fn refused(&self, problem: &(impl std::fmt::Display + ?Sized)) -> DataError {
        DataError::Tokenizer { path: self.path.clone(), why: problem.to_string() }
    }
}

impl Encoding {
    /// Adds tokens at both ends, unless they are there already: a text that spells its own BOS gets no second one.
    pub fn surround(&mut self, prefix: &[u32], suffix: &[u32]) {
        if !self.ids.starts_with(prefix) {
            self.ids.splice(0..0, prefix.iter().copied());
            self.offsets.splice(0..0, prefix.iter().map(|_| 0..0));
        }
        if !self.ids.ends_with(suffix) {
            self.ids.extend(suffix);
            self.offsets.extend(suffix.iter().map(|_| 0..0));
        }
    }
}

#[cfg(test)]
mod tests;
