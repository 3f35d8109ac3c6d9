//! Learning from judged answers, as users meet it: what is refused, what is reported, and what the recipes claim.

use std::fs;

use firebrand_tests::{golden, repository};
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says, chat_row};

/// A pair to a question; each number another one.
fn pair(number: usize) -> Value {
    json!({
        "prompt": [{"role": "user", "content": format!("Is it {number}?")}],
        "chosen": [{"role": "assistant", "content": format!("Yes, {number}.")}],
        "rejected": [{"role": "assistant", "content": "No"}],
    })
}

/// A judged answer; each number another one.
fn judged(number: usize) -> Value {
    json!({"prompt_ids": [3 + number, 9, 11], "completion_ids": [20 + number, 30], "label": number.is_multiple_of(2)})
}

fn with_rows(rows: impl Fn(usize) -> Value) -> Workshop {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &(0..8).map(rows).collect::<Vec<_>>());
    workshop
}

#[test]
fn keys_that_make_no_sense_are_refused_by_name() {
    let workshop = with_rows(pair);
    for (settings, said) in [
        (["objective.kind=dpo", "objective.beta=0"].as_slice(), ["objective.beta", "above 0"].as_slice()),
        (&["objective.kind=simpo", "objective.beta=0"], &["objective.beta", "above 0"]),
        (&["objective.kind=orpo", "objective.lambda=0"], &["objective.lambda", "above 0"]),
        (&["objective.kind=kto", "objective.beta=-1"], &["objective.beta", "above 0"]),
        (
            &["objective.kind=dpo", "objective.variant=ipo", "objective.label_smoothing=0.1"],
            &["objective.label_smoothing", "sigmoid"],
        ),
        (
            &["objective.kind=dpo", "objective.variant=hinge", "objective.label_smoothing=0.1"],
            &["objective.label_smoothing", "sigmoid"],
        ),
        (&["objective.kind=dpo", "objective.label_smoothing=0.5"], &["objective.label_smoothing", "0.5"]),
        (&["objective.kind=dpo", "objective.variant=robust"], &["robust", "\"sigmoid\"", "\"hinge\"", "\"ipo\""]),
        (&["objective.kind=dpo", "objective.reference=./elsewhere"], &["objective.reference", "elsewhere"]),
        (
            &["objective.kind=kto", "objective.desirable_weight=0", "objective.undesirable_weight=0"],
            &["undesirable_weight", "no row"],
        ),
        (&["objective.kind=orpo", "objective.beta=0.1"], &["objective.beta", "lambda"]),
    ] {
        let sets: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        let found = workshop.fail(&[&["train", "recipe.toml"], &sets[..]].concat());
        for word in said {
            assert_says!(&found, word);
        }
    }
}

#[test]
fn rows_of_another_kind_are_refused_with_the_objective_that_takes_them() {
    let pairs = with_rows(pair);
    let said = pairs.fail(&["train", "recipe.toml"]);
    assert_says!(&said, "objective sft trains on dialogues and text", "preference pairs", "kind = \"dpo\"", "chosen");
    let said = pairs.fail(&["train", "recipe.toml", "--set", "objective.kind=kto"]);
    assert_says!(&said, "objective kto trains on answers that are good or bad", "kind = \"dpo\"");
    let answers = with_rows(judged);
    let said = answers.fail(&["train", "recipe.toml"]);
    assert_says!(&said, "objective sft trains on dialogues and text", "kind = \"kto\"");
    for kind in ["dpo", "orpo", "simpo"] {
        let said = answers.fail(&["train", "recipe.toml", "--set", &format!("objective.kind={kind}")]);
        assert_says!(&said, &format!("objective {kind} trains on pairs"), "kind = \"kto\"");
        let said = with_rows(chat_row).fail(&["train", "recipe.toml", "--set", &format!("objective.kind={kind}")]);
        assert_says!(&said, "text without a judgement", "`chosen`", "`chosen_ids`");
    }
}

