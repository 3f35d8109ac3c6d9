//! `firebrand data`: what it tells of rows is what the other verbs make of them.

use std::ops::ControlFlow;

use firebrand_datasets::source;
use serde_json::{Map, Value, json};

use crate::workshop::{Workshop, assert_says, chat_row};

const COLUMNS: [&str; 10] =
    ["file", "line", "example", "source", "format", "part", "tokens", "labelled_tokens", "truncated_from", "weight"];

/// A table as the reader of data files has it: in CSV every cell is text, and an empty one is absent.
fn table(workshop: &Workshop, name: &str) -> Vec<Map<String, Value>> {
    let mut rows = vec![];
    let mut receiver = |row: Result<source::Row, _>| {
        rows.push(row.unwrap().object);
        ControlFlow::Continue(())
    };
    source::read(&workshop.path(name), &source::Reading::default(), &mut receiver).unwrap();
    rows
}

fn number(row: &Map<String, Value>, name: &str) -> Option<f64> {
    let value = row.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[test]
fn a_table_holds_what_the_rows_are() {
    let workshop = Workshop::new();
    let weighted = json!({"messages": chat_row(1)["messages"], "weight": 0.5});
    let mut rows: Vec<Value> = (0..10).map(chat_row).collect();
    rows.push(weighted);
    workshop.write_rows("data.jsonl", &rows);
    let json = |length: &str| -> Vec<Value> {
        let said = workshop.succeed(&["data", "recipe.toml", "--json", "--set", length]);
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (whole, cut) = (json("data.max_length=128"), json("data.max_length=48"));
    let tokens = |row: &Value| row["input_ids"].as_array().unwrap().len();
    let labelled = |row: &Value| {
        row["labels"].as_array().unwrap().iter().skip(1).filter(|label| label.as_i64().unwrap() >= 0).count()
    };
    for name in ["rows.csv", "rows.parquet"] {
        let said = workshop.succeed(&["data", "recipe.toml", "--stats", name, "--set", "data.max_length=48"]);
        let table = table(&workshop, name);
        assert_eq!(table.len(), 11);
        for (index, row) in table.iter().enumerate() {
            assert!(row["file"].as_str().unwrap().ends_with("data.jsonl"));
            assert_eq!((&row["format"], &row["part"]), (&json!("messages"), &json!("alone")));
            assert_eq!(number(row, "line"), Some(index as f64 + 1.0), "in the order of the data");
            assert_eq!(number(row, "tokens"), Some(tokens(&cut[index]) as f64));
            assert_eq!(number(row, "labelled_tokens"), Some(labelled(&cut[index]) as f64));
            let from = tokens(&whole[index]);
            assert_eq!(number(row, "truncated_from"), (from > 48).then_some(from as f64));
            let weight = if index == 10 { 0.5 } else { 1.0 };
            assert_eq!(number(row, "weight"), Some(if labelled(&cut[index]) > 0 { weight } else { 0.0 }));
        }
        let count = whole.iter().filter(|row| tokens(row) > 48).count();
        assert!((1..11).contains(&count), "some rows are cut, some are not");
        let (sum, learned): (usize, usize) = (cut.iter().map(tokens).sum(), cut.iter().map(labelled).sum());
        assert_says!(&said.stdout, &format!("11 rows, {sum} tokens, {learned} labelled"));
        assert_says!(&said.stdout, &format!("{count} rows cut"), "longest 48", name);
    }
    let header = String::from_utf8(workshop.read("rows.csv")).unwrap();
    assert_eq!(header.lines().next().unwrap(), COLUMNS.join(","));
}

#[test]
fn the_losses_of_a_table_are_those_of_score_and_fall() {
    let workshop = Workshop::new();
    workshop.succeed(&["score", "--model", "model", "--data", "data.jsonl", "--out", "scores.jsonl"]);
    let scores = workshop.read_rows("scores.jsonl");
    for name in ["rows.csv", "rows.parquet"] {
        let said = workshop.succeed(&["data", "recipe.toml", "--stats", name, "--model", "model"]);
        let table = table(&workshop, name);
        assert_eq!(table.len(), 10);
        let mut lines = vec![];
        for row in &table {
            let line = number(row, "line").unwrap() as usize;
            let (loss, score) = (number(row, "loss").unwrap(), scores[line - 1]["loss"].as_f64().unwrap());
            // Here rows are computed together, there one by one: sums of f32 in another order.
            assert!((loss - score).abs() < 1e-5 * score, "line {line}: {loss} {score}");
            assert_eq!(number(row, "perplexity"), Some(loss.exp()));
            assert!((0.0..=1.0).contains(&number(row, "token_accuracy").unwrap()));
            assert_eq!(number(row, "tokens").unwrap() as usize, scores[line - 1]["tokens"].as_array().unwrap().len());
            lines.push(line);
        }
        assert!(table.windows(2).all(|two| number(&two[0], "loss") >= number(&two[1], "loss")), "highest first");
        lines.sort_unstable();
        assert_eq!(lines, (1..=10).collect::<Vec<_>>(), "every row once");
        let eval = workshop.succeed(&["eval", "--model", "model", "--data", "data.jsonl", "--json"]);
        let eval: Value = serde_json::from_str(&eval.stdout).unwrap();
        assert_says!(&said.stdout, &format!("mean loss {:.3}", eval["loss"].as_f64().unwrap()), "highest loss:");
        let accuracy = eval["token_accuracy"].as_f64().unwrap() * 100.0;
        assert_says!(&said.stdout, &format!("token accuracy {accuracy:.2} %"));
        assert_says!(&said.stdout, &format!("data.jsonl:{}\n", number(&table[0], "line").unwrap()));
    }
}

#[test]
fn a_row_of_garbage_comes_first() {
    let workshop = Workshop::new();
    let row = |number: usize, answer: &str| {
        json!({"messages": [
            {"role": "user", "content": format!("Is it {number}?")},
            {"role": "assistant", "content": answer},
        ]})
    };
    let mut rows: Vec<Value> = (0..8).map(|number| row(number, "Yes, it is.")).collect();
    workshop.write_rows("data.jsonl", &rows);
    let teach = ["--set", "train.steps=40", "--set", "optimizer.learning_rate=0.05"];
    workshop.succeed(&[&["train", "recipe.toml"][..], &teach].concat());
    rows.insert(5, row(5, "zQ9;xJ7kW"));
    // A row without an answer has no loss, and is no finding.
    rows.push(json!({"messages": [{"role": "user", "content": "Is it 9?"}]}));
    workshop.write_rows("data.jsonl", &rows);
    let stats = ["data", "recipe.toml", "--stats", "rows.csv", "--model", "model", "--adapter", "run/adapter"];
    let said = workshop.succeed(&stats);
    let table = table(&workshop, "rows.csv");
    assert_eq!(number(&table[0], "line"), Some(6.0));
    let second = number(&table[1], "loss").unwrap();
    assert!(number(&table[0], "loss").unwrap() > 2.0 * second, "by far: {table:?}");
    assert_eq!((number(&table[9], "line"), number(&table[9], "loss")), (Some(10.0), None));
    assert_eq!(number(&table[9], "labelled_tokens"), Some(0.0));
    let worst = said.stdout.lines().skip_while(|line| *line != "highest loss:").nth(1).unwrap();
    assert_says!(worst, "data.jsonl:6");
    // Without the adapter, other losses.
    workshop.succeed(&stats[..6]);
    assert_ne!(number(&self::table(&workshop, "rows.csv")[9 - 1], "loss"), number(&table[9 - 1], "loss"));
}

#[test]
fn a_table_that_cannot_be_written_is_refused_before_anything_is_done() {
    let workshop = Workshop::new();
    for name in ["rows.json", "rows", "rows.csv.gz"] {
        assert_says!(workshop.fail(&["data", "recipe.toml", "--stats", name]), name, ".csv", ".parquet");
        assert!(!workshop.path(name).exists());
    }
    let nowhere = ["data", "recipe.toml", "--stats", "nowhere/rows.csv", "--model", "model"];
    assert_says!(workshop.fail(&nowhere), "nowhere/rows.csv");
    for arguments in [
        &["--model", "model"][..],
        &["--stats", "rows.csv", "--adapter", "adapter"],
        &["--stats", "rows.csv", "--lengths"],
        &["--stats", "rows.csv", "--rows", "2"],
    ] {
        assert_eq!(workshop.run(&[&["data", "recipe.toml"], arguments].concat()).code, Some(2), "{arguments:?}");
    }
    let gone = ["data", "recipe.toml", "--stats", "rows.csv", "--model", "gone"];
    assert_says!(workshop.fail(&gone), "gone");
    assert!(!workshop.path("rows.csv").exists(), "a table is whole or not there");
}

#[test]
fn lengths_are_counted_over_all_rows() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &(0..60).map(chat_row).collect::<Vec<_>>());
    let said = workshop.succeed(&["data", "recipe.toml", "--lengths", "--set", "data.max_length=48"]).stdout;
    assert_says!(&said, "60 rows, ", "longest 48", "█");
    assert!(!said.contains("segment"), "no row is shown: {said}");
    let bins = said.lines().skip_while(|line| !line.contains("tokens ") || !line.contains("cut")).skip(1);
    let counts = bins.map(|line| line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap());
    assert_eq!(counts.sum::<usize>(), 60, "{said}");
    let said = workshop.succeed(&["data", "recipe.toml", "--lengths", "--rows", "2"]).stdout;
    assert_says!(&said, "60 rows, ", "data.jsonl:2  ", "[<|im_end|>]");
    assert!(!said.contains("data.jsonl:3"), "{said}");
    // Without it, those of the rows that were read.
    let said = workshop.succeed(&["data", "recipe.toml", "--rows", "3", "--set", "data.max_length=48"]).stdout;
    assert_says!(&said, "3 rows, ", "--lengths", "(cut from ");
}

