//! Records: [`Record`] is what every format becomes before it is rendered: a dialogue, a prompt with its completion,
//! text, tokens, answers with a judgement, or arrays.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::label::Label;
use crate::medium::Medium;
use crate::tensor_file::TensorFile;

/// One row, whatever its format was.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The content that is learned from.
    pub content: Content,
    /// Factor on the loss of the row's tokens.
    pub weight: f32,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A dialogue, rendered by a chat template.
    Chat(Chat),
    /// A prompt and its completion, joined without a template.
    Completion {
        /// Not trained.
        prompt: String,
        /// Trained, with the EOS token after it.
        completion: String,
    },
    /// Text that is trained whole.
    Text(String),
    /// Tokens, taken as they are.
    Tokens {
        /// Token ids.
        input_ids: Vec<u32>,
        /// As long as `input_ids`; -100 = not trained.
        labels: Vec<i64>,
    },
    /// The arrays of a file, taken as they are.
    Tensors(TensorFile),
    /// A picture with a text that belongs to it.
    Captioned {
        /// The encoded picture.
        image: Image,
        /// What is said of it; may be empty.
        text: String,
    },
    /// A picture alone, of which a label says something.
    Image(Image),
    /// A better and a worse answer to one prompt.
    Preference {
        /// The better answer, with the prompt.
        chosen: Answered,
        /// The worse answer, with the same prompt.
        rejected: Answered,
    },
    /// An answer that is good or bad.
    Unpaired {
        /// The answer, with its prompt.
        answered: Answered,
        /// Whether it is good or bad.
        judgement: Judgement,
    },
    /// What is read, and what is to be said of it.
    Labelled {
        /// A dialogue, a text, a prompt with its completion, or tokens.
        content: Box<Content>,
        /// The label; a row that is only scored may have none.
        label: Option<Label>,
    },
}

/// A picture as a row has it: found and read, not decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Where its bytes are.
    pub medium: Medium,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

/// A prompt with an answer to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// A dialogue; its `prompt_messages` is the index at which the answer begins.
    Chat(Chat),
    /// Text without a template.
    Plain {
        /// Not trained.
        prompt: String,
        /// The answer that is judged.
        completion: String,
    },
    /// Tokens, taken as they are.
    Tokens {
        /// Not trained; never empty.
        prompt: Vec<u32>,
        /// The answer that is judged; never empty.
        answer: Vec<u32>,
    },
}

/// The judgement on an answer.
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
    /// The tools that the row offers, in the form that the template takes.
    pub tools: Option<Vec<Value>>,
    /// Number of messages that are the prompt, in rows that tell prompt and answer apart.
    pub prompt_messages: Option<usize>,
}

impl Chat {
    /// The dialogue with the system prompt `system` before it; absent where it has a system message of its own.
    pub fn led_by(&self, system: &str) -> Option<Self> {
        if self.messages.iter().any(|message| message.role == Role::System) {
            return None;
        }
        let mut led = self.clone();
        led.messages.insert(0, Message::new(Role::System, system));
        led.prompt_messages = led.prompt_messages.map(|count| count + 1);
        Some(led)
    }

    /// The messages as values of a template.
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
    /// Factor on the loss of the message's tokens, multiplied with the row's; 0: not trained. Absent: 1.
    pub weight: Option<f32>,
    /// The keys that the template sees: `role`, `content` (a string), and every other key of the row that is not null.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A message of `role` with the text `content`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), role.name().into());
        fields.insert("content".into(), Value::String(content.into()));
        Self { role, train: None, weight: None, fields }
    }

    /// The text of the message; a message that calls a tool may have none.
    pub fn content(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// Whether the message itself excludes it from training, whatever its role.
    pub fn is_untrained(&self) -> bool {
        self.train == Some(false) || self.weight == Some(0.0)
    }

    /// Whether the message has neither text nor calls.
    pub fn is_empty(&self) -> bool {
        self.content().is_none_or(|text| text.trim().is_empty()) && !self.fields.contains_key("tool_calls")
    }
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole dialogue.
    System,
    /// The person who asks.
    User,
    /// The model; its messages are trained.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// Other names for roles, as programs and collections write them.
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

    /// The name in a message's `role`.
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

    /// The role of that name or of a common other name for it, ignoring case.
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
