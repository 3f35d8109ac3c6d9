//! Encoding: [`Encoder`] renders and tokenises a record, labels its tokens, and cuts what is too long.

mod pictures;

use std::sync::Arc;

use crate::config::{TrainOn, Truncation};
use crate::error::DataError;
use crate::example::{Encoded, Example, ExampleContent, Notes, OddOrder, Part};
use crate::label::{Label, RowLabel};
use crate::labels;
use crate::location::Location;
use crate::pictured::Pictures;
use crate::record::{Answered, Chat, Content, Image, Judgement, Message, Record, Role};
use crate::template::{Builtin, ChatTemplate};
use crate::tokenizer::{Encoding, Tokenizer};
use crate::tokens::{NOT_TRAINED, Tokens};

/// Turns records into examples, the same way for training, evaluation and display. It owns what it needs, because rows
/// are encoded on threads that may outlive the caller; clones of a tokenizer or a template share their large parts.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The tokenizer. Needed for everything but `tokens` and `tensors` rows.
    pub tokenizer: Option<Tokenizer>,
    /// The chat template. Needed for rows with messages.
    pub template: Option<ChatTemplate>,
    /// The system prompt of dialogues that have none.
    pub system: Option<String>,
    /// Which messages are trained.
    pub train_on: TrainOn,
    /// What happens to rows longer than `max_length`.
    pub truncation: Truncation,
    /// The most tokens an example may have.
    pub max_length: usize,
    /// How the model reads pictures. Needed for rows with pictures.
    pub pictures: Option<Arc<Pictures>>,
    /// Whether rendered texts and roles are kept in the examples.
    pub keep_text: bool,
}

impl Encoder {
    /// Encodes a record. `source_index` is stored in the example.
    ///
    /// # Errors
    /// When the record needs a tokenizer or template that is absent, the template refuses it, or it is too long and
    /// truncation is refused.
    pub fn encode(&self, record: &Record, location: &Location, source_index: usize) -> Result<Encoded, DataError> {
        let example = |content: ExampleContent, notes: Notes, part: Part| Example {
            source: location.clone(),
            content,
            part,
            source_index,
            notes,
        };
        let one = |draft: Draft, part: Part, is_text: bool| {
            let pieces = match self.truncate(self.weighed(draft, record.weight), is_text, location)? {
                Truncated::Pieces(pieces) => pieces,
                Truncated::Dropped { tokens } => return Ok(Encoded::Dropped { tokens }),
            };
            let examples =
                pieces.into_iter().map(|piece| example(ExampleContent::Tokens(piece.tokens), piece.notes, part));
            Ok(Encoded::Examples(examples.collect()))
        };
        let pictured = |image: &Image, text: Option<&str>, label: Option<RowLabel>| {
            let (pictured, notes) = self.pictured(image, text, label, location)?;
            Ok(Encoded::Examples(vec![example(ExampleContent::Pictured(pictured), notes, Part::Alone)]))
        };
        match &record.content {
            Content::Tokens { input_ids, labels } => {
                let encoding = Encoding { ids: input_ids.clone(), offsets: Vec::new() };
                one(Draft { encoding, labels: labels.clone(), ..Draft::default() }, Part::Alone, false)
            }
            Content::Tensors(file) => {
                let content = ExampleContent::Tensors(file.clone());
                Ok(Encoded::Examples(vec![example(content, Notes::default(), Part::Alone)]))
            }
            Content::Captioned { image, text } => pictured(image, Some(text), None),
            Content::Image(image) => pictured(image, None, None),
            Content::Text(text) => {
                let mut draft = self.plain(text, 0)?;
                draft.notes.empty.0 = usize::from(text.trim().is_empty());
                one(draft, Part::Alone, true)
            }
            Content::Completion { prompt, completion } => {
                let mut draft = self.completion(prompt, completion, self.train_on)?;
                draft.notes.plain = self.template.is_some();
                one(draft, Part::Alone, false)
            }
            Content::Chat(chat) => one(self.chat(chat, location, self.train_on)?, Part::Alone, false),
            Content::Unpaired { answered, judgement } => {
                let part = match judgement {
                    Judgement::Good => Part::Good,
                    Judgement::Bad => Part::Bad,
                };
                one(self.answered(answered, location)?, part, false)
            }
            Content::Labelled { content, label } => match &**content {
                Content::Image(image) => {
                    pictured(image, None, Some(RowLabel { label: label.clone(), weight: record.weight }))
                }
                _ if self.pictures.is_some() => {
                    let expected = "`image` (a picture), which the model reads, beside the label";
                    Err(DataError::row(location, expected, "a row without one"))
                }
                content => one(self.labelled(content, label.clone(), record.weight, location)?, Part::Alone, false),
            },
            Content::Preference { chosen, rejected } => {
                let chosen = one(self.answered(chosen, location)?, Part::Chosen, false)?;
                let rejected = one(self.answered(rejected, location)?, Part::Rejected, false)?;
                Ok(chosen.paired(rejected))
            }
        }
    }

