//! Splitting off evaluation rows: [`is_set_aside`] says which rows `validation_split` sets aside, by a hash of their
//! content.
//!
//! The content is what the row says, before any template or tokenizer, so the same rows are set aside for every model.
//! Spacing and order of the keys in a JSON object, columns that no format reads, and weights are not part of the
//! content.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::record::{Answered, Chat, Content, Judgement, Record};

/// A number that depends only on the content of a row, uniform below 2^64.
pub(crate) fn share(record: &Record) -> u64 {
    let mut hash = Hasher(Sha256::new());
    hash.content(&record.content);
    let digest = hash.0.finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a row with this number is set aside for evaluation.
pub(crate) fn is_set_aside(share: u64, fraction: f64) -> bool {
    // 2^64 as a float; the conversion back saturates at the largest number.
    share < (fraction * 18_446_744_073_709_551_616.0) as u64
}

struct Hasher(Sha256);

impl Hasher {
    fn content(&mut self, content: &Content) {
        match content {
            Content::Chat(chat) => self.chat(chat),
            Content::Completion { prompt, completion } => self.completion(prompt, completion),
            Content::Preference { chosen, rejected } => {
                self.text("preference");
                self.answered(chosen);
                self.answered(rejected);
            }
            Content::Unpaired { answered, judgement } => {
                self.text(match judgement {
                    Judgement::Good => "good",
                    Judgement::Bad => "bad",
                });
                self.answered(answered);
            }
            Content::Text(text) => {
                self.text("text");
                self.text(text);
            }
            Content::Tokens { input_ids, labels } => {
                self.text("tokens");
                input_ids.iter().for_each(|id| self.0.update(id.to_le_bytes()));
                labels.iter().for_each(|label| self.0.update(label.to_le_bytes()));
            }
            Content::Tensors(file) => {
                self.text("tensors");
                self.text(&file.sha256);
            }
            Content::Captioned { image, text } => {
                self.text("captioned");
                self.text(&image.medium.sha256);
                self.text(text);
            }
            Content::Image(image) => {
                self.text("image");
                self.text(&image.medium.sha256);
            }
            Content::Labelled { content, label } => {
                self.text("labelled");
                self.content(content);
                self.text(&label.as_ref().map_or(String::new(), ToString::to_string));
            }
        }
    }

    fn chat(&mut self, chat: &Chat) {
        self.text("chat");
        for message in &chat.messages {
            self.fields(message.fields.iter());
        }
        for tool in chat.tools.iter().flatten() {
            self.value(tool);
        }
    }

    fn completion(&mut self, prompt: &str, completion: &str) {
        self.text("completion");
        self.text(prompt);
        self.text(completion);
    }

    fn answered(&mut self, answered: &Answered) {
        match answered {
            Answered::Chat(chat) => self.chat(chat),
            Answered::Plain { prompt, completion } => self.completion(prompt, completion),
            Answered::Tokens { prompt, answer } => {
                self.text("answer in tokens");
                for ids in [prompt, answer] {
                    self.0.update((ids.len() as u64).to_le_bytes());
                    ids.iter().for_each(|id| self.0.update(id.to_le_bytes()));
                }
            }
        }
    }

    /// Hashes the length first, so that different sequences of texts have different hashes.
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn fields<'a>(&mut self, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by_key(|(key, _)| *key);
        self.0.update((fields.len() as u64).to_le_bytes());
        for (key, value) in fields {
            self.text(key);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(object) => {
                self.0.update([b'{']);
                self.fields(object.iter());
            }
            Value::Array(items) => {
                self.0.update([b'[']);
                self.0.update((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| self.value(item));
            }
            Value::String(text) => {
                self.0.update([b'"']);
                self.text(text);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.text(&value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Format;
    use crate::location::Location;
    use crate::reference::Reach;
    use crate::source::Row;

    fn of(format: Format, value: Value) -> u64 {
        let Value::Object(object) = value else { panic!("a row is an object") };
        let row = Row::new(Location::new("rows.jsonl", 1), object, 0);
        share(&crate::format::parse(format, &row, Reach::Below).unwrap())
    }

    #[test]
    fn a_row_is_known_by_what_it_says() {
        let row = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        let same = json!({"id": 7, "weight": 0.5,
            "messages": [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}]});
        let other = json!({"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": ""}]});
        assert_eq!(of(Format::Messages, row.clone()), of(Format::Messages, same));
        assert_ne!(of(Format::Messages, row), of(Format::Messages, other));
        let text = of(Format::Text, json!({"text": "ab"}));
        assert_ne!(text, of(Format::PromptCompletion, json!({"prompt": "a", "completion": "b"})));
    }

    #[test]
    fn numbers_are_spread_evenly_and_a_larger_share_holds_the_smaller() {
        let shares: Vec<u64> = (0..4000).map(|row| of(Format::Text, json!({"text": format!("row {row}")}))).collect();
        let aside = |fraction| shares.iter().filter(|share| is_set_aside(**share, fraction)).count();
        // Six standard deviations of a binomial count.
        assert!((2000 - 190..2000 + 190).contains(&aside(0.5)), "{}", aside(0.5));
        assert!((200 - 83..200 + 83).contains(&aside(0.05)), "{}", aside(0.05));
        assert_eq!((aside(0.0), aside(1.0)), (0, 4000));
        assert!(shares.iter().all(|share| !is_set_aside(*share, 0.05) || is_set_aside(*share, 0.1)));
    }
}
