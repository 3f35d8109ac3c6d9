//! `firebrand generate`: settings, ends, dialogues, and the base that an adapter names.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::workshop::{Said, Workshop, assert_says, chat_row};

/// Answers to `ask.jsonl` with these flags.
fn answers(workshop: &Workshop, flags: &[&str]) -> Vec<Value> {
    let ask = ["generate", "--model", "model", "--data", "ask.jsonl", "--max-new-tokens", "8"];
    let said = workshop.succeed(&[&ask[..], flags].concat());
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn chat(workshop: &Workshop, flags: &[&str], lines: &str) -> Said {
    let chat = ["generate", "--model", "model", "--chat", "--max-new-tokens", "6"];
    let mut command = workshop.command(&[&chat[..], flags].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    said
}

#[test]
fn settings_that_leave_one_token_take_the_likeliest() {
    let workshop = Workshop::new();
    workshop.write_rows("ask.jsonl", &[chat_row(0), json!({"prompt": "once"})]);
    let greedy = answers(&workshop, &[]);
    for flags in [&["--top-k", "1"][..], &["--min-p", "1"], &["--top-p", "1e-9"]] {
        let hot = ["--temperature", "5", "--seed", "3"];
        assert_eq!(answers(&workshop, &[flags, &hot[..]].concat()), greedy, "{flags:?}");
    }
    let ids = |answers: &[Value]| answers.iter().map(|answer| answer["output_ids"].clone()).collect::<Vec<_>>();
    let penalised = answers(&workshop, &["--repetition-penalty", "100"]);
    for answer in ids(&penalised) {
        let mut tokens: Vec<u64> = serde_json::from_value(answer).unwrap();
        let count = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), count, "no token comes twice");
    }
    assert_eq!(answers(&workshop, &["--repetition-penalty", "1"]), greedy);
    for flag in ["--top-p=0", "--min-p=1.5", "--repetition-penalty=0", "--temperature=-1"] {
        let name = flag.split('=').next().unwrap();
        assert_says!(workshop.fail(&["generate", "--model", "model", "--prompt", "a", flag]), name);
    }
    let said =
        workshop.succeed(&["generate", "--model", "model", "--prompt", "a", "--top-k", "3", "--max-new-tokens", "1"]);
    assert_says!(&said.stderr, "--top-k changes nothing at temperature 0");
}

#[test]
fn an_answer_ends_before_a_stop_text() {
    let workshop = Workshop::new();
    workshop.write_rows("ask.jsonl", &[json!({"prompt": "once"})]);
    let whole = answers(&workshop, &[])[0]["text"].as_str().unwrap().to_string();
    let middle: Vec<usize> = whole.char_indices().map(|(place, _)| place).collect();
    let (start, end) = (middle[middle.len() / 2], middle[middle.len() / 2 + 2]);
    let stop = &whole[start..end];
    let expected = &whole[..whole.find(stop).unwrap()];
    let stopped = answers(&workshop, &["--stop", "never said", "--stop", stop]);
    assert_eq!((&stopped[0]["text"], &stopped[0]["finish"]), (&json!(expected), &json!("stop")));
    let prompt = ["generate", "--model", "model", "--prompt", "once", "--max-new-tokens", "8", "--stop", stop];
    assert_eq!(workshop.succeed(&prompt).stdout, format!("once{expected}\n"));
}

#[test]
fn an_answer_ends_at_any_end_token_of_the_folder() {
    let workshop = Workshop::new();
    workshop.write_rows("ask.jsonl", &[json!({"prompt": "once"})]);
    let free: Vec<u64> = serde_json::from_value(answers(&workshop, &[])[0]["output_ids"].clone()).unwrap();
    let place = 1 + free[1..].iter().position(|id| !free[..1].contains(id)).unwrap();
    let first = free.iter().position(|id| *id == free[place]).unwrap();
    let read = |name: &str| -> Value { serde_json::from_slice(&workshop.read(name)).unwrap() };
    for name in ["model/generation_config.json", "model/config.json"] {
        let before = workshop.read(name);
        for end in [json!(free[place]), json!([95, free[place]])] {
            let mut config = read(name);
            config["eos_token_id"] = end;
            workshop.write(name, &config.to_string());
            let answer = &answers(&workshop, &[])[0];
            assert_eq!(answer["output_ids"], json!(free[..first]), "{name}");
            assert_eq!(answer["finish"], "stop");
        }
        std::fs::write(workshop.path(name), before).unwrap();
    }
}

