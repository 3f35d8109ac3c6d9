//! Chat templates: [`ChatTemplate`] renders dialogues exactly as transformers' `apply_chat_template` does. Training and
//! inference share it, so a model meets the text that it was trained on.
//!
//! Of several named templates, `tool_use` is used for rows that offer tools, and `default` for the others. Not here:
//! turning Python functions into tool schemas, documents, and content other than text.

mod builtin;
pub(crate) mod calls;
mod engine;
mod found;
mod generator;
mod json;
mod python;
mod rewrite;
mod strings;
mod text;

pub use builtin::Builtin;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use chrono::{NaiveDate, NaiveDateTime};
use minijinja::Value as Variable;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::config::TemplateChoice;
use crate::error::DataError;
use crate::hex::hex;
use crate::tokenizer::{SpecialTokens, Tokenizer};
use engine::Engine;
use found::Found;
pub use found::copy_templates;

/// The name of the template for rows that offer tools.
const TOOL_USE: &str = "tool_use";

/// A compiled chat template with the special tokens of its model.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    name: String,
    source: String,
    default: Engine,
    /// The template for rows that offer tools, where the model has one of its own.
    tool_use: Option<Engine>,
    /// Sources of the model's named templates.
    named: BTreeMap<String, String>,
    special: Vec<(String, String)>,
    /// A place that holds another template, which is not used.
    other: Option<String>,
    /// What the template writes before an answer in place of a generation prompt, once that is known.
    header: OnceLock<Option<String>>,
}

impl ChatTemplate {
    /// Finds and compiles the template that a recipe asks for. Relative paths are looked up in `base`; `date`
    /// (YYYY-MM-DD) is what templates print as today's date, `None` = the clock's date.
    ///
    /// # Errors
    /// When the template is missing or does not compile.
    pub fn load(
        choice: &TemplateChoice,
        base: &Path,
        tokenizer: &Tokenizer,
        date: Option<&str>,
    ) -> Result<Self, DataError> {
        let special = tokenizer.special();
        match choice {
            TemplateChoice::Model => Self::of_model(tokenizer, date),
            TemplateChoice::Builtin(builtin) => Self::from_source(builtin.name(), builtin.source(), special, date),
            TemplateChoice::File(path) => {
                let path = base.join(path);
                let source = std::fs::read_to_string(&path).map_err(|problem| DataError::Template {
                    name: path.display().to_string(),
                    why: format!("{problem}; `template` is `model`, a .jinja file, or one of {}", Builtin::names()),
                })?;
                Self::from_source(&path.display().to_string(), &source, special, date)
            }
        }
    }