    /// Applies the weight of its row to a draft.
    fn weighed(&self, draft: Draft, weight: f32) -> Piece {
        let Draft { encoding, labels, factors, text, roles, label, mut notes } = draft;
        notes.lossy = text.as_ref().is_some_and(|text| text.contains('\u{fffd}'));
        // A row of weight 0 is not trained: it loses its labels and is left out as a row without labels.
        let labels = if weight == 0.0 { vec![NOT_TRAINED; labels.len()] } else { labels };
        let factor = |index: usize| factors.get(index).copied().unwrap_or(1.0);
        let weights = labels
            .iter()
            .enumerate()
            .map(|(index, label)| match *label {
                NOT_TRAINED => 0.0,
                _ => weight * factor(index),
            })
            .collect();
        let text = text.filter(|_| self.keep_text);
        let tokens = Tokens { text, input_ids: encoding.ids, labels, weights, roles, label };
        Piece { tokens, notes }
    }

    /// An answer that is judged. Its prompt is never labelled, whatever `train_on` says.
    fn answered(&self, answered: &Answered, location: &Location) -> Result<Draft, DataError> {
        let train_on = match self.train_on {
            TrainOn::Last => TrainOn::Last,
            TrainOn::Assistant | TrainOn::Completion | TrainOn::All => TrainOn::Assistant,
        };
        match answered {
            Answered::Chat(chat) => self.chat(chat, location, train_on),
            Answered::Plain { prompt, completion } => self.completion(prompt, completion, train_on),
            Answered::Tokens { prompt, answer } => {
                let (ids, labels) = labelled(prompt, answer);
                Ok(Draft { encoding: Encoding { ids, offsets: Vec::new() }, labels, ..Draft::default() })
            }
        }
    }

    /// What is read of a labelled row: all of its text, as it is written where it is trained. No token is learned, so what
    /// the gate asks of trained tokens does not apply.
    fn labelled(
        &self,
        content: &Content,
        label: Option<Label>,
        weight: f32,
        location: &Location,
    ) -> Result<Draft, DataError> {
        let mut draft = match content {
            Content::Text(text) => {
                let mut draft = self.plain(text, 0)?;
                draft.notes.empty.0 = usize::from(text.trim().is_empty());
                draft
            }
            Content::Completion { prompt, completion } => self.completion(prompt, completion, TrainOn::All)?,
            Content::Chat(chat) => self.chat(chat, location, TrainOn::All)?,
            Content::Tokens { input_ids, .. } => {
                Draft { encoding: Encoding { ids: input_ids.clone(), offsets: Vec::new() }, ..Draft::default() }
            }
            Content::Tensors(_)
            | Content::Captioned { .. }
            | Content::Image(_)
            | Content::Preference { .. }
            | Content::Unpaired { .. }
            | Content::Labelled { .. } => {
                return Err(DataError::row(location, "a text, a dialogue or tokens beside the label", "another row"));
            }
        };
        if draft.encoding.ids.is_empty() {
            return Err(DataError::row(location, "at least one token, at which the row is read", "none"));
        }
        draft.labels = vec![NOT_TRAINED; draft.encoding.ids.len()];
        draft.factors = Vec::new();
        draft.label = Some(RowLabel { label, weight });
        let Notes { rendered, lossy, control, empty, media, .. } = draft.notes;
        draft.notes = Notes { rendered, lossy, control, empty, media, ..Notes::default() };
        Ok(draft)
    }

    fn completion(&self, prompt: &str, completion: &str, train_on: TrainOn) -> Result<Draft, DataError> {
        let start = match train_on {
            TrainOn::All => 0,
            TrainOn::Assistant | TrainOn::Last | TrainOn::Completion => prompt.len(),
        };
        let mut draft = self.plain(&format!("{prompt}{completion}"), start)?;
        let cut = prompt.len();
        let straddles = |offset: &std::ops::Range<usize>| offset.start < cut && offset.end > cut;
        draft.notes.straddles = draft.encoding.offsets.iter().any(straddles);
        draft.notes.empty = (usize::from(completion.trim().is_empty()), 0);
        let special = self.tokenizer()?.special();
        // BOS and EOS are allowed in the text: they may be written there on purpose.
        let bos = special.texts.get("bos_token").map_or("", String::as_str);
        let eos = special.texts.get("eos_token").map_or("", String::as_str);
        let inner = [prompt.strip_prefix(bos).unwrap_or(prompt), completion.strip_suffix(eos).unwrap_or(completion)];
        draft.notes.control = inner.iter().any(|text| self.spells_control(text));
        draft.roles = self.roles(&draft.encoding, &[(Role::User, cut), (Role::Assistant, usize::MAX)]);
        Ok(draft)
    }

