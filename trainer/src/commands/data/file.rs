//! `firebrand data FILE`: looks at a data file before there is a recipe.

use std::path::Path;

use firebrand_datasets::source::is_data_file;
use serde_json::{Value, json};

use super::paint::{Paint, visible};
use crate::cli::DataArgs;
use crate::error::Error;
use crate::guess::{Guess, keys, quoted};
use crate::recipe::{Loaded, Recipe};
use crate::say;

/// Characters of a value that are shown.
const WIDTH: usize = 100;

/// Whether the argument is data and not a recipe.
pub fn is_data(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let recipe = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    !recipe && (is_data_file(path) || path.is_dir() || text.starts_with("hf://") || text.contains('*'))
}

/// A recipe for no more than showing the rows of a file as `model` would see them.
///
/// # Errors
/// Rows whose meaning cannot be guessed; a `--set` that is wrong.
pub fn as_recipe(arguments: &DataArgs, model: &str) -> Result<Loaded, Error> {
    let guess = Guess::of(&arguments.recipe.to_string_lossy())?;
    let model = quoted(model);
    let text = format!(
        "model = {model}\noutput = \"runs/none\"\n[data]\nmax_length = 1048576\npacking = false\ncache = \"off\"\n{}",
        guess.lines()
    );
    Ok(Recipe::from_text("the guessed recipe", &text, &arguments.overrides)?)
}

/// Shows what a file holds: its first rows, `few` where the arguments say no number, and what they seem to be.
///
/// # Errors
/// Files that cannot be read.
pub fn show(arguments: &DataArgs, few: usize) -> Result<(), Error> {
    let path = arguments.recipe.to_string_lossy();
    let guess = Guess::of(&path)?;
    let shown = arguments.rows.unwrap_or(few);
    if arguments.json {
        for row in guess.rows.iter().take(arguments.rows.unwrap_or(usize::MAX)) {
            say!("{}\n", json!({ "source": row.location, "row": row.object }))?;
        }
        return Ok(());
    }
    let paint = Paint::of_stdout();
    say!("format   {}: {}\n", guess.format, guess.why)?;
    let columns: Vec<String> =
        keys(&guess.rows).iter().map(|key| format!("{} ({})", visible(key), kind(&guess, key))).collect();
    say!("columns  {}\n", columns.join(", "))?;
    if let Some((count, problem)) = &guess.broken {
        say!("broken   {count} of the first rows, such as {problem}\n")?;
    }
    for row in guess.rows.iter().take(shown) {
        say!("\n{}\n", paint.bold(&row.location.to_string()))?;
        for (key, value) in &row.object {
            say!("  {}  {}\n", paint.dim(&visible(key)), clipped(value))?;
        }
    }
    say!("\nin a recipe:\n{}", guess.lines())?;
    say!("with --model M: tokens and labels; `firebrand init --model M --data {path}` writes a recipe\n")
}

fn kind(guess: &Guess, key: &str) -> &'static str {
    match guess.rows.iter().find_map(|row| row.object.get(key)) {
        None | Some(Value::Null) => "empty",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "text",
        Some(Value::Array(_)) => "list",
        Some(Value::Object(_)) => "object",
    }
}

fn clipped(value: &Value) -> String {
    let text = match value {
        Value::String(text) => visible(text),
        value => visible(&value.to_string()),
    };
    match text.chars().count() > WIDTH {
        true => text.chars().take(WIDTH - 2).chain("..".chars()).collect(),
        false => text,
    }
}
