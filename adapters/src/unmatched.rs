//! Names in the configuration of a finished adapter that match nothing in a model: [`AdapterConfig::matching`].
//!
//! PEFT passes them over when it loads an adapter: `target_modules` is often the union for several families, and a task
//! adds `classifier` and `score` to `modules_to_save` by itself. There the tensors decide. In a recipe such a name is a
//! mistake, and [`AdapterConfig::select`] refuses it.

use std::fmt;

use crate::targets::{is_suffix, pattern_value};
use crate::{AdapterConfig, AdapterError, ModulePattern, Targets};

/// A name that matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// The key of `adapter_config.json` that holds it.
    pub key: &'static str,
    /// The name, or the number of a layer.
    pub name: String,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in `{}`", self.name, self.key)
    }
}

impl AdapterConfig {
    /// The configuration without the names that match none of `modules` (paths of what can be adapted) or of `tensors`
    /// (names of the base's tensors), and these names. Where no target is left, the list stays as it is.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn matching(&self, modules: &[String], tensors: &[&str]) -> Result<(Self, Vec<Unmatched>), AdapterError> {
        let mut config = self.clone();
        let mut found = vec![];
        let mut note = |key, names: Vec<String>| found.extend(names.into_iter().map(|name| Unmatched { key, name }));
        note("modules_to_save", config.trained_base_mut().drop_unmatched(tensors));
        let targets = match &mut config {
            Self::Lora(lora) | Self::Dora(lora) => &mut lora.targets,
            Self::Ia3(ia3) => &mut ia3.targets,
        };
        if let Targets::Pattern(targets) = targets {
            note("target_modules", targets.drop_unmatched(modules));
        }
        if let Some(exclude) = config.exclude() {
            // Harmless, so it stays.
            note("exclude_modules", exclude.unmatched(modules));
        }
        let selected = config.targets().select(modules, config.exclude())?;
        let selected = config.trained_base().leaves(selected)?;
        match &mut config {
            Self::Lora(lora) | Self::Dora(lora) => {
                if let Some(layers) = &mut lora.layers {
                    let (numbers, patterns) = layers.drop_unmatched(&selected)?;
                    note("layers_to_transform", numbers.iter().map(ToString::to_string).collect());
                    note("layers_pattern", patterns);
                }
                let unused = |key, pattern: &str| -> Result<Option<String>, AdapterError> {
                    let one = [(pattern.to_string(), ())];
                    for path in &selected {
                        if pattern_value(key, &one, path)?.is_some() {
                            return Ok(None);
                        }
                    }
                    Ok(Some(pattern.to_string()))
                };
                for (pattern, _) in &lora.rank_pattern {
                    note("rank_pattern", unused("rank_pattern", pattern)?.into_iter().collect());
                }
                for (pattern, _) in &lora.alpha_pattern {
                    note("alpha_pattern", unused("alpha_pattern", pattern)?.into_iter().collect());
                }
            }
            Self::Ia3(ia3) => note("feedforward_modules", ia3.drop_unmatched(&selected)),
        }
        Ok((config, found))
    }
}

impl ModulePattern {
    /// Its names that match none of `modules`.
    fn unmatched(&self, modules: &[String]) -> Vec<String> {
        let Self::Suffixes(names) = self else { return vec![] };
        let matches = |name: &&String| modules.iter().any(|path| is_suffix(name, path));
        names.iter().filter(|name| !matches(name)).cloned().collect()
    }

    /// Removes the names that match none of `modules`, and returns them; if none matches, all stay.
    fn drop_unmatched(&mut self, modules: &[String]) -> Vec<String> {
        let unmatched = self.unmatched(modules);
        match self {
            Self::Suffixes(names) if unmatched.len() < names.len() => {
                names.retain(|name| !unmatched.contains(name));
                unmatched
            }
            Self::Suffixes(_) | Self::Regex(_) => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ia3Config, Layers, LoraConfig, TrainedBase};

    fn modules() -> Vec<String> {
        let paths = (0..2).flat_map(|layer| ["q_proj", "v_proj"].map(|name| format!("model.layers.{layer}.{name}")));
        paths.collect()
    }

    fn names(names: &[&str]) -> ModulePattern {
        ModulePattern::Suffixes(names.iter().map(|name| name.to_string()).collect())
    }

    fn found(config: &AdapterConfig) -> (AdapterConfig, Vec<String>) {
        let (config, unmatched) = config.matching(&modules(), &["model.norm.weight"]).unwrap();
        (config, unmatched.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_key_is_told_and_what_matches_stays() {
        let mut lora = LoraConfig::new(4, 8.0, Targets::Pattern(names(&["q_proj", "w1", "v_proj", "proj"])));
        lora.exclude = Some(names(&["gate"]));
        lora.layers = Some(Layers { indices: vec![1, 9], patterns: vec!["layers".into(), "h".into()] });
        lora.rank_pattern = vec![("layers.1.q_proj".into(), 2), ("k_proj".into(), 3), ("layers.0.q_proj".into(), 5)];
        lora.alpha_pattern = vec![("v_proj".into(), 1.0), ("w1".into(), 2.0)];
        lora.base = TrainedBase { modules: vec!["score".into(), "norm".into()], ..TrainedBase::default() };
        let (kept, told) = found(&AdapterConfig::Lora(lora.clone()));
        assert_eq!(
            told,
            [
                "`score` in `modules_to_save`",
                "`w1` in `target_modules`",
                "`proj` in `target_modules`",
                "`gate` in `exclude_modules`",
                "`9` in `layers_to_transform`",
                "`h` in `layers_pattern`",
                "`k_proj` in `rank_pattern`",
                "`w1` in `alpha_pattern`",
            ]
        );
        let selected = kept.select(&modules()).unwrap();
        assert_eq!(selected, ["model.layers.1.q_proj", "model.layers.1.v_proj"]);
        assert!(AdapterConfig::Lora(lora).select(&modules()).is_err(), "in a recipe it stays an error");
        assert_eq!(found(&kept).1.len(), 4, "only what stays harmlessly is left");
    }

    #[test]
    fn an_adapter_of_which_nothing_matches_is_still_refused() {
        let lora = LoraConfig::new(4, 8.0, Targets::Pattern(names(&["w1", "w2"])));
        assert!(AdapterConfig::Lora(lora).matching(&modules(), &[]).is_err());
        let ia3 = |feedforward: &[&str]| {
            let targets = Targets::Pattern(names(&["q_proj", "w1"]));
            AdapterConfig::Ia3(Ia3Config {
                targets,
                exclude: None,
                feedforward: names(feedforward),
                base: TrainedBase::default(),
            })
        };
        let (kept, told) = found(&ia3(&["w2", "q_proj"]));
        assert_eq!(told, ["`w1` in `target_modules`", "`w2` in `feedforward_modules`"]);
        kept.select(&modules()).unwrap();
    }
}
