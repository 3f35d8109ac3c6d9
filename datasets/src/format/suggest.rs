//! Names of columns for rows whose own names no format knows: [`columns`] guesses which column is which by its words,
//! and says what to write into the recipe.

use serde_json::{Map, Value};

use crate::config::Format;

const QUESTION: [&str; 24] = [
    "question",
    "query",
    "prompt",
    "instruction",
    "instructions",
    "request",
    "ask",
    "asked",
    "input",
    "user",
    "human",
    "customer",
    "client",
    "problem",
    "task",
    "source",
    "q",
    "inquiry",
    "message",
    "subject",
    "ticket",
    "utterance",
    "frage",
    "pregunta",
];
const ANSWER: [&str; 26] = [
    "answer",
    "answers",
    "response",
    "reply",
    "output",
    "completion",
    "assistant",
    "agent",
    "bot",
    "gpt",
    "model",
    "target",
    "solution",
    "result",
    "a",
    "expected",
    "label",
    "category",
    "class",
    "intent",
    "translation",
    "summary",
    "highlights",
    "antwort",
    "respuesta",
    "generation",
];
const TEXT: [&str; 12] = [
    "content", "body", "document", "article", "sentence", "review", "passage", "story", "abstract", "raw", "page",
    "comment",
];
const MESSAGES: [&str; 10] =
    ["messages", "conversation", "conversations", "dialogue", "dialog", "chat", "turns", "history", "data", "talk"];
const BETTER: [&str; 8] = ["chosen", "better", "preferred", "accepted", "winner", "good", "positive", "win"];
const WORSE: [&str; 9] = ["rejected", "worse", "dispreferred", "refused", "loser", "bad", "negative", "lose", "other"];
const SYSTEM: [&str; 2] = ["system", "persona"];

/// What the columns of a row are for a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The format that then fits.
    pub format: Format,
    /// Columns that have other names in the file: ours and the file's.
    pub columns: Vec<(&'static str, String)>,
    /// What rows are read as with it.
    pub meaning: &'static str,
}

impl Suggestion {
    /// What to write into the recipe: `columns = { instruction = "Question", output = "Answer" }`.
    pub fn line(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|(ours, theirs)| format!("{ours} = {}", Value::from(theirs.as_str()))).collect();
        format!("columns = {{ {} }}", columns.join(", "))
    }
}

/// Guesses what the columns of a row are.
pub fn columns(row: &Map<String, Value>) -> Option<Suggestion> {
    let texts: Vec<&str> =
        row.iter().filter(|(_, value)| !value.is_array() && !value.is_object()).map(|(key, _)| key.as_str()).collect();
    let lists =
        row.iter().filter(|(_, value)| value.as_array().and_then(|list| list.first()).is_some_and(Value::is_object));
    if let Some((key, value)) = lists.max_by_key(|(key, _)| points(key, &MESSAGES)) {
        let turns = value.as_array().and_then(|list| list.first()).and_then(Value::as_object)?;
        let (format, ours) = match (turns.contains_key("role"), turns.contains_key("from")) {
            (true, _) => (Format::Messages, "messages"),
            (false, true) => (Format::ShareGpt, "conversations"),
            (false, false) => return None,
        };
        return suggestion(format, &[(ours, key)], "dialogues");
    }
    if let (Some(better), Some(worse)) = (best(&texts, &BETTER, &[]), best(&texts, &WORSE, &[])) {
        let question = best(&texts, &QUESTION, &[better, worse])?;
        return suggestion(
            Format::Preference,
            &[("prompt", question), ("chosen", better), ("rejected", worse)],
            "a better and a worse answer",
        );
    }
    let answer = best_over(&texts, &ANSWER, &QUESTION);
    let question = best(&texts, &QUESTION, &answer.into_iter().collect::<Vec<_>>());
    if let (Some(question), Some(answer)) = (question, answer) {
        let mut names: Vec<(&'static str, &str)> = vec![("instruction", question)];
        names.extend(best(&texts, &["context"], &[question, answer]).map(|context| ("input", context)));
        names.push(("output", answer));
        names.extend(best(&texts, &SYSTEM, &[question, answer]).map(|system| ("system", system)));
        return suggestion(
            Format::Alpaca,
            &names,
            "a question and its answer, rendered by the chat template; with `prompt` and `completion` as the names the two \
             are joined without one",
        );
    }
    let text = best(&texts, &TEXT, &[]).or_else(|| {
        let only: Vec<&str> = texts.iter().copied().filter(|key| row[*key].is_string()).collect();
        if only.len() == 1 { only.first().copied() } else { None }
    })?;
    suggestion(Format::Text, &[("text", text)], "text that is trained whole")
}

fn suggestion(format: Format, names: &[(&'static str, &str)], meaning: &'static str) -> Option<Suggestion> {
    let others = names.iter().filter(|(ours, theirs)| ours != theirs);
    let columns: Vec<_> = others.map(|(ours, theirs)| (*ours, theirs.to_string())).collect();
    (!columns.is_empty()).then_some(Suggestion { format, columns, meaning })
}

/// The name with the most of `words`, without those in `taken`.
fn best<'k>(keys: &[&'k str], words: &[&str], taken: &[&str]) -> Option<&'k str> {
    let scored = keys.iter().filter(|key| !taken.contains(key)).map(|key| (points(key, words), *key));
    scored.rev().max_by_key(|(points, _)| *points).filter(|(points, _)| *points > 0).map(|(_, key)| key)
}

