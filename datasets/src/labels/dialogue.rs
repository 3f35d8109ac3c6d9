//! A dialogue and its renderings: [`Dialogue`] finds where each of its messages stands in the rendering of all of them.

use std::cell::OnceCell;
use std::ops::Range;

use serde_json::Value;

use super::change;
use crate::record::{Chat, Role};
use crate::template::{ChatTemplate, calls};

/// A dialogue that is rendered several times.
pub(super) struct Dialogue<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    values: Vec<Value>,
    /// The texts of the tokenizer's control tokens.
    special: &'a [String],
    prompt: OnceCell<Option<String>>,
}

/// Where an answer stands in the rendering of its whole dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The bytes that the model has to write: from the end of the generation prompt to the end token.
    pub span: Range<usize>,
    /// Whether the generation prompt goes on where the answer begins, as one that opens a tag does.
    pub opened: bool,
    /// Whether the template writes something else for the same message when it is the last.
    pub rewritten: bool,
}

/// Where an answer begins.
struct Start {
    at: usize,
    opened: bool,
    /// What inference sees before it.
    before: Option<String>,
}

/// Where a message ends.
struct End {
    at: usize,
    /// Where the template writes the dialogue up to the message differently: that rendering, the byte at which the
    /// message's own words end in it, and the byte at which they end in the whole.
    alone: Option<(String, usize, usize)>,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(template: &'a ChatTemplate, special: &'a [String], chat: &'a Chat) -> Self {
        Self { template, chat, values: calls::values(template, chat), special, prompt: OnceCell::new() }
    }

    /// Renders the first `count` messages, with the ranges that the template marks.
    pub(super) fn beginning(&self, count: usize, prompt: bool) -> Result<(String, Vec<Range<usize>>), String> {
        self.template.try_render(&self.values[..count], self.chat.tools.as_deref(), prompt)
    }

    /// Renders the first `count` messages with another in the place of message `index`; absent where it is refused.
    fn with(&self, count: usize, prompt: bool, index: usize, message: &Value) -> Option<String> {
        let mut values = self.values[..count].to_vec();
        *values.get_mut(index)? = message.clone();
        self.template.try_render(&values, self.chat.tools.as_deref(), prompt).ok().map(|(text, _)| text)
    }

    /// Finds the answer that message `index` is in `text`, the rendering of all messages.
    ///
    /// # Errors
    /// Why it cannot be found.
    pub(super) fn answer(&self, text: &str, index: usize) -> Result<Answer, String> {
        let start = self.start(text, index)?;
        let end = self.end(text, index)?;
        let own = end.alone.as_ref().map_or(end.at, |(_, _, at)| *at);
        if own < start.at || end.at < start.at {
            return Err("the template does not write it where it belongs when messages follow it".into());
        }
        let rewritten = end.alone.is_some_and(|(alone, end, _)| {
            let here = &text[start.at..own];
            match &start.before {
                Some(before) if alone.starts_with(before) && before.len() <= end => alone[before.len()..end] != *here,
                _ => !alone[..end].ends_with(here),
            }
        });
        let trimmed = text[start.at..end.at].trim_end();
        let at = match self.special.iter().any(|special| trimmed.ends_with(special.as_str())) {
            true => start.at + trimmed.len(),
            false => end.at,
        };
        Ok(Answer { span: start.at..at, opened: start.opened, rewritten })
    }

