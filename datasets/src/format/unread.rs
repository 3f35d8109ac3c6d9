//! What rows hold that nothing reads: [`Unread`] counts columns of a source and keys of its messages, so that a mistake
//! in a name shows, and nothing that a user wrote is lost without a word.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::media::{self, Media};
use crate::config::Format;
use crate::record::{Answered, Chat, Content, Record};
use crate::source::{Columns, is_media};
use crate::template::ChatTemplate;

/// Number of names of which each is counted. Rows may use their columns for values, as in `{"Anna": 1}`.
const MOST: usize = 64;
/// Number of names shown.
const SHOWN: usize = 12;

/// Counts of names that nothing reads, over the rows of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unread {
    /// Number of rows looked at.
    rows: u64,
    columns: Tally,
    /// Keys of messages.
    keys: Tally,
    /// Places of images, sound and video, which the gate reports.
    media: Tally,
}

impl Unread {
    /// Counts what nothing reads of a row: `read` is the row as it stands, `record` what was made of it.
    pub fn add(
        &mut self,
        format: Format,
        read: &Map<String, Value>,
        record: &Record,
        media: &Media,
        readers: Readers<'_>,
    ) {
        self.rows += 1;
        let tools = chats(&record.content).any(|chat| chat.tools.is_some()) && readers.template_reads("tools");
        for (key, value) in read {
            let known = columns(format).contains(&key.as_str()) || (key == "tools" && tools);
            // Media are a finding of the gate.
            let is_media = media.places.contains(key) || (is_media(key) && media::is_empty(value));
            if !known && !is_media && !readers.recipe_reads(key) {
                self.columns.add(key, 1);
            }
        }
        let mut keys: Vec<&str> = Vec::new();
        for message in chats(&record.content).flat_map(|chat| &chat.messages) {
            for key in message.fields.keys().map(String::as_str) {
                let known = matches!(key, "role" | "content") || readers.template_reads(key);
                if !known && !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys.iter().for_each(|key| self.keys.add(key, 1));
        media.places.iter().for_each(|place| self.media.add(place, 1));
    }

    /// Adds the counts of further rows.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.columns.merge(&other.columns);
        self.keys.merge(&other.keys);
        self.media.merge(&other.media);
    }

    /// The names, as a sentence for users; absent where all is read. `is_asked` says which columns the query of the source
    /// looks at.
    pub fn said(&self, is_asked: impl Fn(&str) -> bool) -> Option<String> {
        let columns = self.columns.said(self.rows, is_asked);
        let keys = self
            .keys
            .said(self.rows, |_| false)
            .map(|keys| format!("of messages, which the template does not read: {keys}"));
        let all: Vec<String> = [columns, keys].into_iter().flatten().collect();
        (!all.is_empty()).then(|| format!("not used: {}", all.join("; ")))
    }

    /// The places of images, sound and video with their numbers of rows.
    pub fn media(&self) -> impl Iterator<Item = (&str, u64)> {
        self.media.names.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

/// Who else reads names of rows.
#[derive(Clone, Copy)]
pub(crate) struct Readers<'a> {
    pub columns: &'a Columns,
    pub template: Option<&'a ChatTemplate>,
}

impl Readers<'_> {
    /// Whether the recipe gives the column, or a part of it, another name.
    pub fn recipe_reads(&self, column: &str) -> bool {
        self.columns.renames(column)
    }

    /// Whether the template may read a key of a message or a variable of that name.
    fn template_reads(&self, key: &str) -> bool {
        // The renderer passes what a message reasons under both names that templates read.
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let names = if REASONING.contains(&key) { &REASONING[..] } else { std::slice::from_ref(&key) };
        self.template.is_some_and(|template| {
            let sources = || std::iter::once(template.source()).chain(template.named().values().map(String::as_str));
            let reads_all = |source: &str| {
                ["message | tojson", "message|tojson", "messages | tojson", "messages|tojson", "message.items()"]
                    .iter()
                    .any(|whole| source.contains(whole))
            };
            sources().any(|source| reads_all(source) || names.iter().any(|name| mentions(source, name)))
        })
    }
}

/// Whether a source holds a name as a word.
fn mentions(source: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !name.is_empty()
        && source
            .match_indices(name)
            .any(|(at, _)| !source[..at].ends_with(is_part) && !source[at + name.len()..].starts_with(is_part))
}

fn chats(content: &Content) -> impl Iterator<Item = &Chat> {
    dialogues(content).into_iter().flatten()
}

fn dialogues(content: &Content) -> [Option<&Chat>; 2] {
    fn chat(answered: &Answered) -> Option<&Chat> {
        match answered {
            Answered::Chat(chat) => Some(chat),
            Answered::Plain { .. } | Answered::Tokens { .. } => None,
        }
    }
    match content {
        Content::Chat(chat) => [Some(chat), None],
        Content::Preference { chosen, rejected } => [chat(chosen), chat(rejected)],
        Content::Unpaired { answered, .. } => [chat(answered), None],
        Content::Labelled { content, .. } => dialogues(content),
        Content::Completion { .. } | Content::Text(_) | Content::Tokens { .. } | Content::Tensors(_) => [None, None],
        Content::Captioned { .. } | Content::Image(_) => [None, None],
    }
}

/// The columns that a format reads. `tools` are read by templates.
fn columns(format: Format) -> &'static [&'static str] {
    match format {
        Format::Messages => &["messages", "weight"],
        Format::ShareGpt => &["conversations", "system", "weight"],
        Format::Alpaca => &["instruction", "input", "output", "history", "system", "weight"],
        Format::PromptCompletion => &["prompt", "completion", "weight"],
        Format::Preference => &["prompt", "chosen", "rejected", "prompt_ids", "chosen_ids", "rejected_ids", "weight"],
        Format::Unpaired => &["prompt", "completion", "label", "prompt_ids", "completion_ids", "weight"],
        Format::Labelled => {
            &["text", "messages", "prompt", "completion", "input_ids", "image", "file_name", "label", "weight"]
        }
        Format::Captioned => &["image", "file_name", "text"],
        Format::Text => &["text", "weight"],
        Format::Tokens => &["input_ids", "labels", "weight"],
        Format::Tensors => &["tensors", "source"],
        Format::Auto => &[],
    }
}

