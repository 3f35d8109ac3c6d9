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
        let proven = |prefix: &str| {
            let cases = golden::folders(prefix);
            let found = cases.iter().any(|case| {
                models.iter().any(|model| {
                    let file = ["recipe.toml", "adapter_config.json"].map(|file| golden::path(case).join(file));
                    let text = file.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
                    text.contains(&format!("../{model}\""))
                })
            });
            if found { "yes" } else { "no" }
        };
        table += &format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            family.name(),
            family.models(),
            proven("trajectory-full"),
            proven("lora-"),
            code(&targets),
            code(&models),
        );
    }
    table
}
