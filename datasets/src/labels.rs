//! Labels: [`render`] finds which bytes of a rendered dialogue are trained, and [`labels`] which tokens those are.
//!
//! Spans come from the template's `{% generation %}` blocks when it has them: exactly their bytes, as transformers'
//! `return_assistant_tokens_mask` takes them. Otherwise each answer is found in the rendering of the *whole* dialogue.
//! It begins where the rendering of the messages before it ends, *with* the generation prompt, because from there on
//! the model has to write; it ends where the rendering up to it ends, with the turn's end token. Whitespace after a
//! control token (the newline of ChatML) is layout and not trained.
//!
//! Where such a rendering is no prefix of the whole, because the template writes earlier turns differently (Qwen 3 drops
//! their thoughts), both are rendered once more with one character put into a message. The two places at which the
//! change shows are the same place of the dialogue, and what follows them is compared (`dialogue.rs`, `change.rs`):
//! - An answer is trained as the whole dialogue has it, because inference sees later turns with that. What the template
//!   drops of it is not trained, and [`Rendered`] says so.
//! - A generation prompt may hold more than the rendered answer: that of the R1 distills ends in `<think>`, and their
//!   template drops thoughts. The answer then begins behind the header that both share. What the template writes between
//!   the header and the words of an answer (an empty `<think>` block) is trained, unless the generation prompt has it.
//! - Where the end of an answer differs from its end as the last message (`<|end|>` and `<|return|>` of gpt-oss), it ends
//!   with the control token that follows its words.
//!
//! What cannot be told like this is refused, with both renderings.
//!
//! The dialogue is tokenised once, as a whole. A token is trained when it *starts* inside a span. One that starts
//! before the span belongs to the prompt, so a model is never asked for it; one that starts inside and ends after it is
//! what the model writes to end its turn. transformers' mask differs in two cases: it includes a token that covers the
//! start of a span, and where the last character of a span takes several tokens it leaves out all but the first.

mod change;
mod dialogue;
mod header_end;

use std::ops::Range;

use serde_json::Value;

use crate::config::TrainOn;
use crate::error::DataError;
use crate::location::Location;
use crate::record::{Chat, Message, Role};
use crate::template::{ChatTemplate, REASONING};
use crate::tokenizer::Encoding;
use crate::tokens::NOT_TRAINED;
use dialogue::Dialogue;
pub(crate) use header_end::end_at_headers;

/// A rendered dialogue, with the bytes of it that are trained.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rendered {
    pub text: String,
    /// Byte ranges of `text`, in order and without overlap.
    pub spans: Vec<Range<usize>>,
    /// The factor on the loss of each span's tokens.
    pub factors: Vec<f32>,
    /// Whether a trained answer is written otherwise than it would be as the last message.
    pub rewritten: bool,
    /// Whether the generation prompt holds more than what stands before a trained answer.
    pub opened: bool,
    /// Whether a thought of a trained answer is not in the text.
    pub lost_thought: bool,
}