/// Row 50.
#[test]
fn what_the_folder_asks_of_generation_and_is_not_done_is_named() {
    let workshop = Workshop::new();
    let prompt = ["generate", "--model", "model", "--prompt", "once", "--max-new-tokens", "1"];
    assert!(!workshop.succeed(&prompt).stderr.contains("generation_config.json"));
    let asked = json!({"do_sample": true, "temperature": 0.7, "repetition_penalty": 1.1, "suppress_tokens": [3]});
    workshop.write("model/generation_config.json", &asked.to_string());
    let said = workshop.succeed(&prompt);
    assert_says!(
        &said.stderr,
        "generation_config.json asks for do_sample = true, temperature = 0.7, repetition_penalty = 1.1, suppress_tokens = [3]",
        "for the same, give --temperature 0.7 --repetition-penalty 1.1",
    );
    let given = workshop.succeed(&[&prompt[..], &["--temperature", "0.7", "--repetition-penalty", "1.1"]].concat());
    assert_says!(&given.stderr, "asks for suppress_tokens = [3]:");
}

#[test]
fn a_dialogue_has_a_system_message_and_commands() {
    let workshop = Workshop::new();
    let ask = |messages: Value, flags: &[&str]| -> String {
        workshop.write_rows("ask.jsonl", &[json!({"messages": messages})]);
        let flags = [flags, &["--max-new-tokens", "6"]].concat();
        let ask = ["generate", "--model", "model", "--data", "ask.jsonl"];
        let said = workshop.succeed(&[&ask[..], &flags].concat());
        serde_json::from_str::<Value>(&said.stdout).unwrap()["text"].as_str().unwrap().to_string()
    };
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let user = turn("user", "Is it 1?");
    let plain = ask(json!([user]), &[]);
    let brief = ask(json!([turn("system", "Be brief, always."), user]), &[]);
    assert_ne!(plain, brief, "the system message matters");
    assert_eq!(ask(json!([user]), &["--system", "Be brief, always."]), brief);
    // A row's own comes first.
    assert_eq!(ask(json!([turn("system", "Be brief, always."), user]), &["--system", "Be long."]), brief);
    let lines = "Is it 1?\n/reset\nIs it 1?\n/system\nIs it 1?\n/system Be brief, always.\nIs it 1?\n/quit\nnever\n";
    let said = chat(&workshop, &["--system", "Be brief, always."], lines);
    assert_eq!(said.stdout, format!("{brief}\n{brief}\n{plain}\n{brief}\n"));
    assert_says!(&chat(&workshop, &[], "/help\n").stderr, "/system TEXT", "/reset");
    let said = workshop.run(&["generate", "--model", "model", "--prompt", "a", "--system", "b"]);
    assert_eq!(said.code, Some(2), "raw text has no system message");
}

#[test]
fn what_the_template_does_not_write_is_said() {
    let workshop = Workshop::new();
    workshop.write("silent.jinja", "{% for m in messages if m.role != 'system' %}{{ m.content }}\n{% endfor %}");
    let said = chat(&workshop, &["--template", "silent.jinja", "--system", "Be brief."], "Is it 1?\n");
    assert_says!(&said.stderr, "leaves the system message out");
    let said = chat(&workshop, &[], "Is it 1?\n");
    assert!(!said.stderr.contains("system message"), "{}", said.stderr);
}

#[test]
fn an_adapter_finds_its_base() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let tail = ["--prompt", "once", "--max-new-tokens", "4"];
    let with = |flags: &[&str]| workshop.run(&[&["generate"], flags, &tail[..]].concat());
    let named = with(&["--model", "model", "--adapter", "run/adapter"]);
    let found = with(&["--adapter", "run/adapter"]);
    assert_eq!((found.code, &found.stdout), (Some(0), &named.stdout));
    assert_says!(&found.stderr, "model    model, as run/adapter/adapter_config.json says");
    let eval = ["eval", "--adapter", "run/adapter", "--data", "data.jsonl", "--json"];
    workshop.succeed(&eval);
    let path = "run/adapter/adapter_config.json";
    let mut config: Value = serde_json::from_slice(&workshop.read(path)).unwrap();
    config["base_model_name_or_path"] = Value::Null;
    workshop.write(path, &config.to_string());
    let said = with(&["--adapter", "run/adapter"]);
    assert_eq!(said.code, Some(1));
    assert_says!(crate::workshop::words(&said.stderr), "names no model", "--model");
    assert_eq!(workshop.run(&["generate", "--prompt", "once"]).code, Some(2));
}
