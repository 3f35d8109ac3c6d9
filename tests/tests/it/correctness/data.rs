//! Rows 3, 4, 5, 7 and 18: what becomes of data before the first step.

use firebrand_tests::tiny;
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says, chat_row};

fn rows(workshop: &Workshop, recipe: &str) -> Vec<Value> {
    let said = workshop.succeed(&["data", recipe, "--json"]);
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The characters of the trained tokens; every token of the tiny model but the end is one.
fn trained(row: &Value) -> String {
    let tokenizer = tempfile::tempdir().unwrap();
    tiny::write(tokenizer.path());
    let tokenizer = firebrand_datasets::Tokenizer::from_folder(tokenizer.path()).unwrap();
    let labels = row["labels"].as_array().unwrap().iter().map(|label| label.as_i64().unwrap());
    let ids: Vec<u32> = labels.filter(|label| *label >= 0).map(|label| label as u32).collect();
    tokenizer.decode(&ids, false).unwrap()
}

/// Row 8: the file that the recipe names is the user's, not one of that name in the model's folder.
#[test]
fn a_template_file_is_not_looked_for_in_the_model_folder() {
    let workshop = Workshop::new();
    workshop.write("model/chat_template.jinja", tiny::TEMPLATE);
    workshop.write("chat_template.jinja", "{% for m in messages %}MINE {{ m.content }}<|im_end|>{% endfor %}");
    let mine = ["--set", "data.template=chat_template.jinja", "--set", "data.train_on=all"];
    let said = workshop.succeed(&[&["data", "recipe.toml", "--json"][..], &mine].concat());
    assert!(said.stdout.lines().all(|line| line.contains("\"text\":\"MINE ")), "{}", said.stdout);
    workshop.succeed(&[&["check", "recipe.toml"][..], &mine].concat());
}

/// Sources that are found from where the program runs, and from beside the recipe.
#[test]
fn patterns_are_found_beside_the_recipe() {
    let workshop = Workshop::new();
    std::fs::create_dir(workshop.path("there[1]")).unwrap();
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    workshop.write("there[1]/recipe.toml", &recipe);
    workshop.write_rows("there[1]/more.jsonl", &[chat_row(1), chat_row(2)]);
    let rows = |recipe: &str, path: &str| {
        let path = format!("data.train=[{{path=\"{path}\"}}]");
        workshop.succeed(&["data", recipe, "--json", "--set", &path]).stdout.lines().count()
    };
    assert_eq!(rows("recipe.toml", "*.jsonl"), 10);
    assert_eq!(rows("recipe.toml", "./da*.jsonl"), 10);
    assert_eq!(rows("there[1]/recipe.toml", "more.jsonl"), 2);
    assert_eq!(rows("there[1]/recipe.toml", "mo*.jsonl"), 2);
    assert_eq!(rows("recipe.toml", "."), 10);
}

/// A run that trains nothing is refused before it begins, and so is an epoch that no memory holds.
#[test]
fn check_refuses_what_train_refuses() {
    let workshop = Workshop::new();
    for verb in ["check", "train"] {
        for (settings, says) in
            [("weight=0.0", "visits no row"), ("weight=1e18", "are the most"), ("rows=10000000000", "are the most")]
        {
            let train = format!("data.train=[{{path=\"data.jsonl\",{settings}}}]");
            assert_says!(workshop.fail(&[verb, "recipe.toml", "--set", &train]), says);
        }
    }
}

/// Row 3.
#[test]
fn two_bos_tokens_do_not_pass_the_gate() {
    let workshop = Workshop::new();
    let begins = |row: &Value| -> usize {
        row["input_ids"].as_array().unwrap().iter().take_while(|id| **id == tiny::BOS_ID).count()
    };
    tiny::begin_with_bos(&workshop.path("model"));
    workshop.write_rows("data.jsonl", &[json!({"text": "once"}), json!({"text": "<s>once"})]);
    let read = rows(&workshop, "recipe.toml");
    assert_eq!([begins(&read[0]), begins(&read[1])], [1, 1], "a text that spells its own gets no second one");
    workshop.write_rows("data.jsonl", &[json!({"text": "once"}), json!({"text": "<s><s>twice"})]);
    for verb in ["check", "train"] {
        assert_says!(workshop.fail(&[verb, "recipe.toml"]), "two BOS", "data.jsonl:2");
    }
    // Neither does a template that writes one; one that writes two is refused.
    let template = format!("{{{{ bos_token }}}}{}", tiny::TEMPLATE);
    let changes = json!({"chat_template": template});
    tiny::write_tokenizer_config(&workshop.path("model"), &changes);
    workshop.write_rows("data.jsonl", &[chat_row(1)]);
    let row = rows(&workshop, "recipe.toml").remove(0);
    assert_eq!(begins(&row), 1);
    let twice = json!({"chat_template": format!("{{{{ bos_token }}}}{template}")});
    tiny::write_tokenizer_config(&workshop.path("model"), &twice);
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "two BOS", "data.jsonl:1");
}