#[test]
fn the_other_half_has_a_table_of_its_own() {
    let workshop = Workshop::new();
    workshop.write_rows("held-out.jsonl", &(20..24).map(chat_row).collect::<Vec<_>>());
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    workshop.write("recipe.toml", &format!("{recipe}\n[[data.eval]]\npath = \"held-out.jsonl\"\n"));
    let said = workshop.succeed(&["data", "recipe.toml", "--stats", "rows.csv", "--split", "eval"]);
    let table = table(&workshop, "rows.csv");
    assert_eq!(table.len(), 4);
    assert!(table.iter().all(|row| row["file"].as_str().unwrap().ends_with("held-out.jsonl")));
    assert_says!(&said.stdout, "4 rows, ", "4 rows in rows.csv");
}

#[test]
fn as_many_rows_are_shown_as_were_asked_for() {
    let workshop = Workshop::new();
    let rows: Vec<Value> = (0..100).map(chat_row).collect();
    workshop.write_rows("data.jsonl", &rows);
    let shown = |arguments: &[&str]| {
        let said = workshop.succeed(&[&["data", "recipe.toml", "--json"], arguments].concat());
        said.stdout.lines().count()
    };
    let apart = ["--set", "data.validation_split=0.1", "--split", "eval"];
    let all = shown(&apart);
    assert!(all > 3, "{all}");
    assert_eq!(shown(&[&apart[..], &["--rows", "3"]].concat()), 3);
    assert_eq!(shown(&[&apart[..], &["--rows", "99"]].concat()), all);
    let broken: String = (0..50).map(|_| "{}\n".to_string()).chain(rows.iter().map(|row| format!("{row}\n"))).collect();
    workshop.write("data.jsonl", &broken);
    let skip = ["--set", "data.broken=skip", "--set", "data.train=[{path=\"data.jsonl\",format=\"messages\"}]"];
    assert_eq!(shown(&[&skip[..], &["--rows", "4"]].concat()), 4);
}

