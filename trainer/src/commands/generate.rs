//! `firebrand generate`: answers a prompt, a file of prompts, or a dialogue.

use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::source::{self, Reading};
use firebrand_datasets::tokenizer::end_ids;
use firebrand_datasets::{ChatTemplate, Message, Role, Tokenizer};
use serde_json::{Value, json};

use crate::cli::GenerateArgs;
use crate::error::Error;
use crate::inference::generate::{Finish, Sampling, Session};
use crate::inference::{Header, LoadedModel, TemplateCheck, predictor};
use crate::say;

pub fn run(arguments: &GenerateArgs) -> Result<ExitCode, Error> {
    check_numbers(arguments)?;
    let loaded = LoadedModel::new(&arguments.model, &arguments.template)?;
    // Checked first, because only a language model needs the tokenizer and template that are checked next.
    predictor(&loaded.model)?;
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
            dialogue(arguments, &loaded)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check_numbers(arguments: &GenerateArgs) -> Result<(), Error> {
    let wrong = if !(arguments.temperature.is_finite() && arguments.temperature >= 0.0) {
        Some(("--temperature", arguments.temperature, "0 (greedy) or more"))
    } else if !(arguments.top_p > 0.0 && arguments.top_p <= 1.0) {
        Some(("--top-p", arguments.top_p, "above 0 and at most 1"))
    } else {
        None
    };
    wrong.map_or(Ok(()), |(name, value, expected)| {
        Err(Error::Request { problem: format!("{name} is {value}"), help: format!("give a number {expected}") })
    })
}

fn sampling(arguments: &GenerateArgs) -> Sampling {
    Sampling::new(arguments.temperature, arguments.top_p, arguments.seed)
}

fn one(arguments: &GenerateArgs, loaded: &LoadedModel, prompt: &str) -> Result<(), Error> {
    let tokenizer = tokenizer(loaded)?;
    let ids = tokenizer.encode(prompt, true)?;
    let mut session = Session::new(predictor(&loaded.model)?);
    say!("{prompt}")?;
    write_answer(arguments, tokenizer, &mut session, &ids, Header::default())?;
    say!("\n")?;
    Ok(())
}

/// Answers each row's `messages` (up to the last user turn), `instruction`, `prompt` or `input_ids`; prints one JSON object a line.
fn file(arguments: &GenerateArgs, loaded: &LoadedModel, path: &Path, check: TemplateCheck) -> Result<(), Error> {
    let stop = match &loaded.text.tokenizer {
        Some(tokenizer) => tokenizer.eos_ids().to_vec(),
        None => end_ids(&loaded.folder)?,
    };
    each_row(path, &arguments.columns, |row, place| {
        if row.get("messages").is_some() {
            loaded.check_rendered(&arguments.model, check)?;
        }
        let ids = prompt_ids(loaded, &row, &place, arguments.system.as_deref())?;
        let mut sampler = sampling(arguments).start();
        let (written, finish) = Session::new(predictor(&loaded.model)?).generate(
            &ids,
            &stop,
            arguments.max_new_tokens,
            &mut sampler,
            |_| {},
        );
        let answer = match &loaded.text.tokenizer {
            Some(tokenizer) => {
                let header = match (&loaded.text.template, row.get("messages")) {
                    (Some(template), Some(_)) => Header::of(tokenizer, template)?,
                    _ => Header::default(),
                };
                json!(header.strip(&tokenizer.decode(&written, true)?))
            }
            None => Value::Null,
        };
        let finish = match finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        say!("{}\n", json!({ "source": place, "text": answer, "output_ids": written, "finish": finish }))
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

fn prompt_ids(loaded: &LoadedModel, row: &Value, place: &str, system: Option<&str>) -> Result<Vec<u32>, Error> {
    let predictor = predictor(&loaded.model)?;
    let (vocabulary, positions) = (predictor.vocab_size(), predictor.position_limit());
    let wrong = |problem: &str| Error::Request {
        problem: format!("{place}: {problem}"),
        help: "a row gives `messages`, a `prompt` string, an `instruction`, or `input_ids`".into(),
    };
    let ids = if let Some(ids) = row.get("input_ids").and_then(Value::as_array) {
        ids.iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| wrong("`input_ids` must be token ids"))?
    } else if let Some(messages) = row.get("messages").and_then(Value::as_array) {
        let asked = messages.iter().rposition(|message| message["role"] != "assistant").map_or(0, |last| last + 1);
        let tools = row.get("tools").and_then(Value::as_array).map(Vec::as_slice);
        let own = messages.iter().any(|message| matches!(message["role"].as_str(), Some("system" | "developer")));
        let system = system.filter(|_| !own).map(system_message);
        let asked: Vec<Value> = system.into_iter().chain(messages[..asked].iter().cloned()).collect();
        let rendered = template(loaded)?.render(&asked, tools, true)?;
        tokenizer(loaded)?.encode(&rendered, false)?
    } else if let Some(instruction) = row.get("instruction").and_then(Value::as_str) {
        let input = row.get("input").and_then(Value::as_str).filter(|input| !input.is_empty());
        let asked = input.map_or_else(|| instruction.to_owned(), |input| format!("{instruction}\n{input}"));
        let message = Value::Object(Message::new(Role::User, asked).fields);
        tokenizer(loaded)?.encode(&template(loaded)?.render(&[message], None, true)?, false)?
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

fn dialogue(arguments: &GenerateArgs, loaded: &LoadedModel) -> Result<(), Error> {
    let (tokenizer, template) = (tokenizer(loaded)?, template(loaded)?);
    let interactive = std::io::stdin().is_terminal();
    let mut session = Session::new(predictor(&loaded.model)?);
    let system: Vec<Value> = arguments.system.as_deref().map(system_message).into_iter().collect();
    let mut messages = system.clone();
    if interactive {
        eprintln!("(empty line or Ctrl-D ends, /new starts over)");
    }
    loop {
        if interactive {
            eprint!("> ");
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).map_err(Error::io(Path::new("standard input")))?;
        let line = line.trim();
        if read == 0 || line.is_empty() {
            return Ok(());
        }
        if line == "/new" {
            messages.clone_from(&system);
            continue;
        }
        messages.push(Value::Object(Message::new(Role::User, line).fields));
        let ids = tokenizer.encode(&template.render(&messages, None, true)?, false)?;
        let header = Header::of(tokenizer, template)?;
        let answer = write_answer(arguments, tokenizer, &mut session, &ids, header)?;
        say!("\n")?;
        messages.push(Value::Object(Message::new(Role::Assistant, answer.trim()).fields));
    }
}

fn system_message(system: &str) -> Value {
    Value::Object(Message::new(Role::System, system).fields)
}

/// Prints the answer token by token, without `header`, and returns its text.
fn write_answer(
    arguments: &GenerateArgs,
    tokenizer: &Tokenizer,
    session: &mut Session<'_>,
    prompt: &[u32],
    mut header: Header,
) -> Result<String, Error> {
    if prompt.is_empty() {
        return Err(Error::Request {
            problem: "the prompt is empty and the tokenizer adds no token to start with".into(),
            help: "give at least one character".into(),
        });
    }
    let mut sampler = sampling(arguments).start();
    let mut stream = tokenizer.decode_stream(true);
    let mut answer = String::new();
    let mut problem: Option<Error> = None;
    session.generate(prompt, tokenizer.eos_ids(), arguments.max_new_tokens, &mut sampler, |token| {
        match stream.push(token) {
            Ok(piece) => {
                if let Err(error) = show(&header.pass(&piece), &mut answer) {
                    problem.get_or_insert(error);
                }
            }
            Err(error) => problem = Some(error.into()),
        }
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    let last = header.pass(&stream.finish()?);
    show(&last, &mut answer)?;
    show(&header.rest(), &mut answer)?;
    Ok(answer)
}

fn show(piece: &str, answer: &mut String) -> Result<(), Error> {
    say!("{piece}")?;
    answer.push_str(piece);
    Ok(())
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
