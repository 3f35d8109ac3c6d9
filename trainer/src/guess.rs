//! Guesses what a data file holds from its first rows, for a recipe that is not written yet: [`Guess::of`].
//!
//! Names that formats know decide as in a recipe. Other names are guessed by their words: `Customer Question` is asked, `Agent
//! Answer` answers. A guess is always said, and never used where a recipe says nothing.

use std::ops::ControlFlow;
use std::path::Path;

use firebrand_datasets::format::suggest::{self, Suggestion};
use firebrand_datasets::source::{self, Columns, Reading, Row};
use firebrand_datasets::{DataError, Format, Split, decide};
use firebrand_hub::HubDatasets;
use serde_json::{Map, Value};

use crate::error::Error;

/// Rows that are looked at.
const LOOKED_AT: usize = 200;

/// What a source seems to hold.
#[derive(Debug, Clone)]
pub struct Guess {
    /// The source, as it was given.
    pub path: String,
    /// Its format; never `auto`.
    pub format: Format,
    /// Our names of columns, and the file's.
    pub columns: Vec<(&'static str, String)>,
    /// Why, for users.
    pub why: String,
    /// The rows that were looked at.
    pub rows: Vec<Row>,
    /// How many others were broken, and the first problem.
    pub broken: Option<(usize, String)>,
}

impl Guess {
    /// Looks at the first rows of a file, folder, glob or dataset of a hub.
    ///
    /// # Errors
    /// Files that cannot be read or hold no row; columns whose meaning cannot be guessed.
    pub fn of(path: &str) -> Result<Self, Error> {
        let (rows, broken) = first_rows(path)?;
        let decision = match decide(path, Format::Auto, &rows) {
            Ok(decision) => Ok((decision.format, vec![], decision.why)),
            Err(problem) => by_names(&rows).ok_or(problem),
        };
        let (format, columns, why) = decision.map_err(|problem| unknown(path, &rows, &problem))?;
        Ok(Self { path: path.into(), format, columns, why, rows, broken })
    }

    /// The lines of a recipe that name the source.
    pub fn lines(&self) -> String {
        let mut lines = format!("[[data.train]]\npath = {}\nformat = \"{}\"\n", quoted(&self.path), self.format);
        if !self.columns.is_empty() {
            let pairs: Vec<String> =
                self.columns.iter().map(|(ours, theirs)| format!("{ours} = {}", quoted(theirs))).collect();
            lines += &format!("columns = {{ {} }}\n", pairs.join(", "));
        }
        lines
    }

