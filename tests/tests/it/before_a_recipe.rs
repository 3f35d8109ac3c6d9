//! Data before there is a recipe: `data FILE`, and `init`, whose recipes pass `check` as they are.

use serde_json::{Value, json};

use crate::workshop::{RECIPE, Workshop, assert_says, chat_row};

const TICKETS: &str = "Ticket ID,Customer Question,Agent Answer,Priority\n";

fn tickets() -> String {
    let row = |n: usize| format!("{n},Where is {n}?,Sent on day {}.,{}\n", n % 28, ["high", "low"][n % 2]);
    TICKETS.to_owned() + &(0..40).map(row).collect::<String>()
}

/// The report of `check` on a recipe.
fn report(workshop: &Workshop, recipe: &str) -> Value {
    serde_json::from_str(workshop.succeed(&["check", recipe, "--json"]).stdout.trim()).unwrap()
}

#[test]
fn a_file_is_looked_at_without_a_recipe() {
    let workshop = Workshop::new();
    workshop.write("tickets.csv", &tickets());
    let said = workshop.succeed(&["data", "tickets.csv", "--rows", "2"]).stdout;
    let columns = "columns = { instruction = \"Customer Question\", output = \"Agent Answer\" }";
    assert_says!(
        &said,
        "format   alpaca",
        columns,
        "Priority (text)",
        "tickets.csv:2",
        "Where is 1?",
        "init --model M"
    );
    assert!(!said.contains("Where is 2?") && !said.contains('\x1b'), "{said}");
    let said = workshop.succeed(&["data", "tickets.csv", "--json", "--rows", "1"]).stdout;
    let row: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!((&row["source"]["line"], &row["row"]["Agent Answer"]), (&json!(2), &json!("Sent on day 0.")));
}

#[test]
fn a_file_and_a_model_show_tokens_and_labels() {
    let workshop = Workshop::new();
    workshop.write("tickets.csv", &tickets());
    let said = workshop.succeed(&["data", "tickets.csv", "--model", "model", "--json"]).stdout;
    let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 40);
    let text = rows[3]["text"].as_str().unwrap();
    assert_says!(text, "<|im_start|>user\nWhere is 3?<|im_end|>", "assistant\nSent on day 3.<|im_end|>");
    let labels: Vec<i64> = rows[3]["labels"].as_array().unwrap().iter().map(|label| label.as_i64().unwrap()).collect();
    // A token is a character: the answer and its end are trained.
    assert_eq!(labels.iter().filter(|label| **label >= 0).count(), "Sent on day 3.".len() + 1);
    let said = workshop.succeed(&["data", "data.jsonl", "--model", "model", "--rows", "1"]).stdout;
    assert_says!(&said, "messages", "[Y][e][s][.]", "trained tokens are in [brackets]", "1 pack of these rows");
    workshop.succeed(&["data", "data.jsonl", "--model", "model", "--lengths", "--json"]);
    let said = workshop.run(&["data", "recipe.toml", "--model", "model"]);
    assert_eq!(said.code, Some(2));
    assert_says!(said.stderr, "a recipe names its model");
}

