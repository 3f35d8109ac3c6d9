//! Built-in chat templates: [`Builtin`] lists those compiled in, for base models that ship none. Each is a `.jinja` file,
//! written after the format that the models of its name were trained with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A template that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// `<|im_start|>role ... <|im_end|>`: Qwen, SmolLM, Yi and many others.
    ChatMl,
    /// `<|start_header_id|>role<|end_header_id|> ... <|eot_id|>`.
    Llama3,
    /// `<s>[INST] <<SYS>> ... [/INST] ... </s>`, one BOS a round.
    Llama2,
    /// `<s>[INST] ...[/INST] ...</s>`, one BOS a dialogue.
    Mistral,
    /// `<start_of_turn>user ... <end_of_turn>`; the system prompt leads the first user turn.
    Gemma,
    /// `<|user|> ... </s>`, with the end token of the tokenizer.
    Zephyr,
    /// `... USER: ... ASSISTANT: ...</s>`, with Vicuna's own system prompt where the dialogue has none.
    Vicuna,
    /// `### Instruction: ... ### Response: ...</s>`, with Alpaca's own preamble where the dialogue has no system prompt.
    Alpaca,
    /// `<|user|> ... <|end|>`.
    Phi3,
    /// `User: ... Assistant: ...` and the end token of the tokenizer.
    Falcon,
    /// `<human>: ... <bot>: ...` and the end token of the tokenizer.
    RedPajama,
    /// `<|user|> ... <|assistant|> ...` and the end token of the tokenizer: OLMo 2 and Tülu.
    Olmo2,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 12] = [
        Builtin::ChatMl,
        Builtin::Llama3,
        Builtin::Llama2,
        Builtin::Mistral,
        Builtin::Gemma,
        Builtin::Zephyr,
        Builtin::Vicuna,
        Builtin::Alpaca,
        Builtin::Phi3,
        Builtin::Falcon,
        Builtin::RedPajama,
        Builtin::Olmo2,
    ];

    /// The name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::ChatMl => "chatml",
            Builtin::Llama3 => "llama3",
            Builtin::Llama2 => "llama2",
            Builtin::Mistral => "mistral",
            Builtin::Gemma => "gemma",
            Builtin::Zephyr => "zephyr",
            Builtin::Vicuna => "vicuna",
            Builtin::Alpaca => "alpaca",
            Builtin::Phi3 => "phi3",
            Builtin::Falcon => "falcon",
            Builtin::RedPajama => "redpajama",
            Builtin::Olmo2 => "olmo2",
        }
    }

    /// The one of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    /// Its Jinja source.
    pub fn source(self) -> &'static str {
        match self {
            Builtin::ChatMl => include_str!("builtin/chatml.jinja"),
            Builtin::Llama3 => include_str!("builtin/llama3.jinja"),
            Builtin::Llama2 => include_str!("builtin/llama2.jinja"),
            Builtin::Mistral => include_str!("builtin/mistral.jinja"),
            Builtin::Gemma => include_str!("builtin/gemma.jinja"),
            Builtin::Zephyr => include_str!("builtin/zephyr.jinja"),
            Builtin::Vicuna => include_str!("builtin/vicuna.jinja"),
            Builtin::Alpaca => include_str!("builtin/alpaca.jinja"),
            Builtin::Phi3 => include_str!("builtin/phi3.jinja"),
            Builtin::Falcon => include_str!("builtin/falcon.jinja"),
            Builtin::RedPajama => include_str!("builtin/redpajama.jinja"),
            Builtin::Olmo2 => include_str!("builtin/olmo2.jinja"),
        }
    }

    /// All names, for messages.
    pub fn names() -> String {
        Self::ALL.map(Builtin::name).join(", ")
    }
}
