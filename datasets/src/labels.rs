//! Labels: [`render`] finds which bytes of a rendered dialogue are trained, and [`labels`] which tokens those are.
//!
//! Spans come from the template's `{% generation %}` blocks when it has them: exactly their bytes, as transformers'
//! `return_assistant_tokens_mask` takes them. Otherwise they come from prefixes: the span of message `i` is what the
//! message adds to the rendering of the messages before it *with* the generation prompt, because this is what the model
//! has to write there. Such a span ends with the turn's end token; whitespace after a control token (the newline of
//! ChatML) is layout and not trained.
//!
//! The dialogue is tokenised once, as a whole. A token is trained when it *starts* inside a span. One that starts
//! before the span belongs to the prompt, so a model is never asked for it; one that starts inside and ends after it is
//! what the model writes to end its turn. transformers' mask differs in two cases: it includes a token that covers the
//! start of a span, and where the last character of a span takes several tokens it leaves out all but the first.

use std::ops::Range;

use crate::config::TrainOn;
use crate::error::DataError;
use crate::location::Location;
use crate::record::{Chat, Message, Role};
use crate::template::{ChatTemplate, calls};
use crate::tokenizer::Encoding;
use crate::tokens::NOT_TRAINED;

/// A rendered dialogue, with the bytes of it that are trained.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendered {
    pub text: String,
    /// Byte ranges of `text`, in order and without overlap.
    pub spans: Vec<Range<usize>>,
    /// The factor on the loss of each span's tokens.
    pub factors: Vec<f32>,
}

/// Renders a dialogue and finds the spans that are trained.
///
/// # Errors
/// When the template refuses the dialogue, or the rendering of its beginning is no prefix of the whole.
pub(crate) fn render(
    template: &ChatTemplate,
    special_texts: &[String],
    chat: &Chat,
    train_on: TrainOn,
    location: &Location,
) -> Result<Rendered, DataError> {
    let dialogue = Dialogue { template, chat, values: calls::values(template, chat), location };
    let count = chat.messages.len();
    let (text, marked) = dialogue.render(count, false, count)?;
    if train_on == TrainOn::All {
        let own = |message: &Message| message.train.is_some() || message.weight.is_some();
        if let Some(index) = chat.messages.iter().position(own) {
            let why = "`train` or `weight` on a message has no meaning with train_on = \"all\"";
            return Err(dialogue.error(index, why.into()));
        }
        let everything = 0..text.len();
        return Ok(Rendered { text, spans: vec![everything], factors: vec![1.0] });
    }
    let turns = turns(chat, train_on);
    let spans = if template.marks_generation(chat.tools.is_some()) {
        dialogue.marked_spans(marked, &turns)?
    } else {
        let spans = turns
            .iter()
            .map(|&index| dialogue.added_span(&text, index, special_texts).map(|span| (span, dialogue.factor(index))));
        spans.collect::<Result<Vec<_>, _>>()?
    };
    let (spans, factors) = spans.into_iter().unzip();
    Ok(Rendered { text, spans, factors })
}

/// The byte at which each message ends in the rendered text, as far as prefixes tell; for showing roles, never for
/// labels.
pub(crate) fn message_ends(template: &ChatTemplate, chat: &Chat, text: &str) -> Vec<(Role, usize)> {
    let values = calls::values(template, chat);
    let mut ends = Vec::new();
    for (index, message) in chat.messages.iter().enumerate() {
        let prefix = template.try_render(&values[..=index], chat.tools.as_deref(), false);
        if let Ok((prefix, _)) = prefix
            && text.starts_with(&prefix)
        {
            ends.push((message.role, prefix.len()));
        }
    }
    ends
}

/// The labels of an encoded text: a token's own id where it starts inside one of `spans`, else -100.
pub(crate) fn labels(encoding: &Encoding, spans: &[Range<usize>]) -> Vec<i64> {
    let mut spans = spans.iter().peekable();
    encoding
        .ids
        .iter()
        .zip(&encoding.offsets)
        .map(|(id, offset)| {
            while spans.peek().is_some_and(|span| span.end <= offset.start) {
                spans.next();
            }
            match spans.peek() {
                Some(span) if span.contains(&offset.start) => i64::from(*id),
                _ => NOT_TRAINED,
            }
        })
        .collect()
}

