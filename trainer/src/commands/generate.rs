//! `firebrand generate`: answers a prompt, a file of prompts, or a dialogue, or makes a picture of a prompt.

mod chat;
mod picture;
mod writing;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::source::{self, Reading};
use firebrand_datasets::tokenizer::end_ids;
use firebrand_datasets::{ChatTemplate, Message, Role, Tokenizer};
use serde_json::{Value, json};

use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::generate::{Asked, Finish, Session};
use crate::inference::{Header, LoadedModel, TemplateCheck, predictor};
use crate::say;
use crate::ui::verbosity;
use writing::{Writing, check_numbers, sampler};

pub fn run(arguments: &GenerateArgs) -> Result<ExitCode, Error> {
    check_numbers(arguments)?;
    let loaded = LoadedModel::new(&arguments.model, &arguments.template)?;
    if let Some(model) = loaded.model.network().denoiser() {
        picture::check_flags(&drawn_by(arguments))?;
        picture::paint(arguments, &loaded, model)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(out) = &arguments.out {
        return Err(Error::Request {
            problem: format!("--out {}: the model writes text, and no picture", out.display()),
            help: "leave --out away: the answer is printed".into(),
        });
    }
    // Checked first, because only a language model needs the tokenizer and template that are checked next.
    predictor(&loaded.model)?;
    let given = drawn_by(arguments);
    if let Some(note) = Asked::of(&loaded.folder).note(&given) {
        verbosity::tell(&format!("note     {note}"));
    }
    let check = if arguments.allow_template_mismatch { TemplateCheck::Waived } else { TemplateCheck::Required };
    match (&arguments.prompt, &arguments.data) {
        (Some(prompt), _) => one(arguments, &loaded, prompt)?,
        (None, Some(path)) => {
            loaded.check_template(&arguments.model, check)?;
            file(arguments, &loaded, path, check)?;
        }
        (None, None) => {
            loaded.check_template(&arguments.model, check)?;
            loaded.check_rendered(&arguments.model, check)?;
            chat::dialogue(arguments, &loaded, template(&loaded)?, tokenizer(&loaded)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The flags given that say how text is drawn.
fn drawn_by(arguments: &GenerateArgs) -> Vec<&'static str> {
    let flags = [
        ("--temperature", arguments.temperature.is_some()),
        ("--top-k", arguments.top_k.is_some()),
        ("--top-p", arguments.top_p.is_some()),
        ("--min-p", arguments.min_p.is_some()),
        ("--repetition-penalty", arguments.repetition_penalty.is_some()),
        ("--stop", !arguments.stop.is_empty()),
    ];
    flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
}

fn one(arguments: &GenerateArgs, loaded: &LoadedModel, prompt: &str) -> Result<(), Error> {
    let tokenizer = tokenizer(loaded)?;
    let ids = tokenizer.encode(prompt, true)?;
    let mut session = Session::new(predictor(&loaded.model)?);
    say!("{prompt}")?;
    Writing { arguments, tokenizer }.answer(&mut session, &ids, Header::default())?;
    say!("\n")?;
    Ok(())
}

/// Answers each row's `messages` (up to the last user turn), `instruction`, `prompt` or `input_ids`; prints one JSON object a line.
fn file(arguments: &GenerateArgs, loaded: &LoadedModel, path: &Path, check: TemplateCheck) -> Result<(), Error> {
    let ends = match &loaded.text.tokenizer {
        Some(tokenizer) => tokenizer.eos_ids().to_vec(),
        None => end_ids(&loaded.folder)?,
    };
    if !arguments.stop.is_empty() {
        tokenizer(loaded)?;
    }
    each_row(path, &arguments.columns, |row, place| {
        let is_dialogue = row.get("messages").is_some();
        if is_dialogue {
            loaded.check_rendered(&arguments.model, check)?;
        }
        let ids = prompt_ids(arguments, loaded, &row, &place)?;
        let mut session = Session::new(predictor(&loaded.model)?);
        let (answer, written, finish) = match &loaded.text.tokenizer {
            Some(tokenizer) => {
                let header = match &loaded.text.template {
                    Some(template) if is_dialogue => Header::of(tokenizer, template)?,
                    _ => Header::default(),
                };
                let (text, written, finish) =
                    Writing { arguments, tokenizer }.generate(&mut session, &ids, header, |_| Ok(()))?;
                (json!(text), written, finish)
            }
            None => {
                let mut sampler = sampler(arguments);
                let (written, finish) = session.generate(&ids, &ends, arguments.max_new_tokens, &mut sampler, |_| {});
                (Value::Null, written, finish)
            }
        };
        let finish = match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        say!("{}\n", json!({ "source": place, "text": answer, "output_ids": written, "finish": finish }))?;
        Ok(())
    })
}

/// Calls `answer` with every row of a file and its place: of a data file as recipes have it, else of lines of JSON.
fn each_row(
    path: &Path,
    columns: &[(String, String)],
    mut answer: impl FnMut(Value, String) -> Result<(), Error>,
) -> Result<(), Error> {
    if source::is_data_file(path) {
        let columns: source::Columns = columns.iter().cloned().collect();
        columns.check().map_err(|problem| Error::Request {
            problem,
            help: "write --columns ours=theirs, such as prompt=Question".into(),
        })?;
        let reading = Reading { columns: &columns, ..Reading::default() };
        let mut result = Ok(());
        source::read(path, &reading, &mut |row| {
            result = row.map_err(Error::from).and_then(|row| {
                let place = row.location.to_string();
                answer(Value::Object(row.object), place)
            });
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        return result;
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", path.display(), index + 1);
        let row: Value = serde_json::from_str(line).map_err(|error| Error::Request {
            problem: format!("{place}: expected a JSON object, found something else: {error}"),
            help: "one JSON object a line".into(),
        })?;
        answer(row, place)?;
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
    } else if let Some(instruction) = row.get("instruction").and_then(Value::as_str) {
        let input = row.get("input").and_then(Value::as_str).filter(|input| !input.is_empty());
        let asked = input.map_or_else(|| instruction.to_owned(), |input| format!("{instruction}\n{input}"));
        let system = arguments.system.as_ref().map(|system| Message::new(Role::System, system));
        let messages = system.into_iter().chain([Message::new(Role::User, asked)]);
        let messages: Vec<Value> = messages.map(|message| Value::Object(message.fields)).collect();
        tokenizer(loaded)?.encode(&template(loaded)?.render(&messages, None, true)?, false)?
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
