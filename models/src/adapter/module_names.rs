//! Names of modules where the reference's files and its memory differ. PEFT names modules as they are in memory, and adapters
//! written before that became another name than the file's have the file's: [`in_memory`] and [`of_file`] turn these into the
//! former.

use firebrand_adapters::peft::TensorNames;
use firebrand_adapters::{AdapterConfig, AdapterError, ModulePattern, Targets};

use crate::error::ModelError;
use crate::model::Model;

/// The configuration with the names of memory in its targets and exclusions. A name that no module has in memory, and some have
/// in files, is replaced; all others stay.
///
/// # Errors
/// The family's rules contradict themselves.
pub(crate) fn in_memory(model: &Model, config: &AdapterConfig) -> Result<AdapterConfig, ModelError> {
    let mut config = config.clone();
    let modules = modules(model)?;
    if modules.iter().all(|module| module.in_memory == module.in_files) {
        return Ok(config);
    }
    let rename = |pattern: &mut ModulePattern| match pattern {
        ModulePattern::Suffixes(names) => {
            let renamed = names.iter().flat_map(|name| renamed(name, &modules));
            let mut unique: Vec<String> = vec![];
            renamed.for_each(|name| {
                if !unique.contains(&name) {
                    unique.push(name)
                }
            });
            *names = unique;
        }
        // What a regular expression meant cannot be said in other names.
        ModulePattern::Regex(_) => {}
    };
    let of_targets = |targets: &mut Targets| match targets {
        Targets::Pattern(pattern) => rename(pattern),
        Targets::AllLinear => {}
    };
    match &mut config {
        AdapterConfig::Lora(lora) | AdapterConfig::Dora(lora) => {
            of_targets(&mut lora.targets);
            lora.exclude.iter_mut().for_each(rename);
        }
        AdapterConfig::Ia3(ia3) => {
            of_targets(&mut ia3.targets);
            ia3.exclude.iter_mut().for_each(rename);
            rename(&mut ia3.feedforward);
        }
    }
    Ok(config)
}

/// The names of tensors in an adapter's file by the modules of memory.
pub(crate) fn of_file(model: &Model, names: TensorNames) -> TensorNames {
    let rules = model.rules();
    let module = |path: String| {
        let name = rules.in_memory_of(&format!("{path}.weight"));
        name.and_then(|name| Some(name.strip_suffix(".weight")?.to_owned())).unwrap_or(path)
    };
    TensorNames {
        adapters: names.adapters.into_iter().map(|(path, tensors)| (module(path), tensors)).collect(),
        base: names.base.into_iter().map(|(name, of)| (rules.in_memory_of(&name).unwrap_or(name), of)).collect(),
        rows: names.rows,
    }
}

/// Error: an adapter on a matrix that is two modules in the reference's memory, which would not read it.
pub(crate) fn check(model: &Model, selected: &[String]) -> Result<(), ModelError> {
    for module in modules(model)?.into_iter().filter(|module| module.is_split) {
        if selected.contains(&module.in_memory) {
            let name = module.in_memory.rsplit('.').next().unwrap_or_default();
            let problem = format!(
                "an adapter on `{}`: files hold it as one matrix, and PEFT knows two modules in its place; leave it out \
                 (exclude = [\"{name}\"])",
                module.in_memory
            );
            return Err(AdapterError::Unreadable { problem }.into());
        }
    }
    Ok(())
}

/// A module with a matrix, by both names.
struct Module {
    in_memory: String,
    in_files: String,
    is_split: bool,
}

fn modules(model: &Model) -> Result<Vec<Module>, ModelError> {
    let module = |name: String| name.strip_suffix(".weight").map(str::to_owned);
    let mut found = vec![];
    for info in model.base_parameters().iter().filter(|info| info.role.is_linear()) {
        let rules = model.rules();
        let both = module(model.name_for_peft(&info.path)?).zip(rules.to_theirs(&info.path).and_then(module));
        if let Some((in_memory, in_files)) = both {
            found.push(Module { in_memory, in_files, is_split: rules.is_split(&info.path) });
        }
    }
    Ok(found)
}

/// What a target that may be a name of files is called in memory: the last names of the modules it means, or their paths where
/// other modules end in these names too.
fn renamed(target: &str, modules: &[Module]) -> Vec<String> {
    let ends = |path: &str| path.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let meant: Vec<&str> =
        modules.iter().filter(|module| ends(&module.in_files)).map(|module| module.in_memory.as_str()).collect();
    if meant.is_empty() || modules.iter().any(|module| ends(&module.in_memory)) {
        return vec![target.to_owned()];
    }
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let mut names: Vec<String> = meant.iter().map(|path| last(path)).collect();
    names.dedup();
    let others = modules
        .iter()
        .any(|module| names.contains(&last(&module.in_memory)) && !meant.contains(&module.in_memory.as_str()));
    if others { meant.into_iter().map(str::to_owned).collect() } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<Module> {
        let names = [("attention.q_proj", "attention.attention.query"), ("mlp.fc1", "mlp.fc1")];
        let of_layer = |layer: usize| {
            names.map(|(memory, files)| Module {
                in_memory: format!("layer.{layer}.{memory}"),
                in_files: format!("layer.{layer}.{files}"),
                is_split: false,
            })
        };
        (0..2).flat_map(of_layer).collect()
    }

    #[test]
    fn names_of_files_mean_the_modules_of_memory() {
        let modules = modules();
        for name in ["query", "attention.query", "attention.attention.query"] {
            assert_eq!(renamed(name, &modules), ["q_proj"], "{name}");
        }
        assert_eq!(renamed("layer.1.attention.attention.query", &modules), ["layer.1.attention.q_proj"]);
        for name in ["q_proj", "fc1", "unknown"] {
            assert_eq!(renamed(name, &modules), [name]);
        }
    }
}
