//! What the gate must know of a row that its tokens do not say.

use serde::Serialize;

use crate::record::{Chat, Role};

/// How a row came to be, as far as the gate reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Its length before truncation, when it was cut.
    pub cut_from: Option<usize>,
    /// Labelled tokens before truncation.
    pub labelled_before: usize,
    /// Trained turns that do not end in a control token.
    pub unended: usize,
    /// The token that ended its last trained turn.
    pub end: Option<u32>,
    /// Messages without text: of the user or assistant, and of others.
    pub empty: (usize, usize),
    /// Whether a token covers the end of the prompt and the start of the completion.
    pub straddles: bool,
    /// Whether a chat template wrote its text.
    pub rendered: bool,
    /// Whether the text holds U+FFFD, the mark of bytes lost elsewhere.
    pub lossy: bool,
    /// Whether a message, a prompt or a completion spells a control token.
    pub control: bool,
    /// Whether its messages follow each other as no dialogue does.
    pub order: Option<OddOrder>,
}

/// Messages that do not follow each other as in a dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OddOrder {
    /// The assistant speaks before anybody asked.
    AssistantFirst,
    /// A system message is not the first.
    LateSystem,
    /// The user, or the assistant, speaks twice in a row.
    Repeated,
    /// Nobody answers the last message.
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
