//! What every format becomes before it is rendered: a dialogue, a prompt with its completion, text, tokens, answers
//! with a judgement on them, or arrays.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::tensor_file::TensorFile;

/// One row, whatever format it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What is learned from.
    pub content: Content,
    /// Factor on the loss of the row's tokens.
    pub weight: f32,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A dialogue; a chat template renders it.
    Chat(Chat),
    /// A prompt and what follows it, as they are: no template.
    Completion {
        /// Not trained.
        prompt: String,
        /// Trained, with the EOS token after it.
        completion: String,
    },
    /// Text that is trained whole.
    Text(String),
    /// Tokens as they are.
    Tokens {
        /// The tokens.
        input_ids: Vec<u32>,
        /// As long as `input_ids`; -100 = not trained.
        labels: Vec<i64>,
    },
    /// The arrays of a file, as they are.
    Tensors(TensorFile),
    /// A better and a worse answer to one prompt.
    Preference {
        /// The better one, with the prompt.
        chosen: Answered,
        /// The worse one, with the same prompt.
        rejected: Answered,
    },
    /// An answer that is good or bad.
    Unpaired {
        /// The answer, with its prompt.
        answered: Answered,
        /// Which of the two.
        judgement: Judgement,
    },
}

/// A prompt with an answer to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// A dialogue; its `prompt_messages` say where the answer begins.
    Chat(Chat),
    /// Text without a template.
    Plain {
        /// Not trained.
        prompt: String,
        /// What is judged.
        completion: String,
    },
}

impl From<Answered> for Content {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Chat(chat) => Content::Chat(chat),
            Answered::Plain { prompt, completion } => Content::Completion { prompt, completion },
        }
    }
}

/// What somebody thought of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// To be made more likely.
    Good,
    /// To be made less likely.
    Bad,
}

/// A dialogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The messages, in order; never empty.
    pub messages: Vec<Message>,
    /// The tools the row offers, as the template takes them.
    pub tools: Option<Vec<Value>>,
    /// How many of the messages are the prompt of a prompt-completion row.
    pub prompt_messages: Option<usize>,
}

impl Chat {
    /// The messages as a template sees them.
    pub fn values(&self) -> Vec<Value> {
        self.messages.iter().map(|message| Value::Object(message.fields.clone())).collect()
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// `Some(false)`: not trained, whatever the recipe says.
    pub train: Option<bool>,
    /// Factor on the loss of the message's tokens, beside the row's; 0: not trained. Absent: 1.
    pub weight: Option<f32>,
    /// What the template sees: `role`, `content` (a string), and every other key of the row but nulls.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A message of `role` saying `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), role.name().into());
        fields.insert("content".into(), Value::String(content.into()));
        Self { role, train: None, weight: None, fields }
    }

    /// The text of the message; a call of a tool may have none.
    pub fn content(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// Whether the message is left out of training, whoever speaks.
    pub fn is_untrained(&self) -> bool {
        self.train == Some(false) || self.weight == Some(0.0)
    }

    /// Whether the message says nothing and calls nothing.
    pub fn is_empty(&self) -> bool {
        self.content().is_none_or(|text| text.trim().is_empty()) && !self.fields.contains_key("tool_calls")
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the scene.
    System,
    /// Asks.
    User,
    /// Answers: what is trained.
    Assistant,
    /// What a tool returned.
    Tool,
}

/// Names that programs and collections give to roles.
const OTHER_NAMES: [(&str, Role); 17] = [
    ("human", Role::User),
    ("prompter", Role::User),
    ("gpt", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bot", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("model", Role::Assistant),
    ("ai", Role::Assistant),
    ("developer", Role::System),
    ("function", Role::Tool),
    ("observation", Role::Tool),
    ("tool_response", Role::Tool),
    ("tool_result", Role::Tool),
    ("tool_results", Role::Tool),
    ("function_response", Role::Tool),
    ("ipython", Role::Tool),
];

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::System, Role::User, Role::Assistant, Role::Tool];

    /// The word in a message's `role`.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    /// The role of that name.
    pub fn by_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role of that name, or of another one that is common for it, in any case.
    pub fn by_alias(name: &str) -> Option<Role> {
        let name = name.to_ascii_lowercase();
        let other = || OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, role)| *role);
        Role::by_name(&name).or_else(other)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
