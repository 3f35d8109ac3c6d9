//! The schema and the reference page.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::super::paths::Folders;
use super::super::{Recipe, json_schema, reference};
use super::{SHORTEST, load, shown};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every recipe of the repository.
fn recipes() -> Vec<PathBuf> {
    let mut folders = vec![root().join("recipes")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

/// Recipes for rows that whoever runs them has to bring, because a row is large; they say how to make one.
const WITHOUT_ROWS: [&str; 4] = ["clip.toml", "dinov2.toml", "dinov2_with_registers.toml", "UNet2DConditionModel.toml"];

#[test]
fn every_recipe_of_the_repository_loads() {
    for path in recipes() {
        let text = fs::read_to_string(&path).unwrap();
        let folders = Folders { current: &root(), recipe: path.parent().unwrap() };
        let rows = "data.train=[{path=\"recipes/data/quickstart.jsonl\"}]".to_string();
        let brought = WITHOUT_ROWS.iter().any(|name| path.ends_with(name));
        let overrides = if brought { vec![rows] } else { vec![] };
        let loaded = Recipe::parse(&path.display().to_string(), &text, &overrides, folders);
        assert!(loaded.is_ok(), "{}", loaded.map_err(|error| shown(&error)).unwrap_err());
    }
}

#[test]
fn the_schema_is_self_contained_and_closed() {
    let text = json_schema().to_string();
    assert!(!text.contains("$ref") && !text.contains("null"), "{text}");
    let closed = |pointer: &str| {
        let section = json_schema().pointer(pointer).unwrap();
        assert_eq!(section["additionalProperties"], false, "{pointer}");
    };
    for pointer in [
        "",
        "/properties/train",
        "/properties/data",
        "/properties/data/properties/train/items",
        "/properties/adapter/oneOf/0",
    ] {
        closed(pointer);
    }
    assert_eq!(json_schema()["required"], serde_json::json!(["model", "output", "data"]));
}

#[test]
fn a_section_without_kind_takes_the_default_kind() {
    let optimizer = |keys: &str| load(&format!("{SHORTEST}[optimizer]\n{keys}\n"), &[]).unwrap().optimizer;
    assert_eq!(optimizer("learning_rate = 1e-3"), optimizer("kind = \"adamw\"\nlearning_rate = 1e-3"));
}

#[test]
fn recipe_reference_is_current() {
    let path = root().join("docs/recipe.md");
    let page = reference();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(root().join("docs")).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/recipe.md is stale; write it anew with: UPDATE_DOCS=1 cargo test -p firebrand recipe_reference"
    );
}
