//! Streaming decoding: [`DecodeStream`] gives text as tokens arrive, for printing while a model generates.
//!
//! A character may take several tokens, and a token's text may depend on the token before it. So new text is the
//! difference between two decodings, held back while it ends in an incomplete character.

use super::Tokenizer;
use crate::error::DataError;

/// What a decoder writes for an incomplete character.
const UNFINISHED: char = '\u{fffd}';

/// The state of a streaming decoding.
#[derive(Debug)]
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    skip_special_tokens: bool,
    ids: Vec<u32>,
    /// Tokens before this index are not decoded; those from here to `printed` are context.
    context: usize,
    /// Tokens before this index have been printed.
    printed: usize,
}

impl Tokenizer {
    /// Starts a streaming decoding, which never splits a character.
    pub fn decode_stream(&self, skip_special_tokens: bool) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, skip_special_tokens, ids: Vec::new(), context: 0, printed: 0 }
    }
}

impl DecodeStream<'_> {
    /// Takes the next token and returns the text that it completes, which may be empty.
    ///
    /// # Errors
    /// When the tokenizer's decoder refuses the tokens.
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.ids.push(id);
        let (before, after) = self.decodings()?;
        if after.ends_with(UNFINISHED) || after.len() <= before.len() {
            return Ok(String::new());
        }
        self.context = self.printed;
        self.printed = self.ids.len();
        Ok(rest(&before, &after))
    }

    /// Returns the text that is left at the end, including an incomplete character.
    ///
    /// # Errors
    /// When the tokenizer's decoder refuses the tokens.
    pub fn finish(self) -> Result<String, DataError> {
        let (before, after) = self.decodings()?;
        Ok(rest(&before, &after))
    }

    fn decodings(&self) -> Result<(String, String), DataError> {
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, self.skip_special_tokens);
        Ok((decode(&self.ids[self.context..self.printed])?, decode(&self.ids[self.context..])?))
    }
}

fn rest(before: &str, after: &str) -> String {
    let start = (0..=before.len().min(after.len())).rev().find(|&at| after.is_char_boundary(at));
    after[start.unwrap_or(0)..].to_string()
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn pieces_are_whole_characters_and_add_up() {
        let tokenizer = testing::tokenizer();
        let text = "Grüße an die 世界! 🦀🦀 ok<|im_end|>\n";
        let ids = tokenizer.encode(text, false).unwrap();
        let mut stream = tokenizer.decode_stream(false);
        let mut whole = String::new();
        for id in &ids {
            let piece = stream.push(*id).unwrap();
            assert!(!piece.contains('\u{fffd}'), "{piece:?}");
            whole += &piece;
        }
        whole += &stream.finish().unwrap();
        assert_eq!(whole, text);
    }

    #[test]
    fn a_character_cut_off_at_the_end_is_shown_as_cut_off() {
        let tokenizer = testing::tokenizer();
        let mut ids = tokenizer.encode("ok 🦀", false).unwrap();
        ids.pop();
        let mut stream = tokenizer.decode_stream(false);
        let mut whole = String::new();
        for id in ids {
            whole += &stream.push(id).unwrap();
        }
        assert_eq!(whole.trim_end(), "ok");
        assert!(stream.finish().unwrap().contains('\u{fffd}'));
    }
}
