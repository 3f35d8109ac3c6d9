//! A dialogue on the terminal, or of lines from a pipe.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use firebrand_datasets::{ChatTemplate, Message, Role, Tokenizer};
use serde_json::Value;

use super::writing::Writing;
use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::generate::Session;
use crate::inference::{Header, LoadedModel, predictor};
use crate::say;

const HELP: &str = "/help          this list
/reset, /new   start over
/system TEXT   start over with this system message; without a text, with none
/quit          end, as an empty line or Ctrl-D
Anything else is said to the model.";

/// What a line of the user asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Help,
    Reset,
    System(&'a str),
    Quit,
    Say(&'a str),
}

impl<'a> Line<'a> {
    /// Only the words of [`HELP`] are commands: a message may begin with a slash too.
    fn of(line: &'a str) -> Self {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("", _) | ("/quit" | "/exit", "") => Self::Quit,
            ("/help", "") => Self::Help,
            ("/reset" | "/new", "") => Self::Reset,
            ("/system", text) => Self::System(text),
            _ => Self::Say(line),
        }
    }
}

/// Answers line after line.
///
/// # Errors
/// A template that cannot render the dialogue; those of reading and printing.
pub(super) fn dialogue(
    arguments: &GenerateArgs,
    loaded: &LoadedModel,
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let interactive = std::io::stdin().is_terminal();
    let mut session = Session::new(predictor(&loaded.model)?);
    let mut system = arguments.system.clone().filter(|text| !text.trim().is_empty());
    let mut messages = opening(system.as_deref());
    let mut noted = false;
    if interactive {
        eprintln!("(/help lists what can be done; an empty line or Ctrl-D ends)");
    }
    loop {
        if interactive {
            eprint!("> ");
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).map_err(Error::io(Path::new("standard input")))?;
        if read == 0 {
            return Ok(());
        }
        match Line::of(line.trim()) {
            Line::Quit => return Ok(()),
            Line::Help => eprintln!("{HELP}"),
            Line::Reset => messages = opening(system.as_deref()),
            Line::System(text) => {
                system = Some(text.to_string()).filter(|text| !text.is_empty());
                messages = opening(system.as_deref());
                noted = false;
            }
            Line::Say(text) => {
                messages.push(Value::Object(Message::new(Role::User, text).fields));
                let rendered = template.render(&messages, None, true)?;
                if !noted {
                    noted = true;
                    note(&rendered, system.as_deref());
                }
                let ids = tokenizer.encode(&rendered, false)?;
                let answer =
                    Writing { arguments, tokenizer }.answer(&mut session, &ids, Header::of(tokenizer, template)?)?;
                say!("\n")?;
                messages.push(Value::Object(Message::new(Role::Assistant, answer.trim()).fields));
            }
        }
    }
}

fn opening(system: Option<&str>) -> Vec<Value> {
    system.map(|text| Value::Object(Message::new(Role::System, text).fields)).into_iter().collect()
}

/// Says what the template does with the dialogue that the user may not expect.
fn note(rendered: &str, system: Option<&str>) {
    if let Some(system) = system.filter(|text| !rendered.contains(text.trim())) {
        eprintln!("warning: the chat template leaves the system message out: {system:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_words_are_commands() {
        for (line, expected) in [
            ("", Line::Quit),
            ("/quit", Line::Quit),
            ("/exit", Line::Quit),
            ("/help", Line::Help),
            ("/new", Line::Reset),
            ("/reset", Line::Reset),
            ("/system Be brief.", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/help me with /etc", Line::Say("/help me with /etc")),
            ("/etc/passwd: what is it?", Line::Say("/etc/passwd: what is it?")),
            ("hello", Line::Say("hello")),
        ] {
            assert_eq!(Line::of(line), expected, "{line}");
        }
    }
}
