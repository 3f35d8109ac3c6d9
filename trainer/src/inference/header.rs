//! The header of an answer: [`Header`] leaves it out of what is shown. A model writes it itself where its template has no
//! generation prompt.

use firebrand_datasets::{ChatTemplate, DataError, Tokenizer};

/// Passes on the pieces of an answer without the header before it.
#[derive(Debug, Default)]
pub struct Header {
    /// What is still to be left out; absent once that is decided.
    text: Option<String>,
    held: String,
}

impl Header {
    /// The header that `template` leaves to the model, as text without special tokens; there may be none.
    ///
    /// # Errors
    /// A tokenizer that cannot encode it.
    pub fn of(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<Self, DataError> {
        let text = match template.unprompted_header() {
            Some(header) => Some(tokenizer.decode(&tokenizer.encode(header, false)?, true)?),
            None => None,
        };
        Ok(Self { text: text.filter(|text| !text.trim().is_empty()), held: String::new() })
    }

    /// What is shown of the answer after its next piece.
    pub fn pass(&mut self, piece: &str) -> String {
        let Some(header) = &self.text else { return piece.to_owned() };
        self.held.push_str(piece);
        let rest = self.held.strip_prefix(header.as_str()).map(str::to_owned);
        if rest.is_none() && header.starts_with(self.held.as_str()) {
            return String::new();
        }
        self.text = None;
        let held = std::mem::take(&mut self.held);
        rest.unwrap_or(held)
    }

    /// What is shown at the end of the answer.
    pub fn rest(&mut self) -> String {
        self.text = None;
        std::mem::take(&mut self.held)
    }

    /// A whole answer without the header before it.
    pub fn strip(mut self, answer: &str) -> String {
        self.pass(answer) + &self.rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_left_out_whatever_its_pieces_are_and_other_text_stays() {
        let header = || Header { text: Some("assistant\n".into()), held: String::new() };
        for pieces in [&["assistant\nHi"][..], &["assist", "ant", "\n", "Hi"], &["assistant\n", "Hi"]] {
            let mut passed = header();
            let shown: String = pieces.iter().map(|piece| passed.pass(piece)).collect();
            assert_eq!(shown + &passed.rest(), "Hi");
        }
        assert_eq!(header().strip("assistants help"), "assistants help");
        assert_eq!(header().strip("assist"), "assist");
        assert_eq!(Header::default().strip("assistant\nHi"), "assistant\nHi");
    }
}
