//! The README's table of model families, from the code.

use firebrand_models::families::Family;

use crate::golden;

/// A Markdown table with a row for every family.
pub fn family_table() -> String {
    let mut table = String::from(
        "| `model_type` | models | full | LoRA | PEFT's default targets | equal to transformers on |\n\
         |---|---|---|---|---|---|\n",
    );
    for family in Family::ALL {
        let code = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
        let targets: Vec<String> = family.default_targets().iter().map(|target| target.to_string()).collect();
        let models = golden::models_of(*family);
        // What works is what a golden proves.
        let proven = |adapted: bool| {
            let recipes = golden::folders_everywhere("trajectory-").into_iter();
            let found = recipes
                .map(|case| std::fs::read_to_string(golden::path(&case).join("recipe.toml")).unwrap())
                .any(|recipe| {
                    let names = models.iter().filter_map(|model| model.rsplit('/').next());
                    let of_family = names.into_iter().any(|name| recipe.contains(&format!("../{name}\"")));
                    of_family && recipe.contains("[adapter]") == adapted
                });
            if found { "yes" } else { "no" }
        };
        table += &format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            family.name(),
            family.models(),
            proven(false),
            proven(true),
            code(&targets),
            code(&models),
        );
    }
    table
}
