//! `firebrand generate`: answers a prompt, a file of prompts, or a dialogue.

mod chat;
mod writing;

use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::tokenizer::end_ids;
use firebrand_datasets::{ChatTemplate, Message, Role, Tokenizer};
use serde_json::{Value, json};

use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::generate::{Asked, Finish, Session};
use crate::inference::{LoadedModel, TemplateCheck, predictor};
use crate::say;
use crate::ui::verbosity;
use writing::{Writing, check_numbers, sampler};

pub fn run(arguments: &GenerateArgs) -> Result<ExitCode, Error> {
    check_numbers(arguments)?;
    let loaded = LoadedModel::new(&arguments.model, &arguments.template)?;
    // Checked first, because only a language model needs the tokenizer and template that are checked next.
    predictor(&loaded.model)?;
    let given = [
        ("--temperature", arguments.temperature.is_some()),
        ("--top-k", arguments.top_k.is_some()),
        ("--top-p", arguments.top_p.is_some()),
        ("--min-p", arguments.min_p.is_some()),
        ("--repetition-penalty", arguments.repetition_penalty.is_some()),
        ("--stop", !arguments.stop.is_empty()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
    if let Some(note) = Asked::of(&loaded.folder).note(&given) {
        verbosity::tell(&format!("note     {note}"));
    }
    let check = if arguments.allow_template_mismatch { TemplateCheck::Waived } else { TemplateCheck::Required };
    match (&arguments.prompt, &arguments.data) {
        (Some(prompt), _) => one(arguments, &loaded, prompt)?,
        (None, Some(path)) => {
            loaded.check_template(&arguments.model, check)?;
            file(arguments, &loaded, path)?;
        }
        (None, None) => {
            loaded.check_template(&arguments.model, check)?;
            chat::dialogue(arguments, &loaded, template(&loaded)?, tokenizer(&loaded)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(arguments: &GenerateArgs, loaded: &LoadedModel, prompt: &str) -> Result<(), Error> {
    let tokenizer = tokenizer(loaded)?;
    let ids = tokenizer.encode(prompt, true)?;
    let mut session = Session::new(predictor(&loaded.model)?);
    say!("{prompt}")?;
    Writing { arguments, tokenizer }.answer(&mut session, &ids)?;
    say!("\n")?;
    Ok(())
}

/// Answers each row's `messages` (up to the last user turn), `prompt` or `input_ids`; prints one JSON object a line.
fn file(arguments: &GenerateArgs, loaded: &LoadedModel, path: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let ends = match &loaded.text.tokenizer {
        Some(tokenizer) => tokenizer.eos_ids().to_vec(),
        None => end_ids(&loaded.folder)?,
    };
    if !arguments.stop.is_empty() {
        tokenizer(loaded)?;
    }
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", path.display(), index + 1);
        let row: Value = serde_json::from_str(line).map_err(|error| Error::Request {
            problem: format!("{place}: expected a JSON object, found something else: {error}"),
            help: "one JSON object a line".into(),
        })?;
        let ids = prompt_ids(arguments, loaded, &row, &place)?;
        let mut session = Session::new(predictor(&loaded.model)?);
        let (answer, written, finish) = match &loaded.text.tokenizer {
            Some(tokenizer) if !arguments.stop.is_empty() => {
                let (text, written, finish) =
                    Writing { arguments, tokenizer }.generate(&mut session, &ids, |_| Ok(()))?;
                (json!(text), written, finish)
            }
            tokenizer => {
                let mut sampler = sampler(arguments);
                let (written, finish) = session.generate(&ids, &ends, arguments.max_new_tokens, &mut sampler, |_| {});
                let text = tokenizer.as_ref().map(|tokenizer| tokenizer.decode(&written, true)).transpose()?;
                (json!(text), written, finish)
            }
        };
        let finish = match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        say!("{}\n", json!({ "source": place, "text": answer, "output_ids": written, "finish": finish }))?;
    }
    Ok(())
}

fn prompt_ids(arguments: &GenerateArgs, loaded: &LoadedModel, row: &Value, place: &str) -> Result<Vec<u32>, Error> {
    let predictor = predictor(&loaded.model)?;
    let (vocabulary, positions) = (predictor.vocab_size(), predictor.position_limit());
    let wrong = |problem: &str| Error::Request {
        problem: format!("{place}: {problem}"),
        help: "a row gives `messages`, a `prompt` string, or `input_ids`".into(),
    };
    let ids = if let Some(ids) = row.get("input_ids").and_then(Value::as_array) {
        ids.iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| wrong("`input_ids` must be token ids"))?
    } else if let Some(messages) = row.get("messages").and_then(Value::as_array) {
        let asked = messages.iter().rposition(|message| message["role"] != "assistant").map_or(0, |last| last + 1);
        let tools = row.get("tools").and_then(Value::as_array).map(Vec::as_slice);
        let mut messages = messages[..asked].to_vec();
        // A row's own system message comes before that of the command.
        if let Some(system) = arguments.system.as_ref().filter(|_| !messages.iter().any(is_system)) {
            messages.insert(0, Value::Object(Message::new(Role::System, system).fields));
        }
        let rendered = template(loaded)?.render(&messages, tools, true)?;
        tokenizer(loaded)?.encode(&rendered, false)?
    } else if let Some(prompt) = row.get("prompt").and_then(Value::as_str) {
        tokenizer(loaded)?.encode(prompt, true)?
    } else {
        return Err(wrong("there is no prompt"));
    };
    match ids.iter().find(|id| **id as usize >= vocabulary) {
        _ if ids.is_empty() => Err(wrong("the prompt is empty")),
        None if positions.is_some_and(|limit| ids.len() > limit) => {
            Err(wrong(&format!("{} tokens, more than the model has positions for", ids.len())))
        }
        Some(id) => Err(wrong(&format!("token id {id}, but the vocabulary has {vocabulary} tokens"))),
        None => Ok(ids),
    }
}

fn is_system(message: &Value) -> bool {
    message["role"] == "system" || message["role"] == "developer"
}

fn tokenizer(loaded: &LoadedModel) -> Result<&Tokenizer, Error> {
    loaded.text.tokenizer.as_ref().ok_or_else(|| Error::Request {
        problem: format!("{} has no tokenizer", loaded.folder.display()),
        help: "text needs a tokenizer; rows of `input_ids` do not".into(),
    })
}

fn template(loaded: &LoadedModel) -> Result<&ChatTemplate, Error> {
    loaded.text.template.as_ref().ok_or_else(|| Error::Request {
        problem: format!("{} has no chat template", loaded.folder.display()),
        help: "name one with --template, such as chatml".into(),
    })
}
