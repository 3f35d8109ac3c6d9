//! A folder with a tiny chat model, some rows and a recipe, in which the program runs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use firebrand_tests::tiny;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::firebrand;

/// A LoRA run of a few quick steps on `model` and `data.jsonl`.
pub const RECIPE: &str = r#"model = "model"
output = "run"
seed = 7

[adapter]
kind = "lora"
rank = 2
alpha = 4.0

[data]
max_length = 128

[[data.train]]
path = "data.jsonl"

[train]
steps = 3
batch_size = 2

[optimizer]
learning_rate = 1e-2

[schedule]
kind = "constant"
warmup_steps = 0

[log]
tensorboard = false
"#;

/// The folder.
pub struct Workshop {
    folder: TempDir,
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; absent: ended by a signal.
    pub code: Option<i32>,
    /// What went to stdout.
    pub stdout: String,
    /// What went to stderr.
    pub stderr: String,
}

impl Workshop {
    /// With a model, ten rows of messages and [`RECIPE`].
    pub fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().unwrap() };
        tiny::write(&workshop.path("model"));
        let rows: Vec<Value> = (0..10).map(chat_row).collect();
        workshop.write_rows("data.jsonl", &rows);
        workshop.write("recipe.toml", RECIPE);
        workshop
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes a JSONL file.
    pub fn write_rows(&self, name: &str, rows: &[Value]) {
        self.write(name, &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Reads a JSONL file.
    pub fn read_rows(&self, name: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names in a folder, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program with these arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = firebrand();
        command.env("FIREBRAND_CACHE", self.path("cache"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    /// Runs it to its end, which must be a good one.
    pub fn succeed(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}\n{}{}", said.stdout, said.stderr);
        said
    }

    /// Runs it; it must fail with exit code 1. Gives what it says about that, in one line.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}\n{}{}", said.stdout, said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
        words(&said.stderr)
    }

    /// Starts it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A message without the line breaks, bars and arrows of its layout, so that words can be looked for.
pub fn words(text: &str) -> String {
    let plain = text.replace(['│', '╰', '╭', '─', '▶', '×', '·', '├', '┬', '┴'], " ");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A dialogue, each number another one and of another length.
pub fn chat_row(number: usize) -> Value {
    let answer = ["Yes.", "No, never.", "Ask again later", "It is the third one"][number % 4];
    json!({"messages": [
        {"role": "user", "content": format!("Is it {number}?")},
        {"role": "assistant", "content": format!("{answer} {}", "so ".repeat(number % 3)).trim()},
    ]})
}

macro_rules! assert_says {
    ($message:expr, $($word:expr),+ $(,)?) => {{
        let message = $message;
        $(assert!(message.contains($word), "no {:?} in: {message}", $word);)+
    }};
}
pub(crate) use assert_says;