#[test]
fn a_broken_pair_is_refused_by_its_row() {
    let equal = json!({"prompt_ids": [3, 4], "chosen_ids": [5, 6], "rejected_ids": [5, 6]});
    let empty = json!({"prompt_ids": [3, 4], "chosen_ids": [], "rejected_ids": [5, 6]});
    let apart = json!({"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "rejected": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]});
    let beyond = json!({"prompt_ids": [3, 4], "chosen_ids": [97], "rejected_ids": [5, 6]});
    for (row, words) in [
        (equal, ["data.jsonl:4", "the better and the worse answer are the same"]),
        (empty, ["data.jsonl:4", "`chosen_ids` to hold a token id or more"]),
        (apart, ["data.jsonl:4", "begin alike"]),
        (beyond, ["data.jsonl:4", "vocabulary has 97 tokens"]),
    ] {
        let workshop = Workshop::new();
        let mut rows: Vec<Value> = (0..8).map(pair).collect();
        rows[3] = row;
        if rows[3].get("prompt_ids").is_some() {
            let ids =
                |number: usize| json!({"prompt_ids": [3], "chosen_ids": [number + 5], "rejected_ids": [number + 6, 2]});
            (0..8).filter(|number| *number != 3).for_each(|number| rows[number] = ids(number));
        }
        workshop.write_rows("data.jsonl", &rows);
        let said = workshop.fail(&["train", "recipe.toml", "--set", "objective.kind=dpo"]);
        assert_says!(&said, words[0], words[1]);
    }
}

#[test]
fn a_reference_with_other_tokens_or_without_weights_is_refused_before_training() {
    let workshop = with_rows(pair);
    let other = golden::path("qwen3").display().to_string();
    let set = |folder: &str| format!("objective.reference={folder:?}");
    let said = workshop.fail(&["train", "recipe.toml", "--set", "objective.kind=dpo", "--set", &set(&other)]);
    assert_says!(&said, "objective.reference", "the reference has rows for 47 tokens and the trained model for 97");
    fs::create_dir(workshop.path("empty")).unwrap();
    let said = workshop.fail(&["train", "recipe.toml", "--set", "objective.kind=dpo", "--set", &set("./empty")]);
    assert_says!(&said, "objective.reference", "config.json");
}

#[test]
fn kto_needs_more_than_one_row_in_a_step() {
    let workshop = with_rows(judged);
    let run = ["train", "recipe.toml", "--set", "objective.kind=kto", "--set", "data.packing=false", "--set"];
    let said = workshop.fail(&[&run[..], &["train.batch_size=1"]].concat());
    assert_says!(&said, "train.batch_size = 1", "batch_size = 2 or more");
    // Packed, a step of one pack may hold many rows, and a step of one row is known when it is there.
    let packed = ["train", "recipe.toml", "--set", "objective.kind=kto", "--set", "train.batch_size=1", "--set"];
    let said = workshop.fail(&[&packed[..], &["data.max_length=7"]].concat());
    assert_says!(&said, "step 1 holds one row (", "data.jsonl:", "raise train.batch_size");
    // The last step of an epoch may be one row; a name that no row has is not there.
    workshop.write_rows("data.jsonl", &(0..3).map(judged).collect::<Vec<_>>());
    let last = ["train.steps=2", "--set", "train.batch_size=2", "--set", "data.shuffle=false"];
    workshop.succeed(&[&run[..], &last[..]].concat());
    let steps = workshop.read_rows("run/metrics.jsonl");
    assert!(steps[1]["kl"].is_number() && steps[1]["rewards/chosen"].is_number(), "{}", steps[1]);
    assert!(steps[1].get("rewards/rejected").is_none() && steps[1].get("rewards/margins").is_none(), "{}", steps[1]);
}

#[test]
fn the_numbers_are_in_the_log_the_terminal_and_the_evaluation() {
    let workshop = with_rows(pair);
    let mut recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    recipe.push_str("[[data.eval]]\npath = \"eval.jsonl\"\n[objective]\nkind = \"dpo\"\n");
    workshop.write("recipe.toml", &recipe.replace("tensorboard = false", "tensorboard = true"));
    workshop.write_rows("eval.jsonl", &(20..24).map(pair).collect::<Vec<_>>());
    let said = workshop.succeed(&["train", "recipe.toml"]);
    let lines = workshop.read_rows("run/metrics.jsonl");
    let names = [
        "logps/chosen",
        "logps/rejected",
        "rewards/accuracies",
        "rewards/chosen",
        "rewards/margins",
        "rewards/rejected",
    ];
    let evaluation = lines.iter().find(|line| line.get("eval_loss").is_some()).unwrap();
    for name in names {
        assert!(lines[0][name].is_number(), "{name} in {}", lines[0]);
        assert!(evaluation[format!("eval_{name}")].is_number(), "eval_{name} in {evaluation}");
        assert_says!(&format!("{}{}", said.stdout, said.stderr), name);
    }
    // A new adapter changes nothing, so the first loss is that of a draw.
    assert!((lines[0]["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6, "{}", lines[0]);
    let board: Vec<u8> = workshop
        .list("run/tensorboard")
        .iter()
        .flat_map(|file| workshop.read(&format!("run/tensorboard/{file}")))
        .collect();
    let board = String::from_utf8_lossy(&board).into_owned();
    assert_says!(&board, "train/rewards/margins", "eval/rewards/margins", "eval/logps/chosen");
}

/// In a full run the reference is a copy only once the optimiser gives parameters new tensors. If one wrote into the old
/// ones, a run would differ from the same run resumed, whose reference is read again.
#[test]
fn no_optimiser_moves_the_reference() {
    let workshop = with_rows(pair);
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    let (start, end) = (recipe.find("[adapter]").unwrap(), recipe.find("[data]").unwrap());
    let recipe = format!("{}{}[objective]\nkind = \"dpo\"\n", &recipe[..start], &recipe[end..]);
    workshop.write("recipe.toml", &recipe.replace("learning_rate = 1e-2", "learning_rate = 1e-3"));
    for optimizer in ["adamw", "adamw-8bit", "adafactor", "lion", "muon", "sgd"] {
        let kind = format!("optimizer.kind={optimizer}");
        let run = |output: &str, more: &[&str]| {
            let shared = ["train", "recipe.toml", "--output", output, "--set", &kind, "--set", "train.steps=4"];
            let checkpoints = ["--set", "checkpoint={every=1,keep=10}"];
            workshop.succeed(&[&shared[..], &checkpoints, more].concat());
        };
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{name}-{optimizer}"));
        run(&whole, &[]);
        run(&parts, &[]);
        run(&parts, &["--resume", "checkpoint-2"]);
        let weights = |run: &str| workshop.read(&format!("{run}/model/model.safetensors"));
        assert!(weights(&whole) == weights(&parts), "{optimizer}: other bytes after a resume");
    }
}

/// A recipe of pairs with an evaluation, for an adapter or for every weight.
fn pairs_to_keep(full: bool) -> Workshop {
    let workshop = with_rows(pair);
    let mut recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    if full {
        let (start, end) = (recipe.find("[adapter]").unwrap(), recipe.find("[data]").unwrap());
        recipe =
            format!("{}{}", &recipe[..start], &recipe[end..]).replace("learning_rate = 1e-2", "learning_rate = 1e-3");
    }
    recipe.push_str("[[data.eval]]\npath = \"eval.jsonl\"\n[objective]\nkind = \"dpo\"\n");
    workshop.write("recipe.toml", &recipe);
    workshop.write_rows("eval.jsonl", &(6..10).map(pair).collect::<Vec<_>>());
    workshop
}

const KEEP: [&str; 2] = ["--set", "objective.reference_cache=kept"];

fn kept_pairs(workshop: &Workshop, more: &[&str]) -> Value {
    let said = workshop.succeed(&[&["check", "recipe.toml", "--json"], &KEEP[..], more].concat());
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    report["reference_cache"].clone()
}

#[test]
fn a_reference_whose_numbers_are_kept_gives_the_run_of_one_beside_the_model() {
    for (full, reference) in [(false, "base"), (false, "start"), (true, "base"), (true, "./other")] {
        let workshop = pairs_to_keep(full);
        workshop.succeed(&["student", "--model", "model", "--layers", "0", "--out", "other"]);
        let reference = format!("objective.reference={reference:?}");
        let set = ["--set", reference.as_str()];
        let run = |output: &str, more: &[&str]| {
            let steps = ["--set", "train.steps=6", "--set", "checkpoint={every=2,keep=10}"];
            workshop.succeed(&[&["train", "recipe.toml", "--output", output], &set[..], &steps, more].concat());
            workshop.read_rows(&format!("{output}/metrics.jsonl"))
        };
        let expected = run("beside", &[]);
        // 8 pairs to train on and 4 to evaluate on, two of which are among the 8.
        assert_eq!(kept_pairs(&workshop, &set)["missing"], 10, "{reference}");
        let found = run("kept-1", &KEEP);
        assert_eq!(kept_pairs(&workshop, &set)["missing"], 0, "{reference}");
        assert_eq!(expected.len(), found.len());
        for (expected, found) in expected.iter().zip(&found) {
            for name in ["loss", "eval_loss", "rewards/margins", "eval_rewards/chosen", "logps/rejected"] {
                if expected.get(name).is_some() {
                    let apart = (number(expected, name) - number(found, name)).abs();
                    assert!(apart < 1e-5, "{reference}, {name}: {expected} and {found}");
                }
            }
        }
        // A later run, and one that goes on, have the same bytes, whether the file is still there or not.
        let files = workshop.list("kept");
        assert_eq!(files.len(), 1, "{files:?}");
        let file = format!("kept/{}", files[0]);
        let content = workshop.read(&file);
        let weights = |run: &str| match full {
            true => workshop.read(&format!("{run}/model/model.safetensors")),
            false => workshop.read(&format!("{run}/adapter/adapter_model.safetensors")),
        };
        run("kept-2", &KEEP);
        fs::remove_file(workshop.path(&file)).unwrap();
        run("kept-2", &[&KEEP[..], &["--resume", "checkpoint-4"]].concat());
        assert!(weights("kept-1") == weights("kept-2"), "{reference}: other bytes after a resume");
        assert!(content == workshop.read(&file), "{reference}: other numbers the second time");
    }
}

#[test]
fn kept_numbers_belong_to_their_reference_and_grow_with_new_pairs() {
    let workshop = pairs_to_keep(false);
    workshop.succeed(&[&["train", "recipe.toml"], &KEEP[..]].concat());
    // Neither the objective's numbers nor the order of rows matter; what the reference is does.
    let settings = ["--set", "objective.beta=0.3", "--set", "objective.variant=ipo", "--set", "data.packing=false"];
    assert_eq!(kept_pairs(&workshop, &settings), json!({"folder": "kept", "kept": 10, "missing": 0}));
    for other in ["dtype=bf16", "quantization={kind=\"nf4\"}", "objective.reference=start"] {
        let report = kept_pairs(&workshop, &["--set", other]);
        assert_eq!((&report["kept"], &report["missing"]), (&json!(0), &json!(10)), "{other}");
    }
    workshop.write_rows("data.jsonl", &(3..11).rev().map(pair).collect::<Vec<_>>());
    assert_eq!(kept_pairs(&workshop, &[]), json!({"folder": "kept", "kept": 10, "missing": 1}));
    let said = workshop.succeed(&[&["check", "recipe.toml"], &KEEP[..]].concat());
    assert_says!(&said.stdout, "10 pairs of the reference in kept; it runs over 1 other before the first step");
    let file = workshop.path("kept").join(&workshop.list("kept")[0]);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let said = workshop.fail(&[&["train", "recipe.toml", "--output", "again"], &KEEP[..]].concat());
    assert_says!(&said, "reference-", "its content is not what was written", "remove the file");
}

#[test]
fn init_proposes_the_objective_of_judged_rows() {
    let workshop = Workshop::new();
    workshop.write_rows("pairs.jsonl", &(0..30).map(pair).collect::<Vec<_>>());
    workshop.write_rows("answers.jsonl", &(0..30).map(judged).collect::<Vec<_>>());
    for (data, kind) in [("pairs.jsonl", "dpo"), ("answers.jsonl", "kto")] {
        let recipe = format!("{data}.toml");
        workshop.succeed(&["init", "--model", "model", "--data", data, "--out", &recipe]);
        assert_says!(&String::from_utf8(workshop.read(&recipe)).unwrap(), &format!("[objective]\nkind = \"{kind}\""));
        workshop.succeed(&["check", &recipe]);
    }
}

/// The evaluations of a recipe's run.
fn evaluations(recipe: &str) -> Vec<Value> {
    let workshop = Workshop::new();
    let run = workshop.path("run").display().to_string();
    let path = repository().join("recipes/objectives").join(recipe).display().to_string();
    let mut command = workshop.command(&["train", &path, "--output", &run, "--set", "log.tensorboard=false"]);
    let said = command.current_dir(repository()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let lines = workshop.read_rows("run/metrics.jsonl");
    lines.into_iter().filter(|line| line.get("eval_loss").is_some()).collect()
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} in {line}"))
}

#[test]
fn the_recipes_of_pairs_make_the_better_answer_the_likelier_one() {
    for recipe in ["dpo.toml", "orpo.toml", "simpo.toml"] {
        let found = evaluations(recipe);
        let (first, last) = (&found[0], found.last().unwrap());
        let margin = |line: &Value| number(line, "eval_logps/chosen") - number(line, "eval_logps/rejected");
        assert!(margin(first) < 0.0, "{recipe}: the shipped model prefers the other answer: {first}");
        assert!(margin(last) > 0.0, "{recipe}: {last}");
        assert!(number(last, "eval_rewards/margins") > number(first, "eval_rewards/margins"), "{recipe}: {last}");
        // Four of the five pairs that were not trained on, or all.
        assert!(number(last, "eval_rewards/accuracies") > 0.79, "{recipe}: {last}");
        assert!(number(last, "eval_loss") < number(first, "eval_loss"), "{recipe}: {last}");
    }
}

#[test]
fn the_recipe_of_judged_answers_makes_good_ones_likelier_and_bad_ones_less_likely() {
    let found = evaluations("kto.toml");
    let (first, last) = (&found[0], found.last().unwrap());
    assert!(number(last, "eval_rewards/chosen") > 0.0 && number(last, "eval_rewards/rejected") < 0.0, "{last}");
    let of = |line: &Value| number(line, "eval_logps/chosen") - number(line, "eval_logps/rejected");
    assert!(of(first) < 0.0 && of(last) > 0.0, "{first} {last}");
    assert!(number(last, "eval_loss") < number(first, "eval_loss"), "{last}");
}