#[test]
fn machines_are_told_in_json() {
    let workshop = Workshop::new();
    let object = |arguments: &[&str]| -> Value {
        let said = workshop.succeed(&[&["data", "recipe.toml", "--json"], arguments].concat());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
    };
    let lengths = object(&["--lengths"]);
    assert_eq!(lengths["rows"], 10);
    let lines = lengths["histogram"].as_array().unwrap();
    assert_eq!(lines.iter().map(|line| line["rows"].as_u64().unwrap()).sum::<u64>(), 10);
    assert!(lines.iter().all(|line| line["from"].as_u64() <= line["to"].as_u64()));
    let mut stats = object(&["--stats", "rows.csv", "--model", "model"]);
    let eval = workshop.succeed(&["eval", "--model", "model", "--data", "data.jsonl", "--json"]);
    let eval: Value = serde_json::from_str(&eval.stdout).unwrap();
    assert!((stats["loss"].as_f64().unwrap() - eval["loss"].as_f64().unwrap()).abs() < 1e-4);
    let worst = &table(&workshop, "rows.csv")[0];
    assert_eq!(stats["highest_loss"][0]["line"].as_f64(), number(worst, "line"));
    assert_eq!(stats["highest_loss"].as_array().unwrap().len(), 5);
    assert_eq!(stats["file"], "rows.csv");
    for key in ["loss", "perplexity", "token_accuracy", "highest_loss", "file"] {
        stats.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(stats, lengths);
}

#[test]
fn a_model_with_another_tokenizer_is_warned_about() {
    let workshop = Workshop::new();
    let stats = ["data", "recipe.toml", "--stats", "rows.csv", "--model"];
    let said = workshop.succeed(&[&stats[..], &["model"]].concat());
    assert!(!said.stderr.contains("another tokenizer"), "{}", said.stderr);
    for file in workshop.list("model") {
        let bytes = workshop.read(&format!("model/{file}"));
        std::fs::create_dir_all(workshop.path("other")).unwrap();
        std::fs::write(workshop.path(&format!("other/{file}")), bytes).unwrap();
    }
    let mut tokenizer: Value = serde_json::from_slice(&workshop.read("other/tokenizer.json")).unwrap();
    tokenizer["added_tokens"].as_array_mut().unwrap().pop();
    workshop.write("other/tokenizer.json", &tokenizer.to_string());
    let said = workshop.succeed(&[&stats[..], &["other"]].concat());
    assert_says!(&said.stderr, "warning: other has another tokenizer");
}

#[test]
fn both_answers_of_a_pair_have_a_line() {
    let workshop = Workshop::new();
    let pair = |index: usize| json!({"prompt": format!("What is {index}?"), "chosen": " One.", "rejected": " Two."});
    workshop.write_rows("data.jsonl", &(0..3).map(pair).collect::<Vec<_>>());
    workshop.succeed(&["data", "recipe.toml", "--stats", "rows.parquet", "--model", "model"]);
    let table = table(&workshop, "rows.parquet");
    let mut parts: Vec<_> = table.iter().map(|row| (row["example"].as_u64().unwrap(), row["part"].clone())).collect();
    parts.sort_by_key(|(example, _)| *example);
    let expected: Vec<_> = (0..6).map(|row| (row, json!(["chosen", "rejected"][row as usize % 2]))).collect();
    assert_eq!(parts, expected);
    assert!(table.iter().all(|row| row["format"] == "preference" && number(row, "loss").is_some()));
}

#[test]
fn a_row_cannot_steer_the_terminal() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[json!({"prompt": "a\nb", "completion": "c\u{1b}[2J"})]);
    let said = workshop.succeed(&["data", "recipe.toml"]).stdout;
    assert_says!(&said, "a\\nb");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}
