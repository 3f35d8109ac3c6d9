//! Files by the names that people write: a home folder's tilde, spaces, brackets, other scripts, links.

use std::fs;

use crate::workshop::{RECIPE, Said, Workshop, assert_says, chat_row, words};

/// Runs the program with the workshop's folder `home` as the home folder.
fn at_home(workshop: &Workshop, arguments: &[&str]) -> Said {
    Said::from(workshop.command(arguments).env("HOME", workshop.path("home")).output().unwrap())
}

#[test]
fn a_tilde_is_the_home_folder_in_every_path() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("home")).unwrap();
    fs::rename(workshop.path("model"), workshop.path("home/model")).unwrap();
    fs::rename(workshop.path("data.jsonl"), workshop.path("home/rows.jsonl")).unwrap();
    workshop.write("home/chat.jinja", firebrand_tests::tiny::TEMPLATE);
    let recipe = RECIPE
        .replace("\"model\"", "\"~/model\"")
        .replace("\"data.jsonl\"", "\"~/rows.jsonl\"")
        .replace("\"run\"", "\"~/run\"")
        .replace("[data]\n", "[data]\ntemplate = \"~/chat.jinja\"\n");
    workshop.write("recipe.toml", &recipe);
    let said = at_home(&workshop, &["train", "recipe.toml"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(workshop.path("home/run/adapter").is_dir() && !workshop.path("~").exists());
    let again = [
        "train",
        "~/run/recipe.toml",
        "--output=~/again",
        "--set",
        "adapter.init_from=~/run/adapter",
        "--set",
        "train.steps=1",
    ];
    let said = at_home(&workshop, &again);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(workshop.path("home/again/adapter").is_dir());
    for arguments in [
        &["eval", "--model=~/model", "--adapter=~/run/adapter", "--data=~/rows.jsonl", "--template=~/chat.jinja"][..],
        &["score", "--model=~/model", "--data=~/rows.jsonl", "--out=~/scores.jsonl"],
        &["merge", "--model=~/model", "--adapter=~/run/adapter", "--out=~/merged"],
        &["inspect", "~/merged"],
        &["data", "recipe.toml", "--stats=~/rows.csv"],
    ] {
        let said = at_home(&workshop, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?} {}", said.stderr);
    }
    assert!(workshop.path("home/scores.jsonl").is_file() && workshop.path("home/rows.csv").is_file());
    assert!(!workshop.path("~").exists(), "no folder is named ~");
}

#[test]
fn spaces_brackets_and_other_scripts_are_names() {
    let workshop = Workshop::new();
    let folder = workshop.path("a ordner/данные 数据");
    fs::create_dir_all(&folder).unwrap();
    fs::rename(workshop.path("data.jsonl"), folder.join("zeilen (1) [x].jsonl")).unwrap();
    let recipe = |path: &str| workshop.write("recipe.toml", &RECIPE.replace("data.jsonl", path));
    for path in ["a ordner/данные 数据/zeilen (1) [x].jsonl", "a ordner/данные 数据/", "a ordner/*/*.jsonl"]
    {
        recipe(path);
        assert_says!(workshop.succeed(&["check", "recipe.toml"]).stdout, "10 rows");
    }
    workshop.succeed(&["train", "recipe.toml", "--output", "a ordner/данные 数据/lauf 1"]);
    assert!(folder.join("lauf 1/adapter").is_dir());
}

#[test]
fn a_name_that_leads_nowhere_is_told_why() {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("rows")).unwrap();
    workshop.write_rows("rows/a.jsonl", &[chat_row(0)]);
    for (path, help) in [
        ("rows\\\\a.jsonl", "write rows/a.jsonl"),
        ("C:\\\\data\\\\a.jsonl", "folders are separated by `/` here"),
        ("$HOME/a.jsonl", "environment variables are not replaced"),
        ("${DATA}/a.jsonl", "environment variables are not replaced"),
        ("~somebody/a.jsonl", "only a first `~` alone"),
        ("file:///tmp/a.jsonl", "without `file://`: /tmp/a.jsonl"),
    ] {
        workshop.write("recipe.toml", &RECIPE.replace("data.jsonl", path));
        assert_says!(workshop.fail(&["check", "recipe.toml"]), "data.train.0.path", help);
    }
    workshop.write("recipe.toml", &RECIPE.replace("data.jsonl", "C:\\data\\rows.jsonl"));
    assert_says!(workshop.fail(&["check", "recipe.toml"]), "recipe.toml:14", "a backslash begins an escape");
    workshop.write("recipe.toml", &RECIPE.replace("\"model\"", "\"models\\\\mine\""));
    let said = words(&workshop.fail(&["check", "recipe.toml"]));
    assert_says!(said, "there is no model at models\\mine", "folders are separated by `/` here");
}