    /// The byte at which message `index` ends in `text`, with the layout behind it.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub(super) fn end_of(&self, text: &str, index: usize) -> Result<usize, String> {
        let at = self.end(text, index)?.at;
        let layout = text[at..].len() - text[at..].trim_start().len();
        Ok(if text[..at].ends_with(char::is_whitespace) { at } else { at + layout })
    }

    /// Where message `index` ends. What follows its words when it is the last follows them in the whole as well, else
    /// the end token does.
    fn end(&self, text: &str, index: usize) -> Result<End, String> {
        let count = index + 1;
        if count == self.values.len() {
            return Ok(End { at: text.len(), alone: None });
        }
        let through = self.beginning(count, false).map(|(through, _)| through);
        if let Ok(through) = &through
            && text.starts_with(through.as_str())
        {
            return Ok(End { at: through.len(), alone: None });
        }
        for changed in change::variants(&self.chat.messages[index], &self.values[index]) {
            let whole = self.with(self.values.len(), false, index, &changed);
            let Some(at) = whole.and_then(|whole| change::after(text, &whole)) else { continue };
            let alone = through.as_ref().ok().and_then(|through| {
                let own = change::after(through, &self.with(count, false, index, &changed)?)?;
                Some((through.clone(), own))
            });
            let rest = &text[at..];
            let tail = alone.as_ref().map(|(through, own)| &through[*own..]);
            let same = tail.into_iter().flat_map(|tail| [tail, tail.trim_end()]).find(|tail| rest.starts_with(tail));
            if let Some(length) = same.map(str::len).or_else(|| self.end_token(rest)) {
                let alone = alone.map(|(through, own)| (through, own, at));
                return Ok(End { at: at + length, alone });
            }
        }
        Err(match through {
            Ok(through) => format!(
                "the template writes it differently when messages follow it, and where it ends there cannot be told: \
                 {}",
                parting(&through, text)
            ),
            Err(why) => why,
        })
    }

    /// The length of the control token, and the whitespace before it, that `rest` begins with; absent for one that
    /// begins a message.
    fn end_token(&self, rest: &str) -> Option<usize> {
        let trimmed = rest.trim_start();
        let token = self.special.iter().filter(|special| !special.is_empty() && trimmed.starts_with(special.as_str()));
        let token = token.max_by_key(|special| special.len())?;
        let begins = self.prompt().is_some_and(|prompt| prompt.trim_start().starts_with(token.as_str()));
        (!begins).then(|| rest.len() - trimmed.len() + token.len())
    }

    /// The generation prompt, where it is what the template adds to a dialogue.
    fn prompt(&self) -> Option<&str> {
        // Some templates write it only behind a question, or end a whole dialogue in a way of its own.
        let is_answer = |index: &usize| self.chat.messages[*index].role == Role::Assistant;
        let counts = || [self.values.len()].into_iter().chain((1..self.values.len()).filter(is_answer)).take(3);
        let find = |count: usize| {
            let (whole, _) = self.beginning(count, false).ok()?;
            let (asked, _) = self.beginning(count, true).ok()?;
            asked.strip_prefix(&whole).filter(|prompt| !prompt.trim().is_empty()).map(str::to_owned)
        };
        self.prompt.get_or_init(|| counts().find_map(find)).as_deref()
    }

    /// Where the answer of message `index` begins: behind what inference sees before it, or behind as much of that as
    /// the rendering shares with it.
    fn start(&self, text: &str, index: usize) -> Result<Start, String> {
        let before = match self.beginning(index, true) {
            Ok((before, _)) => before,
            Err(why) => {
                let start = self.start_by_prompt(text, index);
                return start.ok_or_else(|| format!("the template refuses what comes before it alone: {why}"));
            }
        };
        if text.starts_with(&before) {
            return Ok(Start { at: before.len(), opened: false, before: Some(before) });
        }
        let (here, there) = self.meeting(text, &before, index);
        let (rest, tail) = (&text[here..], &before[there..]);
        if rest.starts_with(tail) {
            return Ok(Start { at: here + tail.len(), opened: false, before: Some(before) });
        }
        let rest = &rest[..self.begins(text, index).saturating_sub(here).min(rest.len())];
        let shared = change::common_prefix(tail, rest);
        let opened = |at: usize| Start { at, opened: true, before: Some(before.clone()) };
        if shared == rest.len() && !rest.trim().is_empty() {
            return Ok(opened(here + shared));
        }
        if let Some(start) = self.start_by_prompt(text, index) {
            return Ok(start);
        }
        // Both go on, each in its own way: the header that they share ends with a control token or a line.
        let header = self.header(&rest[..shared]);
        let prompt = self.prompt().and_then(|prompt| Some(tail.strip_suffix(prompt)?.len()));
        match prompt.is_some_and(|prompt| prompt < header) {
            true => Ok(opened(here + header)),
            false => Err(format!(
                "the template writes what comes before it differently when it follows, and where it begins cannot be \
                 told: {}",
                parting(&before, text)
            )),
        }
    }

    /// As [`Dialogue::start`], where the template refuses the dialogue before the message.
    fn start_by_prompt(&self, text: &str, index: usize) -> Option<Start> {
        let prompt = self.prompt()?;
        let here = self.meeting(text, text, index).0;
        let end = self.begins(text, index);
        let rest = text.get(here..end)?;
        let mut places = rest.match_indices(prompt);
        if let (Some((at, _)), None) = (places.next(), places.next()) {
            return Some(Start { at: here + at + prompt.len(), opened: false, before: None });
        }
        let shared =
            (1..=prompt.len()).rev().find_map(|length| prompt.get(..length).filter(|part| rest.ends_with(part)));
        shared.filter(|part| self.header(part) > 0).map(|_| Start { at: end, opened: true, before: None })
    }

    /// A place that the whole and what inference sees before message `index` have in common: inside or behind the last
    /// words before it that both show.
    fn meeting(&self, text: &str, before: &str, index: usize) -> (usize, usize) {
        let (systems, others): (Vec<usize>, Vec<usize>) =
            (0..index).rev().partition(|other| self.chat.messages[*other].role == Role::System);
        for other in others.into_iter().chain(systems) {
            for changed in change::variants(&self.chat.messages[other], &self.values[other]) {
                let whole = self.with(self.values.len(), false, other, &changed);
                let Some(here) = whole.and_then(|whole| change::after(text, &whole)) else { continue };
                if before == text {
                    return (here, here);
                }
                let asked = self.with(index, true, other, &changed);
                if let Some(there) = asked.and_then(|asked| change::after(before, &asked)) {
                    return (here, there);
                }
            }
        }
        (0, 0)
    }

    /// The byte from which on `text` depends on what message `index` says, and on which parts it has. Where parts begin
    /// with tags that begin alike, it is before the tag.
    fn begins(&self, text: &str, index: usize) -> usize {
        let replaced = change::replaced(&self.values[index]);
        let mut wholes = replaced.iter().filter_map(|message| self.with(self.values.len(), false, index, message));
        let Some(whole) = wholes.find(|whole| whole != text) else { return text.len() };
        let at = change::common_prefix(text, &whole);
        if change::is_said(&whole[at..]) {
            return at;
        }
        let inside = |special: &String| {
            let around = (at.saturating_sub(special.len()) + 1..at).filter(|start| text.is_char_boundary(*start));
            around.filter(|start| text[*start..].starts_with(special.as_str())).min()
        };
        let token = self.special.iter().filter(|special| !special.is_empty()).filter_map(inside).min();
        let tag = text[..at].rfind('<').filter(|open| !text[*open..at].contains(['>', ' ', '\n']));
        [token, tag].into_iter().flatten().min().unwrap_or(at)
    }

    /// The length of the part of `text` that ends with its last control token or line.
    fn header(&self, text: &str) -> usize {
        let tokens = self.special.iter().filter(|special| !special.is_empty());
        let token = tokens.filter_map(|special| text.rfind(special.as_str()).map(|at| at + special.len())).max();
        token.max(text.rfind('\n').map(|at| at + 1)).unwrap_or(0)
    }

    /// Number of ranges that the template marks in the first `count` messages.
    pub(super) fn marks(&self, count: usize) -> Result<usize, String> {
        Ok(if count == 0 { 0 } else { self.beginning(count, false)?.1.len() })
    }
}

/// Both texts around the place where they part, for messages.
fn parting(alone: &str, whole: &str) -> String {
    const AROUND: usize = 32;
    let at = change::common_prefix(alone, whole);
    let shown = |text: &str| {
        let start = text[..at].char_indices().rev().nth(AROUND - 1).map_or(0, |(at, _)| at);
        let end = text[at..].char_indices().nth(AROUND).map_or(text.len(), |(more, _)| at + more);
        let dots = |cut: bool| if cut { ".." } else { "" };
        format!("`{}{}{}`", dots(start > 0), text[start..end].escape_debug(), dots(end < text.len()))
    };
    format!("up to there it writes {}, of the whole dialogue {}", shown(alone), shown(whole))
}