/// Row 4.
#[test]
fn the_end_of_a_turn_is_trained_although_it_is_the_padding_too() {
    let workshop = Workshop::new();
    for row in rows(&workshop, "recipe.toml") {
        let text = trained(&row);
        assert!(text.ends_with(tiny::END), "{text:?}");
        assert_eq!(text.matches(tiny::END).count(), 1, "and no other end is: {text:?}");
    }
    // Padding adds nothing: the loss of a padded batch is that of its rows.
    let file = workshop.path("data.jsonl").display().to_string();
    let model = workshop.path("model").display().to_string();
    let eval = |batch: &str| -> Value {
        let said = workshop.succeed(&["eval", "--model", &model, "--data", &file, "--json", "--batch-size", batch]);
        serde_json::from_str(&said.stdout).unwrap()
    };
    let (alone, padded) = (eval("1"), eval("10"));
    assert_eq!(alone["tokens"], padded["tokens"]);
    let (left, right) = (alone["loss"].as_f64().unwrap(), padded["loss"].as_f64().unwrap());
    assert!((left - right).abs() < 1e-6 * left, "{left} {right}");
}

/// Row 5.
#[test]
fn prompts_are_not_trained_and_rows_that_train_nothing_are_reported() {
    let workshop = Workshop::new();
    let dialogue = json!({"messages": [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "One?"}, {"role": "assistant", "content": "First"},
        {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "Second"},
    ]});
    workshop.write_rows("data.jsonl", &[dialogue]);
    let row = rows(&workshop, "recipe.toml").remove(0);
    assert_eq!(trained(&row), format!("First{0}Second{0}", tiny::END));
    assert!(row["text"].as_str().unwrap().contains("Be brief"));

    let unanswered = json!({"messages": [{"role": "user", "content": "Anyone?"}]});
    workshop.write_rows("data.jsonl", &[chat_row(0), unanswered.clone(), chat_row(1)]);
    let report = workshop.succeed(&["check", "recipe.toml"]);
    assert_says!(report.stdout, "data.jsonl", "no token of them is trained");
    workshop.write_rows("data.jsonl", &[unanswered]);
    for verb in ["check", "train"] {
        assert_says!(workshop.fail(&[verb, "recipe.toml"]), "no token of any row is trained", "data.jsonl:1");
    }
}

/// Row 7.
#[test]
fn answers_lost_to_truncation_are_an_error_unless_allowed() {
    let workshop = Workshop::new();
    let long = json!({"messages": [
        {"role": "user", "content": "so ".repeat(60)}, {"role": "assistant", "content": "Lost"},
    ]});
    let mut data: Vec<Value> = (0..10).map(chat_row).collect();
    data.push(long);
    workshop.write_rows("data.jsonl", &data);
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "cut the whole answer away", "data.jsonl:11");
    let allowed = ["check", "recipe.toml", "--set", "data.gate.allow_truncated=0.2"];
    assert_says!(workshop.succeed(&allowed).stdout, "cut the whole answer away");
    // Up to a twentieth passes, and is shown.
    data.splice(0..0, (10..25).map(chat_row));
    workshop.write_rows("data.jsonl", &data);
    assert_says!(workshop.succeed(&["check", "recipe.toml"]).stdout, "cut the whole answer away");
}

