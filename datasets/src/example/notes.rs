//! What the gate must know of an example that its tokens do not say: [`Notes`].

use serde::Serialize;

use crate::record::{Chat, Role};

/// What encoding noticed about a row, for the gate's report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Length in tokens before truncation, when it was cut.
    pub cut_from: Option<usize>,
    /// Number of labelled tokens before truncation.
    pub labelled_before: usize,
    /// Number of trained turns that do not end in a control token.
    pub unended: usize,
    /// The token that ended its last trained turn.
    pub end: Option<u32>,
    /// Number of messages without text: of the user or the assistant, and of other roles.
    pub empty: (usize, usize),
    /// Whether a token covers the end of the prompt and the start of the completion.
    pub straddles: bool,
    /// Whether a chat template rendered its text.
    pub rendered: bool,
    /// Whether the text holds U+FFFD, the mark of bytes lost before.
    pub lossy: bool,
    /// Whether a message, a prompt or a completion spells a control token.
    pub control: bool,
    /// Whether a trained answer is written otherwise than it would be as the last message.
    pub rewritten: bool,
    /// Whether the generation prompt holds more than what stands before a trained answer.
    pub opened: bool,
    /// Whether a thought of a trained answer is not in the text.
    pub lost_thought: bool,
    /// Whether the header of an answer is trained, because the template writes no generation prompt.
    pub header: bool,
    /// Whether a prompt and its completion were joined without the chat template that there is.
    pub plain: bool,
    /// How the order of its messages differs from a dialogue's, if it does.
    pub order: Option<OddOrder>,
    /// A hash of the images, sound and video in its row, which a model of text does not see; never 0.
    pub media: Option<u64>,
}

/// Orders of messages that differ from a dialogue's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OddOrder {
    /// The assistant speaks before any user message.
    AssistantFirst,
    /// A system message is not the first message.
    LateSystem,
    /// The user, or the assistant, speaks twice in a row.
    Repeated,
    /// The last message has no answer.
    Unanswered,
}

impl OddOrder {
    pub(crate) fn of(chat: &Chat) -> Option<Self> {
        let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
        let spoken: Vec<Role> = roles.iter().copied().filter(|role| *role != Role::System).collect();
        if spoken.first() == Some(&Role::Assistant) {
            Some(Self::AssistantFirst)
        } else if roles.iter().skip(1).any(|role| *role == Role::System) {
            Some(Self::LateSystem)
        } else if spoken.windows(2).any(|two| two[0] == two[1] && two[0] != Role::Tool) {
            Some(Self::Repeated)
        } else if spoken.last() != Some(&Role::Assistant) {
            Some(Self::Unanswered)
        } else {
            None
        }
    }
}