#[test]
fn init_writes_a_recipe_that_passes_check_as_it_is() {
    let workshop = Workshop::new();
    let chats: Vec<Value> = (0..60).map(chat_row).collect();
    workshop.write_rows("chats.jsonl", &chats);
    workshop.write("tickets.csv", &tickets());
    let alpaca = |n: usize| json!({"instruction": format!("Say {n}."), "input": "", "output": format!("{n} it is.")});
    workshop.write("alpaca.json", &Value::Array((0..30).map(alpaca).collect()).to_string());
    let text: String = (0..25).map(|n| format!("Once there were {n} dogs.\nThey ran.\n\n")).collect();
    workshop.write("story.txt", &text);
    let pairs: Vec<Value> =
        (0..8).map(|n| json!({"prompt": format!("Is {n}"), "completion": format!(" even {n}")})).collect();
    workshop.write_rows("pairs.jsonl", &pairs);
    for (data, format, rows) in [
        ("chats.jsonl", "messages", 60),
        ("tickets.csv", "alpaca", 40),
        ("alpaca.json", "alpaca", 30),
        ("story.txt", "text", 25),
        ("pairs.jsonl", "alpaca", 8),
    ] {
        let recipe = format!("{data}.toml");
        let said = workshop.succeed(&["init", "--model", "model", "--data", data, "--out", &recipe]).stdout;
        assert_says!(
            &said,
            &format!("wrote    {recipe}"),
            &format!("format   {format}"),
            "lengths",
            "next     firebrand"
        );
        let report = report(&workshop, &recipe);
        let of = |key: &str| report[key].as_u64().unwrap();
        assert_eq!(of("rows") + report["eval_rows"].as_u64().unwrap_or(0), rows, "{data}: {report}");
        assert_eq!(report["eval_rows"].is_null(), rows < 20, "{data}");
        assert!(of("steps") >= 8, "{data}: {report}");
        let written = String::from_utf8(workshop.read(&recipe)).unwrap();
        assert_says!(&written, "# Guessed: ", "max_length = ", "warmup_steps = ", "epochs = ");
        assert_eq!(report["data"]["errors"], json!([]), "{data}");
        // Nothing is cut, and nothing is padded to a length that no row has.
        assert!(!report["data"].to_string().contains("truncated"), "{data}: {report}");
    }
    let said = workshop.succeed(&["train", "tickets.csv.toml", "--output", "run"]);
    assert_says!(&said.stdout, "run/adapter");
}

#[test]
fn init_replaces_no_file_and_names_what_it_cannot_guess() {
    let workshop = Workshop::new();
    let message = workshop.fail(&["init", "--model", "model", "--data", "data.jsonl", "--out", "recipe.toml"]);
    assert_says!(message, "recipe.toml is there already", "--out");
    assert_eq!(workshop.read("recipe.toml"), RECIPE.as_bytes());
    workshop.write_rows("odd.jsonl", &[json!({"one": "a", "two": "b", "three": "c"})]);
    let message = workshop.fail(&["init", "--model", "model", "--data", "odd.jsonl", "--out", "new.toml"]);
    assert_says!(message, "odd.jsonl", "\"one\", \"two\", \"three\"", "columns = {");
    assert!(!workshop.path("new.toml").exists());
    assert_says!(
        workshop.fail(&["init", "--model", "model", "--data", "gone.jsonl", "--out", "new.toml"]),
        "gone.jsonl"
    );
    assert_says!(workshop.fail(&["init", "--model", "./gone", "--data", "data.jsonl", "--out", "new.toml"]), "gone");
}

#[test]
fn tables_with_names_of_their_own_are_measured_scored_and_answered() {
    let workshop = Workshop::new();
    workshop.write("tickets.csv", &tickets());
    let columns = "instruction=Customer Question,output=Agent Answer";
    let said = workshop.succeed(&["eval", "--model", "model", "--data", "tickets.csv", "--columns", columns, "--json"]);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(measured["rows"], json!(40));
    let score = ["score", "--model", "model", "--data", "tickets.csv", "--columns", columns, "--out", "scores.jsonl"];
    workshop.succeed(&score);
    let scores = workshop.read_rows("scores.jsonl");
    assert_eq!((scores.len(), &scores[4]["source"]), (40, &json!({"file": "tickets.csv", "line": 6})));
    assert_eq!(scores[0]["tokens"].as_array().unwrap().len(), scores[0]["logprobs"].as_array().unwrap().len() + 1);
    let ask = ["generate", "--model", "model", "--data", "tickets.csv", "--max-new-tokens", "2"];
    let answer = |columns: &str| -> Vec<Value> {
        let said = workshop.succeed(&[&ask[..], &["--columns", columns]].concat()).stdout;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answers = answer("instruction=Customer Question");
    assert_eq!((answers.len(), &answers[0]["source"]), (40, &json!("tickets.csv:2")));
    assert_eq!(answer("prompt=Customer Question").len(), 40);
    let message = workshop.fail(&[&ask[..], &["--columns", "promt=Customer Question"]].concat());
    assert_says!(message, "`promt`", "`prompt` is there");
    assert_eq!(workshop.run(&[&ask[..], &["--columns", "Question"]].concat()).code, Some(2));
}