    /// Whether a model folder holds a template of its own.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn is_in(folder: &Path) -> Result<bool, DataError> {
        Ok(Found::in_folder(folder)?.is_some())
    }

    fn of_model(tokenizer: &Tokenizer, date: Option<&str>) -> Result<Self, DataError> {
        let found = Found::in_folder(tokenizer.folder())?.ok_or_else(|| found::none(tokenizer.folder()))?;
        let mut template = Self::from_source(&found.name, &found.default, tokenizer.special(), date)?;
        if let Some(source) = found.named.get(TOOL_USE) {
            template.tool_use = Some(template.compile(source, date)?);
            template.source.push('\0');
            template.source.push_str(source);
        }
        (template.named, template.other) = (found.named, found.other);
        Ok(template)
    }

    /// Compiles a template from its source; `name` is for messages. See [`ChatTemplate::load`] for `date`.
    ///
    /// # Errors
    /// When it does not compile, or `date` is not a date.
    pub fn from_source(
        name: &str,
        source: &str,
        special: &SpecialTokens,
        date: Option<&str>,
    ) -> Result<Self, DataError> {
        Ok(Self {
            name: name.to_string(),
            source: source.to_string(),
            default: compile(name, source, date)?,
            tool_use: None,
            named: BTreeMap::new(),
            special: special.texts.iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
            other: None,
            header: OnceLock::new(),
        })
    }

    fn compile(&self, source: &str, date: Option<&str>) -> Result<Engine, DataError> {
        compile(&self.name, source, date)
    }

    /// Renders a dialogue to the text of transformers' `apply_chat_template(messages, tools=tools, tokenize=False,
    /// add_generation_prompt=..)`. Messages are objects with `role` and `content`.
    ///
    /// # Errors
    /// When the template refuses the dialogue, takes too long or writes too much.
    pub fn render(
        &self,
        messages: &[Value],
        tools: Option<&[Value]>,
        add_generation_prompt: bool,
    ) -> Result<String, DataError> {
        self.try_render(messages, tools, add_generation_prompt)
            .map(|(text, _)| text)
            .map_err(|why| DataError::Template { name: self.name.clone(), why })
    }

    /// As [`ChatTemplate::render`], with the byte ranges that the template marks by `{% generation %}`. The error is
    /// only what the template said.
    pub(crate) fn try_render(
        &self,
        messages: &[Value],
        tools: Option<&[Value]>,
        add_generation_prompt: bool,
    ) -> Result<(String, Vec<Range<usize>>), String> {
        let engine = self.engine(tools.is_some());
        if engine.marks_generation()
            && (messages.iter().any(engine::holds_marks)
                || tools.is_some_and(|tools| tools.iter().any(engine::holds_marks)))
        {
            return Err("a text holds U+FDD0 or U+FDD1, which are no characters".into());
        }
        let mut size = 0;
        let messages: Vec<Variable> =
            messages.iter().map(|message| engine::value(&normal(message), &mut size)).collect();
        let tools = match tools {
            None => Variable::from(()),
            Some(tools) => tools.iter().map(|tool| engine::value(tool, &mut size)).collect(),
        };
        let mut variables: Vec<(&str, Variable)> =
            self.special.iter().map(|(name, text)| (name.as_str(), Variable::from(text.as_str()))).collect();
        variables.push(("messages", Variable::from(messages)));
        variables.push(("tools", tools));
        variables.push(("documents", Variable::from(())));
        variables.push(("add_generation_prompt", add_generation_prompt.into()));
        engine.render(Variable::from_pairs(variables), size)
    }

    /// Whether the template itself marks which parts the assistant wrote.
    pub(crate) fn marks_generation(&self, with_tools: bool) -> bool {
        self.engine(with_tools).marks_generation()
    }

    /// The header that the template writes before an answer, if it writes no generation prompt: a model has to write it
    /// itself. Absent for templates with a generation prompt, and for those that write nothing before an answer.
    pub fn unprompted_header(&self) -> Option<&str> {
        const ANSWER: &str = "Seventeen swans";
        let find = || {
            let said = |role: &str, content: &str| json!({ "role": role, "content": content });
            let talk = [said("user", "How many?"), said("assistant", ANSWER)];
            let text = |count: usize, prompt| Some(self.try_render(&talk[..count], None, prompt).ok()?.0);
            let asked = text(1, true).filter(|asked| text(1, false).as_ref() == Some(asked))?;
            let whole = text(2, false)?;
            let (header, _) = whole.strip_prefix(&asked)?.split_once(ANSWER)?;
            (!header.trim().is_empty()).then(|| header.to_owned())
        };
        self.header.get_or_init(find).as_deref()
    }

    /// Whether the text depends on the date of rendering, so that a run must fix its date.
    pub fn tells_the_date(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// The file or built-in name of the template.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Jinja source.
    pub fn source(&self) -> &str {
        self.source.split('\0').next().unwrap_or_default()
    }

    /// Sources of the model's named templates; of them only `tool_use` is used here.
    pub fn named(&self) -> &BTreeMap<String, String> {
        &self.named
    }

    /// What of the model's templates is not used: one in another place, and those whose name says nothing here.
    pub fn unused(&self) -> Option<String> {
        let other = self.other.as_ref().map(|other| format!("the other one in {other}"));
        let names: Vec<&str> = self.named.keys().map(String::as_str).filter(|name| *name != TOOL_USE).collect();
        let named = (!names.is_empty()).then(|| format!("those called {}", names.join(", ")));
        let unused: Vec<String> = [other, named].into_iter().flatten().collect();
        (!unused.is_empty())
            .then(|| format!("the chat template is {}; {} is not used", self.name, unused.join(", and ")))
    }

    /// SHA-256 of its source, on which a trained adapter depends.
    pub fn template_hash(&self) -> String {
        hex(&Sha256::digest(self.source.as_bytes()))
    }

    fn engine(&self, with_tools: bool) -> &Engine {
        match &self.tool_use {
            Some(engine) if with_tools => engine,
            _ => &self.default,
        }
    }
}

fn compile(name: &str, source: &str, date: Option<&str>) -> Result<Engine, DataError> {
    let now = date.map(midnight).transpose()?;
    Engine::new(source, now).map_err(|why| DataError::Template { name: name.to_string(), why })
}

fn midnight(date: &str) -> Result<NaiveDateTime, DataError> {
    NaiveDate::parse_from_str(date, "%Y-%m-%d")
        .map(|day| day.and_time(chrono::NaiveTime::MIN))
        .map_err(|_| DataError::Config(format!("`date` must be YYYY-MM-DD, found `{date}`")))
}

/// Keys under which a message's reasoning is passed; the first is what templates read.
pub(crate) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as transformers passes it to a template: without nulls, its reasoning under both names that templates
/// read.
fn normal(message: &Value) -> Value {
    let Value::Object(fields) = message else {
        return message.clone();
    };
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    let mut normal = Map::new();
    if let Some(reasoning) = reasoning {
        normal.insert("thinking".into(), reasoning.clone());
    }
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        normal.insert(key.clone(), value.clone());
    }
    if let Some(reasoning) = reasoning {
        normal.insert("reasoning_content".into(), reasoning.clone());
    }
    Value::Object(normal)
}

#[cfg(test)]
mod tests;