/// The name with the most of `words` over those of `against`.
fn best_over<'k>(keys: &[&'k str], words: &[&str], against: &[&str]) -> Option<&'k str> {
    let scored = keys
        .iter()
        .map(|key| (points(key, words) as isize * 2 - points(key, against) as isize, points(key, words), *key));
    scored.rev().filter(|(_, own, _)| *own > 0).max_by_key(|(points, ..)| *points).map(|(.., key)| key)
}

fn points(name: &str, words: &[&str]) -> usize {
    of_name(name).iter().filter(|word| words.contains(&word.as_str())).count()
}

/// The words of a name: `AgentReply`, `agent_reply` and `Agent Reply` are two.
fn of_name(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            spaced.push(' ');
        }
        spaced.push(if c.is_alphanumeric() { c } else { ' ' });
        before = c;
    }
    spaced.split_whitespace().map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(row: Value) -> Option<String> {
        columns(row.as_object().unwrap()).map(|suggestion| suggestion.line())
    }

    #[test]
    fn names_are_guessed_by_their_words() {
        for (row, expected) in [
            (json!({"question": "q", "answer": "a"}), r#"columns = { instruction = "question", output = "answer" }"#),
            (
                json!({"Ticket ID": "1", "Customer Question": "q", "Agent Reply": "a", "Team": "x"}),
                r#"columns = { instruction = "Customer Question", output = "Agent Reply" }"#,
            ),
            (json!({"input": "q", "output": "a"}), r#"columns = { instruction = "input" }"#),
            (json!({"query": "q", "response": "a"}), r#"columns = { instruction = "query", output = "response" }"#),
            (
                json!({"userPrompt": "q", "modelResponse": "a"}),
                r#"columns = { instruction = "userPrompt", output = "modelResponse" }"#,
            ),
            (
                json!({"question": "q", "context": "c", "answer": "a"}),
                r#"columns = { instruction = "question", input = "context", output = "answer" }"#,
            ),
            (
                json!({"user_message": "q", "bot message": "a"}),
                r#"columns = { instruction = "user_message", output = "bot message" }"#,
            ),
            (
                json!({"prompt": "q", "response_a_good": "a", "response_b_bad": "b"}),
                r#"columns = { chosen = "response_a_good", rejected = "response_b_bad" }"#,
            ),
            (json!({"dialogue": [{"role": "user", "content": "a"}]}), r#"columns = { messages = "dialogue" }"#),
            (json!({"talk": [{"from": "human", "value": "a"}], "id": 1}), r#"columns = { conversations = "talk" }"#),
            (json!({"id": 4, "body": "long"}), r#"columns = { text = "body" }"#),
            (json!({"id": 4, "lyrics": "long"}), r#"columns = { text = "lyrics" }"#),
            (
                json!({"quo\"te question": "q", "answer": "a"}),
                r#"columns = { instruction = "quo\"te question", output = "answer" }"#,
            ),
        ] {
            assert_eq!(line(row.clone()).as_deref(), Some(expected), "{row}");
        }
        assert_eq!(line(json!({"x": "1", "y": "2"})), None);
        assert_eq!(line(json!({})), None);
    }
}
