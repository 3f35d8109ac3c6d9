//! `where` and `sql`: rows are chosen in the recipe, and what is said of them is said of their lines in the file.

use serde_json::{Value, json};

use crate::workshop::{RECIPE, Workshop, assert_says, chat_row};

/// Ten dialogues of two languages, with scores from 0 to 9.
fn workshop(key: &str) -> Workshop {
    let workshop = Workshop::new();
    let row = |number: usize| {
        let mut row = chat_row(number);
        row["lang"] = json!(if number.is_multiple_of(2) { "en" } else { "de" });
        row["score"] = json!(number);
        row["q"] = json!(format!("Is it {number}?"));
        row["a"] = json!(format!("{number} it is"));
        row
    };
    workshop.write_rows("data.jsonl", &(0..10).map(row).collect::<Vec<_>>());
    workshop.write("recipe.toml", &recipe(key));
    workshop
}

fn recipe(key: &str) -> String {
    RECIPE.replace("path = \"data.jsonl\"", &format!("path = \"data.jsonl\"\n{key}"))
}

fn rows(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["source"]["line"].as_u64().unwrap()).collect()
}

#[test]
fn a_condition_chooses_rows_and_every_verb_says_how_many() {
    let workshop = workshop("format = \"messages\"\nwhere = \"lang = 'en' AND score >= 4\"");
    let said = workshop.succeed(&["data", "recipe.toml", "--json"]);
    assert_eq!(lines(&rows(&said.stdout)), [5, 7, 9]);
    assert_says!(&said.stderr, "data.jsonl: 3 rows kept, 7 left out");
    let report: Value = serde_json::from_str(&workshop.succeed(&["check", "recipe.toml", "--json"]).stdout).unwrap();
    assert_eq!(report["rows"], 3);
    assert_eq!((&report["chosen"][0]["kept"], &report["chosen"][0]["left_out"]), (&json!(3), &json!(7)));
    let checked = workshop.succeed(&["check", "recipe.toml"]).stdout;
    assert_says!(&checked, "3 rows kept, 7 left out", "not used: `q`, `a` (in all rows)");
    assert!(!checked.contains("`score`"), "the condition reads it: {checked}");
    assert_says!(workshop.succeed(&["data", "recipe.toml", "--rows", "1"]).stdout, "3 rows kept, 7 left out");
    let lengths = workshop.succeed(&["data", "recipe.toml", "--lengths", "--json"]).stdout;
    let lengths: Value = serde_json::from_str(&lengths).unwrap();
    assert_eq!((&lengths["rows"], &lengths["chosen"][0]["kept"]), (&json!(3), &json!(3)));
    let trained = workshop.succeed(&["train", "recipe.toml"]);
    assert_says!(&trained.stderr, "3 rows kept, 7 left out", "prepared before");

    // Prepared rows are found again by the condition, too.
    workshop.write("recipe.toml", &recipe("format = \"messages\"\nwhere = \"lang = 'en' AND score >= 6\""));
    let report: Value = serde_json::from_str(&workshop.succeed(&["check", "recipe.toml", "--json"]).stdout).unwrap();
    assert_eq!((&report["rows"], &report["chosen"][0]["left_out"]), (&json!(2), &json!(8)));
}

#[test]
fn a_query_makes_rows_of_other_columns_at_their_old_lines() {
    let workshop = workshop("sql = \"SELECT q AS prompt, ' ' || a AS completion FROM self WHERE score > 2 LIMIT 3\"");
    let said = workshop.succeed(&["data", "recipe.toml", "--json"]);
    let rows = rows(&said.stdout);
    assert_eq!(lines(&rows), [4, 5, 6]);
    assert_says!(rows[0].to_string(), "Is it 3?", " 3 it is");
    assert_says!(&said.stderr, "3 rows kept, 7 left out");
}

#[test]
fn a_query_that_cannot_be_answered_is_named_with_its_source() {
    for (key, says) in [
        ("where = \"scroe >= 4\"", "no row has a column `scroe` (`score` is there)"),
        ("where = \"lang >= 4\"", "CAST(lang AS DOUBLE)"),
        ("where = \"score > 100\"", "it keeps none of the 10 row(s)"),
        ("where = \"SUM(score) > 4\"", "SUM looks at several rows"),
        ("sql = \"SELECT messages FROM self ORDER BY score\"", "ORDER BY is not possible"),
        ("sql = \"SELECT messages FROM read_csv('data.jsonl')\"", "FROM self"),
        ("where = \"score > 1\"\nsql = \"SELECT * FROM self\"", "both say which rows are kept"),
    ] {
        let said = workshop(key).fail(&["check", "recipe.toml"]);
        assert_says!(said.replace("\\\"", "\""), "data.jsonl", says);
    }
}