/// Counts of names, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    names: Vec<(String, u64)>,
    /// Number of times that a name beyond [`MOST`] was met.
    more: u64,
}

impl Tally {
    fn add(&mut self, name: &str, count: u64) {
        let room = self.names.len() < MOST;
        match self.names.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += count,
            None if room => self.names.push((name.to_string(), count)),
            None => self.more += count,
        }
    }

    fn merge(&mut self, other: &Self) {
        other.names.iter().for_each(|(name, count)| self.add(name, *count));
        self.more += other.more;
    }

    fn said(&self, rows: u64, is_read: impl Fn(&str) -> bool) -> Option<String> {
        let quoted =
            |names: &[&(String, u64)]| names.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let (all, some): (Vec<_>, Vec<_>) =
            self.names.iter().filter(|(name, _)| !is_read(name)).partition(|(_, count)| *count == rows);
        let mut said = Vec::new();
        if !all.is_empty() {
            let more = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
            said.push(format!("{}{more} (in all rows)", quoted(&all[..all.len().min(SHOWN)])));
        }
        said.extend(
            some.iter()
                .take(SHOWN)
                .map(|(name, count)| format!("`{name}` (in {count} row{})", if *count == 1 { "" } else { "s" })),
        );
        if some.len() > SHOWN || self.more > 0 {
            said.push("others".into());
        }
        (!said.is_empty()).then(|| said.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;
    use crate::reference::Reach;
    use crate::testing;

    fn said(format: Format, rows: &[Value], columns: &Columns, template: &str) -> Option<String> {
        let template = testing::template(template);
        let mut all = Unread::default();
        for value in rows {
            let row = row(1, value.clone());
            let record = super::super::parse(format, &row, Reach::Below).unwrap();
            let readers = Readers { columns, template: Some(&template) };
            let media = Media::of(&row.object, |key| readers.recipe_reads(key));
            let mut one = Unread::default();
            one.add(format, &row.object, &record, &media, readers);
            all.merge(&one);
        }
        all.said(|_| false)
    }

    #[test]
    fn columns_that_nothing_reads_are_named_with_their_rows() {
        let rows = [
            json!({"id": 1, "prompt": "p", "completion": "c", "source": "s", "weight": 1}),
            json!({"id": 2, "prompt": "p", "completion": "c", "source": "s", "score": 0.5, "label": 4}),
        ];
        assert_eq!(
            said(Format::PromptCompletion, &rows, &Columns::none(), "").unwrap(),
            "not used: `id`, `source` (in all rows), `score` (in 1 row), `label` (in 1 row)"
        );
        let used = [json!({"prompt": "p", "completion": "c"})];
        assert_eq!(said(Format::PromptCompletion, &used, &Columns::none(), ""), None);
        // A column of which the recipe reads a part is read; media are the gate's.
        let part = [json!({"text": "t", "answer": {"text": "t"}, "image": "a.png", "images": []})];
        assert_eq!(said(Format::Text, &part, &[("text", "answer.text")].into(), ""), None);
    }

    #[test]
    fn keys_of_messages_are_used_where_the_template_reads_them() {
        let rows = [json!({"tools": [{"name": "f"}], "messages": [
            {"role": "user", "content": "u", "name": "Ann"},
            {"role": "assistant", "content": "a", "reasoning_content": "r", "weight": 0.5, "train": true, "mood": "good"},
        ]})];
        assert_eq!(
            said(Format::Messages, &rows, &Columns::none(), "{{ messages[0].content }}{{ renamed }}").unwrap(),
            "not used: `tools` (in all rows); of messages, which the template does not read: `name`, `reasoning_content`, \
             `mood` (in all rows)"
        );
        let reads = "{{ tools }}{% for m in messages %}{{ m['name'] }}{{ m.thinking }}{{ m.mood }}{% endfor %}";
        assert_eq!(said(Format::Messages, &rows, &Columns::none(), reads), None);
    }

    #[test]
    fn a_row_whose_columns_are_values_takes_bounded_memory() {
        let rows: Vec<Value> = (0..200).map(|index| json!({"text": "t", format!("c{index}"): 1})).collect();
        let said = said(Format::Text, &rows, &Columns::none(), "").unwrap();
        assert!(said.starts_with("not used: `c0` (in 1 row), ") && said.ends_with(", others"), "{said}");
    }
}