    /// Whether the tokenizer would read a part of the text as a control token.
    fn spells_control(&self, text: &str) -> bool {
        self.tokenizer.as_ref().is_some_and(|tokenizer| {
            tokenizer.special_texts().iter().any(|special| !special.is_empty() && text.contains(special.as_str()))
        })
    }

    /// Text without a template: the tokens that the tokenizer puts before it, the text, and the EOS token. Everything
    /// from byte `start` on is labelled, the EOS included.
    fn plain(&self, text: &str, start: usize) -> Result<Draft, DataError> {
        let tokenizer = self.tokenizer()?;
        let mut encoding = tokenizer.encode_with_offsets(text, false)?;
        let eos = tokenizer.special().eos_id;
        encoding.surround(tokenizer.prefix(), eos.as_slice());
        let trained = start..text.len();
        let mut labels = labels::labels(&encoding, std::slice::from_ref(&trained));
        if let (Some(eos), Some(last)) = (eos, labels.last_mut()) {
            *last = i64::from(eos);
        }
        if start == 0 {
            // Tokens around the text cover no byte of it, so labels by bytes would miss them.
            labels = encoding.ids.iter().map(|id| i64::from(*id)).collect();
        }
        let notes = Notes { unended: usize::from(eos.is_none()), end: eos, ..Notes::default() };
        let text = Some(text.to_string());
        Ok(Draft { encoding, labels, factors: Vec::new(), text, roles: None, label: None, notes })
    }

    fn chat(&self, chat: &Chat, location: &Location, train_on: TrainOn) -> Result<Draft, DataError> {
        let Some(led) = self.system.as_ref().and_then(|system| chat.led_by(system)) else {
            return self.dialogue(chat, location, train_on);
        };
        self.dialogue(&led, location, train_on).map_err(|error| match error {
            // Messages are counted as they stand in the row.
            DataError::Render { location, message, why } => {
                DataError::Render { location, message: message.saturating_sub(1).max(1), why }
            }
            error => error,
        })
    }

    fn dialogue(&self, chat: &Chat, location: &Location, train_on: TrainOn) -> Result<Draft, DataError> {
        let tokenizer = self.tokenizer()?;
        let template = self.template.as_ref().ok_or_else(|| {
            DataError::Config(format!(
                "{location}: rows with messages need a chat template; set `template` to a .jinja file or one of {}",
                Builtin::names()
            ))
        })?;
        let mut rendered = labels::render(template, tokenizer.special_texts(), chat, train_on, location)?;
        // `{% generation %}` says itself where an answer ends.
        if train_on != TrainOn::All && !template.marks_generation(chat.tools.is_some()) {
            labels::end_at_headers(&mut rendered, tokenizer.special_texts(), || tokenizer.end_texts());
        }
        // The template writes BOS itself where the model wants one, as in transformers.
        let encoding = tokenizer.encode_with_offsets(&rendered.text, false)?;
        let labels = labels::labels(&encoding, &rendered.spans);
        let factors = match rendered.factors.iter().any(|factor| *factor != 1.0) {
            true => labels::factors(&encoding, &rendered.spans, &rendered.factors),
            false => Vec::new(),
        };
        let mut notes = Notes {
            rendered: true,
            order: OddOrder::of(chat),
            rewritten: rendered.rewritten,
            opened: rendered.opened,
            lost_thought: rendered.lost_thought,
            header: train_on != TrainOn::All
                && !template.marks_generation(chat.tools.is_some())
                && template.unprompted_header().is_some(),
            ..Notes::default()
        };
        notes.control = chat.messages.iter().filter_map(Message::content).any(|text| self.spells_control(text));
        if train_on != TrainOn::All {
            for span in &rendered.spans {
                let last = encoding.offsets.iter().rposition(|offset| span.contains(&offset.start));
                let end = last.map(|index| encoding.ids[index]);
                let ended = end.is_some_and(|id| tokenizer.is_special(id) || tokenizer.eos_ids().contains(&id));
                // Of several ends the one is kept that generation would not stop at.
                if notes.end.is_none_or(|end| tokenizer.eos_ids().contains(&end)) {
                    notes.end = end;
                }
                notes.unended += usize::from(last.is_some() && !ended);
            }
        }
        for message in chat.messages.iter().filter(|message| message.is_empty()) {
            match message.role {
                Role::User | Role::Assistant => notes.empty.0 += 1,
                Role::System | Role::Tool => notes.empty.1 += 1,
            }
        }
        let roles = match self.keep_text {
            true => {
                self.roles(&encoding, &labels::message_ends(template, tokenizer.special_texts(), chat, &rendered.text))
            }
            false => None,
        };
        Ok(Draft { encoding, labels, factors, text: Some(rendered.text), roles, label: None, notes })
    }

