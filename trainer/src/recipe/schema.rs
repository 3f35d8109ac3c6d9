//! The JSON Schema of a recipe, for editors (Taplo completes and checks with it) and for our own checks and reference.

use std::sync::OnceLock;

use serde_json::Value;

use super::file::RecipeFile;
use super::inlined::inlined;

/// The schema of a recipe, JSON Schema draft 2020-12.
pub fn json_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(inlined::<RecipeFile>)
}
