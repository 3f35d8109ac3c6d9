//! Recipes as users meet them: what a good one becomes, and what each kind of bad one is told.

mod changes;
mod consumers;
mod errors;
mod files;
mod gathered;
mod keys;
mod overriding;
mod pages;

use std::fs;
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};
use tempfile::TempDir;

use super::paths::Folders;
use super::{Loaded, Recipe, RecipeError};

/// The shortest recipe there is.
const SHORTEST: &str = "model = \"owner/name\"\noutput = \"runs/a\"\n\n[[data.train]]\npath = \"rows.jsonl\"\n";

/// A folder with the files that the recipes of these tests name.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in ["rows.jsonl", "eval.jsonl", "chat.jinja"] {
        fs::write(folder.path().join(file), "").unwrap();
    }
    fs::create_dir(folder.path().join("adapter")).unwrap();
    folder
}

fn load_in(folder: &Path, text: &str, overrides: &[&str]) -> Result<Loaded, RecipeError> {
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    let folders = Folders { current: folder, recipe: folder };
    Recipe::parse("recipe.toml", text, &overrides, folders)
}

fn load(text: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
    load_in(folder().path(), text, overrides).map(|loaded| loaded.recipe)
}

/// The error as a user sees it, without colours.
fn shown(error: &RecipeError) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(200)
        .render_report(&mut text, error)
        .unwrap();
    text
}