/// Row 18: what `data` shows is never cached.
#[test]
fn changed_data_tokenizer_and_template_show_at_once() {
    let workshop = Workshop::new();
    let first = rows(&workshop, "recipe.toml");
    workshop.write_rows("data.jsonl", &[chat_row(3)]);
    let second = rows(&workshop, "recipe.toml");
    assert_ne!(first[0]["input_ids"], second[0]["input_ids"]);
    let template = format!("{{{{ bos_token }}}}{}", tiny::TEMPLATE);
    tiny::write_tokenizer_config(&workshop.path("model"), &json!({"chat_template": template}));
    let third = rows(&workshop, "recipe.toml");
    assert_ne!(second[0]["input_ids"], third[0]["input_ids"]);
    let path = workshop.path("model/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"a\":4,", "\"a\":5,").replace("\"b\":5,", "\"b\":4,")).unwrap();
    assert_ne!(third[0]["input_ids"], rows(&workshop, "recipe.toml")[0]["input_ids"]);
}

/// Row 18: rows that are kept for the next start are found by what they were made of.
#[test]
fn kept_rows_are_used_again_and_never_for_other_data() {
    let workshop = Workshop::new();
    let check = || -> Value {
        let said = workshop.succeed(&["check", "recipe.toml", "--json"]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        let (rows, tokens, used) = (&report["rows"], &report["tokens"], &report["packing_efficiency"]);
        json!({"rows": rows, "tokens": tokens, "used": used, "data": report["data"]})
    };
    let kept = || -> Vec<Value> {
        let said = workshop.succeed(&["cache", "list", "--json"]);
        serde_json::from_str::<Value>(&said.stdout).unwrap()["entries"].as_array().unwrap().clone()
    };
    assert!(kept().is_empty());
    let first = check();
    assert_eq!(kept().len(), 1);
    assert!(kept()[0]["files"][0].as_str().unwrap().ends_with("data.jsonl") && kept()[0]["rows"] == 10);
    assert_eq!((check(), kept().len()), (first.clone(), 1), "found again");
    workshop.write_rows("data.jsonl", &[chat_row(3), chat_row(4)]);
    assert_eq!((check()["rows"].clone(), kept().len()), (json!(2), 2));
    let template = format!("{{{{ bos_token }}}}{}", tiny::TEMPLATE);
    tiny::write_tokenizer_config(&workshop.path("model"), &json!({"chat_template": template}));
    assert_eq!((check()["tokens"].as_u64() > first["tokens"].as_u64(), kept().len()), (false, 3));
    let path = workshop.path("model/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"a\":4,", "\"a\":5,").replace("\"b\":5,", "\"b\":4,")).unwrap();
    check();
    assert_eq!(kept().len(), 4);
    workshop.succeed(&["check", "recipe.toml", "--set", "data.cache=\"off\"", "--set", "data.max_length=100"]);
    assert_eq!(kept().len(), 4);
    let key = kept()[0]["key"].as_str().unwrap()[..12].to_string();
    workshop.succeed(&["cache", "clear", &key]);
    assert_eq!(kept().len(), 3);
    workshop.succeed(&["cache", "clear", "--older-than", "1"]);
    assert_eq!(kept().len(), 3);
    assert_says!(workshop.fail(&["cache", "clear", "nothing"]), "nothing", "cache list");
    workshop.succeed(&["cache", "clear"]);
    assert!(kept().is_empty());
    assert!(workshop.list("cache/rows").is_empty() && workshop.list("cache/files").is_empty());
}

/// Rows set aside are evaluated on, and what that leaves is trained on.
#[test]
fn a_part_of_the_rows_can_be_set_aside_for_evaluation() {
    let workshop = Workshop::new();
    let all: Vec<Value> = (0..40).map(chat_row).collect();
    workshop.write_rows("data.jsonl", &all);
    let split = ["check", "recipe.toml", "--json", "--set", "data.validation_split=0.3"];
    let report: Value = serde_json::from_str(&workshop.succeed(&split).stdout).unwrap();
    let (train, eval) = (report["rows"].as_u64().unwrap(), report["eval_rows"].as_u64().unwrap());
    assert!(train + eval == 40 && eval > 3 && eval < 22, "{train} {eval}");
    let shown =
        workshop.succeed(&["data", "recipe.toml", "--json", "--split", "eval", "--set", "data.validation_split=0.3"]);
    assert_eq!(shown.stdout.lines().count() as u64, eval);
    workshop.write("both.toml", &format!("{}\n[[data.eval]]\npath = \"data.jsonl\"\n", crate::workshop::RECIPE));
    let both = ["check", "both.toml", "--set", "data.validation_split=0.3"];
    assert_says!(workshop.fail(&both), "validation_split", "data.eval");
}