/// The loss factor of each token: that of the span it starts in, else 1.
pub(crate) fn factors(encoding: &Encoding, spans: &[Range<usize>], factors: &[f32]) -> Vec<f32> {
    let of =
        |start: usize| spans.iter().zip(factors).find(|(span, _)| span.contains(&start)).map(|(_, factor)| *factor);
    encoding.offsets.iter().map(|offset| of(offset.start).unwrap_or(1.0)).collect()
}

/// The indices of the messages that are trained.
fn turns(chat: &Chat, train_on: TrainOn) -> Vec<usize> {
    let messages = &chat.messages;
    // Only the completion of a prompt-completion row is ever trained.
    let first = match (chat.prompt_messages, train_on) {
        (Some(prompt), _) => prompt,
        (None, TrainOn::Completion) => {
            messages.iter().rposition(|message| message.role == Role::User).map_or(0, |index| index + 1)
        }
        (None, _) => 0,
    };
    let mut turns: Vec<usize> =
        (first..messages.len()).filter(|&index| messages[index].role == Role::Assistant).collect();
    if train_on == TrainOn::Last {
        turns.drain(..turns.len().saturating_sub(1));
    }
    turns.retain(|&index| !messages[index].is_untrained());
    turns
}

/// A dialogue that is rendered several times.
struct Dialogue<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    values: Vec<serde_json::Value>,
    location: &'a Location,
}

impl Dialogue<'_> {
    fn error(&self, index: usize, why: String) -> DataError {
        DataError::Render { location: self.location.clone(), message: index + 1, why }
    }

    /// Renders the first `count` messages; an error is attributed to message `blame` (one-based).
    fn render(
        &self,
        count: usize,
        add_generation_prompt: bool,
        blame: usize,
    ) -> Result<(String, Vec<Range<usize>>), DataError> {
        self.template
            .try_render(&self.values[..count], self.chat.tools.as_deref(), add_generation_prompt)
            .map_err(|why| self.error(blame.saturating_sub(1), why))
    }

    /// The bytes that message `index` adds after the generation prompt.
    fn added_span(&self, text: &str, index: usize, special_texts: &[String]) -> Result<Range<usize>, DataError> {
        let (before, _) = self.render(index, true, index + 1)?;
        let whole;
        let through = if index + 1 == self.values.len() {
            text
        } else {
            whole = self.render(index + 1, false, index + 1)?.0;
            &whole
        };
        let advice = "so what is trained cannot be told from what is given; use a template with `{% generation %}`, \
                      or train_on = \"last\" if only earlier turns are rewritten";
        if !through.starts_with(&before) {
            return Err(self.error(
                index,
                format!("the template renders the messages before it differently when it follows, {advice}"),
            ));
        }
        if !text.starts_with(through) {
            return Err(
                self.error(index, format!("the template renders it differently when messages follow it, {advice}"))
            );
        }
        let trimmed = through[before.len()..].trim_end();
        let ends_with_control = special_texts.iter().any(|special| trimmed.ends_with(special.as_str()));
        let end = match ends_with_control {
            true => before.len() + trimmed.len(),
            false => through.len(),
        };
        Ok(before.len()..end)
    }

    fn factor(&self, index: usize) -> f32 {
        self.chat.messages[index].weight.unwrap_or(1.0)
    }

    /// The marked spans that belong to `turns`, and their factors.
    fn marked_spans(&self, marked: Vec<Range<usize>>, turns: &[usize]) -> Result<Vec<(Range<usize>, f32)>, DataError> {
        let messages = &self.chat.messages;
        let assistant: Vec<usize> =
            (0..messages.len()).filter(|&index| messages[index].role == Role::Assistant).collect();
        if marked.len() == assistant.len() {
            let spans = assistant.iter().zip(marked).filter(|(index, _)| turns.contains(index));
            return Ok(spans.map(|(index, span)| (span, self.factor(*index))).collect());
        }
        if turns == assistant && turns.iter().all(|&index| self.factor(index) == 1.0) {
            return Ok(marked.into_iter().map(|span| (span, 1.0)).collect());
        }
        // A template may mark several parts of a message (reasoning, answer), so count the marks that each message
        // adds.
        let mut spans = Vec::new();
        for &index in turns {
            let before = match index {
                0 => 0,
                _ => self.render(index, false, index + 1)?.1.len(),
            };
            let through = self.render(index + 1, false, index + 1)?.1.len();
            match marked.get(before..through) {
                Some(own) => spans.extend(own.iter().map(|span| (span.clone(), self.factor(index)))),
                None => {
                    return Err(self.error(index, "the template marks other parts when messages follow it".into()));
                }
            }
        }
        Ok(spans)
    }
}

#[cfg(test)]
mod tests;