/// Renders a dialogue and finds the spans that are trained.
///
/// # Errors
/// When the template refuses the dialogue, or an answer cannot be found in the rendering.
pub(crate) fn render(
    template: &ChatTemplate,
    special_texts: &[String],
    chat: &Chat,
    train_on: TrainOn,
    location: &Location,
) -> Result<Rendered, DataError> {
    let dialogue = Dialogue::new(template, special_texts, chat);
    let error = |index: usize, why: String| DataError::Render { location: location.clone(), message: index + 1, why };
    let count = chat.messages.len();
    let (text, marked) = dialogue.beginning(count, false).map_err(|why| error(count.saturating_sub(1), why))?;
    if train_on == TrainOn::All {
        let own = |message: &Message| message.train.is_some() || message.weight.is_some();
        if let Some(index) = chat.messages.iter().position(own) {
            let why = "`train` or `weight` on a message has no meaning with train_on = \"all\"";
            return Err(error(index, why.into()));
        }
        let everything = 0..text.len();
        return Ok(Rendered { text, spans: vec![everything], factors: vec![1.0], ..Rendered::default() });
    }
    let turns = turns(chat, train_on);
    if template.marks_generation(chat.tools.is_some()) {
        let spans = marked_spans(&dialogue, chat, marked, &turns).map_err(|(index, why)| error(index, why))?;
        let (spans, factors) = spans.into_iter().unzip();
        return Ok(Rendered { text, spans, factors, ..Rendered::default() });
    }
    let mut rendered = Rendered::default();
    for &index in &turns {
        let answer = dialogue.answer(&text, index).map_err(|why| {
            // Only what trains something is advised.
            let last = turns.last().filter(|last| **last != index);
            let advice = match last.is_some_and(|last| dialogue.answer(&text, *last).is_ok()) {
                true => "train_on = \"last\" trains the last answer, which can be found; else use a template with `{% generation %}`",
                false => "use a template with `{% generation %}` around what the assistant writes",
            };
            error(index, format!("{why}; {advice}"))
        })?;
        let before = rendered.spans.last().map_or(0, |span| span.end);
        if answer.span.start < before {
            return Err(error(index, "the template does not write it behind the answer before it".into()));
        }
        let said = &text[answer.span.clone()];
        rendered.lost_thought |= thought(&chat.messages[index]).is_some_and(|thought| !said.contains(thought));
        rendered.rewritten |= answer.rewritten;
        rendered.opened |= answer.opened;
        rendered.spans.push(answer.span);
        rendered.factors.push(factor(chat, index));
    }
    Ok(Rendered { text, ..rendered })
}

/// The thought that an answer holds, in a field of its own or before its `</think>`.
fn thought(message: &Message) -> Option<&str> {
    let own = REASONING.iter().find_map(|name| message.fields.get(*name).and_then(Value::as_str));
    let thought = own.or_else(|| {
        let (thought, _) = message.content()?.split_once("</think>")?;
        Some(thought.rsplit("<think>").next().unwrap_or(thought))
    });
    thought.map(str::trim).filter(|thought| !thought.is_empty())
}

/// The byte at which each message ends in the rendered text, where that can be told; for showing roles, never for
/// labels.
pub(crate) fn message_ends(
    template: &ChatTemplate,
    special_texts: &[String],
    chat: &Chat,
    text: &str,
) -> Vec<(Role, usize)> {
    let dialogue = Dialogue::new(template, special_texts, chat);
    let mut ends: Vec<(Role, usize)> = Vec::new();
    for (index, message) in chat.messages.iter().enumerate() {
        if let Ok(end) = dialogue.end_of(text, index)
            && ends.last().is_none_or(|(_, before)| *before <= end)
        {
            ends.push((message.role, end));
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

fn factor(chat: &Chat, index: usize) -> f32 {
    chat.messages[index].weight.unwrap_or(1.0)
}

/// A span and the factor on the loss of its tokens.
type Weighed = (Range<usize>, f32);

/// The marked spans that belong to `turns`, and their factors; else the message that has none, and why.
fn marked_spans(
    dialogue: &Dialogue<'_>,
    chat: &Chat,
    marked: Vec<Range<usize>>,
    turns: &[usize],
) -> Result<Vec<Weighed>, (usize, String)> {
    let messages = &chat.messages;
    let assistant: Vec<usize> = (0..messages.len()).filter(|&index| messages[index].role == Role::Assistant).collect();
    if marked.len() == assistant.len() {
        let spans = assistant.iter().zip(marked).filter(|(index, _)| turns.contains(index));
        return Ok(spans.map(|(index, span)| (span, factor(chat, *index))).collect());
    }
    if turns == assistant && turns.iter().all(|&index| factor(chat, index) == 1.0) {
        return Ok(marked.into_iter().map(|span| (span, 1.0)).collect());
    }
    // A template may mark several parts of a message (reasoning, answer), so count the marks that each message adds.
    let mut spans = Vec::new();
    for &index in turns {
        let count = |count: usize| dialogue.marks(count).map_err(|why| (index, why));
        let (before, through) = (count(index)?, count(index + 1)?);
        match marked.get(before..through) {
            Some(own) => spans.extend(own.iter().map(|span| (span.clone(), factor(chat, index)))),
            None => return Err((index, "the template marks other parts when messages follow it".into())),
        }
    }
    Ok(spans)
}

#[cfg(test)]
mod tests;