    /// The role of each token, from the bytes at which messages end in the rendered text.
    fn roles(&self, encoding: &Encoding, ends: &[(Role, usize)]) -> Option<Vec<Option<Role>>> {
        let role = |start: usize| ends.iter().find(|(_, end)| start < *end).map(|(role, _)| *role);
        self.keep_text.then(|| encoding.offsets.iter().map(|offset| role(offset.start)).collect())
    }

    fn tokenizer(&self) -> Result<&Tokenizer, DataError> {
        self.tokenizer.as_ref().ok_or(DataError::NoTokenizer { looked_in: None })
    }

    fn truncate(&self, piece: Piece, is_text: bool, location: &Location) -> Result<Truncated, DataError> {
        let Piece { tokens, mut notes } = piece;
        let (length, max) = (tokens.input_ids.len(), self.max_length);
        notes.labelled_before = tokens.labelled();
        if length <= max {
            return Ok(Truncated::Pieces(vec![Piece { tokens, notes }]));
        }
        if self.truncation == Truncation::Split && is_text {
            let pieces = (0..length).step_by(max).map(|start| {
                let tokens = tokens.slice(start..length.min(start.saturating_add(max)));
                Piece { notes: Notes { labelled_before: tokens.labelled(), ..notes.clone() }, tokens }
            });
            return Ok(Truncated::Pieces(pieces.collect()));
        }
        notes.cut_from = Some(length);
        let tokens = match self.truncation {
            Truncation::Refuse => {
                return Err(DataError::TooLong { location: location.clone(), tokens: length, max_length: max });
            }
            Truncation::Drop => return Ok(Truncated::Dropped { tokens: length }),
            Truncation::KeepStart | Truncation::Split => tokens.slice(0..max),
            Truncation::KeepEnd => {
                let prefix = self.tokenizer.as_ref().map_or(&[][..], Tokenizer::prefix);
                let bos = match tokens.input_ids.starts_with(prefix) {
                    true => prefix.len().min(max),
                    false => 0,
                };
                let mut cut = tokens.slice(0..bos);
                cut.append(tokens.slice(length - (max - bos)..length));
                cut
            }
        };
        Ok(Truncated::Pieces(vec![Piece { tokens, notes }]))
    }
}

/// The tokens of one example, with the notes that the gate needs.
struct Piece {
    tokens: Tokens,
    notes: Notes,
}

/// The result of truncating a row.
enum Truncated {
    Pieces(Vec<Piece>),
    Dropped { tokens: usize },
}

/// The tokens of a row before its weight is known.
#[derive(Default)]
struct Draft {
    encoding: Encoding,
    labels: Vec<i64>,
    /// One factor per label where messages have weights of their own, else empty.
    factors: Vec<f32>,
    text: Option<String>,
    roles: Option<Vec<Option<Role>>>,
    /// The label of the whole row.
    label: Option<RowLabel>,
    notes: Notes,
}

/// A prompt and an answer in tokens as one row, with labels on the answer.
fn labelled(prompt: &[u32], answer: &[u32]) -> (Vec<u32>, Vec<i64>) {
    let labels = answer.iter().map(|id| i64::from(*id));
    ([prompt, answer].concat(), std::iter::repeat_n(NOT_TRAINED, prompt.len()).chain(labels).collect())
}

/// An answer with its prompt, without the judgement.
impl From<Answered> for Content {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Chat(chat) => Content::Chat(chat),
            Answered::Plain { prompt, completion } => Content::Completion { prompt, completion },
            Answered::Tokens { prompt, answer } => {
                let (input_ids, labels) = labelled(&prompt, &answer);
                Content::Tokens { input_ids, labels }
            }
        }
    }
}

#[cfg(test)]
mod tests;