    /// The same rows as dialogues, where they are a text and its continuation: a chat template then renders them.
    pub fn as_dialogues(self) -> Self {
        let texts =
            |row: &Row| ["prompt", "completion"].iter().all(|key| row.object.get(*key).is_some_and(Value::is_string));
        if self.format != Format::PromptCompletion || !self.columns.is_empty() || !self.rows.iter().all(texts) {
            return self;
        }
        let columns = vec![("instruction", "prompt".to_owned()), ("output", "completion".to_owned())];
        let why = format!("{}; the chat template of the model renders them as a question and its answer", self.why);
        Self { format: Format::Alpaca, columns, why, ..self }
    }
}

/// A string as TOML writes it.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

type FirstRows = (Vec<Row>, Option<(usize, String)>);

fn first_rows(path: &str) -> Result<FirstRows, Error> {
    let files = source::expand(path, &Columns::none(), Path::new(""), Split::Train, &HubDatasets, false)?.files;
    let (mut rows, mut broken): (Vec<Row>, Vec<DataError>) = (vec![], vec![]);
    for file in &files {
        source::read(file, &Reading::default(), &mut |row| {
            match row {
                Ok(row) => rows.push(row),
                Err(problem) => broken.push(problem),
            }
            match rows.len() + broken.len() < LOOKED_AT {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if rows.len() + broken.len() >= LOOKED_AT {
            break;
        }
    }
    match (rows.is_empty(), broken.is_empty()) {
        (true, false) => Err(broken.swap_remove(0).into()),
        (true, true) => Err(Error::Request {
            problem: format!("{path}: there is no row in it"),
            help: "name a file with rows".into(),
        }),
        (false, true) => Ok((rows, None)),
        (false, false) => Ok((rows, Some((broken.len(), broken[0].to_string())))),
    }
}

fn unknown(path: &str, rows: &[Row], problem: &DataError) -> Error {
    let keys: Vec<String> = keys(rows).iter().map(|key| quoted(key)).collect();
    Error::Request {
        problem: format!("{path}: {problem}"),
        help: format!(
            "say what the columns are, in [[data.train]] of a recipe: format = \"alpaca\" and columns = {{ instruction = .., \
             output = .. }}, with two of {}",
            keys.join(", ")
        ),
    }
}

/// The names of all columns, in the order in which they come.
pub fn keys(rows: &[Row]) -> Vec<String> {
    let mut keys: Vec<String> = vec![];
    for key in rows.iter().flat_map(|row| row.object.keys()) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

type Meaning = (Format, Vec<(&'static str, String)>, String);

/// What the names and types of columns say.
fn by_names(rows: &[Row]) -> Option<Meaning> {
    let row = typical(rows);
    if let Some(Suggestion { format, columns, meaning }) = suggest::columns(&row) {
        let names: Vec<String> = columns.iter().map(|(_, theirs)| format!("`{theirs}`")).collect();
        return Some((format, columns, format!("by the names of {}: {meaning}", names.join(", "))));
    }
    let texts: Vec<&String> = row.iter().filter(|(_, value)| value.is_string()).map(|(key, _)| key).collect();
    match texts.as_slice() {
        [first, second] => Some((
            Format::Alpaca,
            vec![("instruction", (*first).clone()), ("output", (*second).clone())],
            format!(
                "`{first}` and `{second}` are the only columns of texts; which of them is asked is a guess by their order"
            ),
        )),
        _ => None,
    }
}

/// A row with the columns that most rows have: texts, and lists, which may stand as JSON text.
fn typical(rows: &[Row]) -> Map<String, Value> {
    let mut typical = Map::new();
    for key in keys(rows) {
        let values: Vec<&Value> = rows.iter().filter_map(|row| row.object.get(&key)).collect();
        let is_text = values.len() * 2 >= rows.len() && values.iter().all(|value| value.is_string());
        let list = match values.first() {
            Some(Value::String(text)) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            Some(value) => Some((*value).clone()),
            None => None,
        };
        match list.filter(Value::is_array) {
            Some(list) => typical.insert(key, list),
            None if is_text => typical.insert(key, values[0].clone()),
            None => None,
        };
    }
    typical
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn guess(name: &str, text: &str) -> Result<Guess, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Guess::of(path.to_str().unwrap())
    }

    fn columns(guess: &Guess) -> Vec<(&str, &str)> {
        guess.columns.iter().map(|(ours, theirs)| (*ours, theirs.as_str())).collect()
    }

    #[test]
    fn names_of_formats_decide_as_in_a_recipe() {
        for (row, format) in [
            (json!({"messages": [{"role": "user", "content": "a"}]}), Format::Messages),
            (json!({"instruction": "a", "output": "b"}), Format::Alpaca),
            (json!({"prompt": "a", "completion": "b"}), Format::PromptCompletion),
            (json!({"text": "a"}), Format::Text),
        ] {
            let guess = guess("rows.jsonl", &format!("{row}\n")).unwrap();
            assert_eq!((guess.format, guess.columns.len()), (format, 0));
        }
    }

    #[test]
    fn odd_names_are_guessed_by_their_words() {
        let csv = "Ticket ID,Customer Question,Agent Answer,Priority\n17,How?,So.,high\n18,Why?,Because.,low\n";
        let tickets = guess("tickets.csv", csv).unwrap();
        assert_eq!(tickets.format, Format::Alpaca);
        assert_eq!(columns(&tickets), [("instruction", "Customer Question"), ("output", "Agent Answer")]);
        assert!(
            tickets.lines().contains("columns = { instruction = \"Customer Question\", output = \"Agent Answer\" }")
        );
        for (row, expected) in [
            (
                json!({"userPrompt": "a", "botReply": "b", "n": 3}),
                vec![("instruction", "userPrompt"), ("output", "botReply")],
            ),
            (json!({"q": "a", "a": "b"}), vec![("instruction", "q"), ("output", "a")]),
            (
                json!({"context": "c", "question": "a", "answers": "b", "system_prompt": "s"}),
                vec![
                    ("instruction", "question"),
                    ("input", "context"),
                    ("output", "answers"),
                    ("system", "system_prompt"),
                ],
            ),
            (json!({"dialog": [{"role": "user", "content": "a"}]}), vec![("messages", "dialog")]),
            (json!({"chat": [{"from": "human", "value": "a"}]}), vec![("conversations", "chat")]),
            (
                json!({"prompt": "p", "preferred": "a", "dispreferred": "b"}),
                vec![("chosen", "preferred"), ("rejected", "dispreferred")],
            ),
            (json!({"body": "a", "stars": 3}), vec![("text", "body")]),
            (json!({"left": "a", "right": "b"}), vec![("instruction", "left"), ("output", "right")]),
        ] {
            assert_eq!(columns(&guess("rows.jsonl", &format!("{row}\n")).unwrap()), expected, "{row}");
        }
    }

    #[test]
    fn what_cannot_be_guessed_names_the_columns() {
        let row = json!({"one": "a", "two": "b", "three": "c"});
        let error = guess("rows.jsonl", &format!("{row}\n")).unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("\"one\", \"two\", \"three\""), "{help}");
        assert!(guess("rows.jsonl", "").unwrap_err().to_string().contains("no row"));
        let some = guess("rows.jsonl", "{\"text\": \"a\"}\n{broken\n").unwrap();
        assert!(some.broken.is_some_and(|(count, problem)| count == 1 && problem.contains("rows.jsonl:2")));
    }

    #[test]
    fn a_prompt_and_its_completion_can_be_a_dialogue() {
        let guess = guess("rows.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n").unwrap().as_dialogues();
        assert_eq!(
            (guess.format, columns(&guess)),
            (Format::Alpaca, vec![("instruction", "prompt"), ("output", "completion")])
        );
    }
}
