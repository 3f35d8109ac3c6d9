//! Target modules: [`Targets`] says which modules are adapted, by their Hugging Face paths.
//!
//! The rules are PEFT's (`tuners_utils.check_target_module_exists`): an entry of a list matches whole path suffixes, a
//! regular expression must match the whole path, and `all-linear` selects every linear module except the output head.
//! Unlike in PEFT, a list entry that selects nothing is an error.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::AdapterError;

/// A set of modules: a list of path suffixes, or one regular expression for whole paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModulePattern {
    /// Paths that equal one of these, or end in `.` and one of these: `["q_proj", "layers.3.mlp.up_proj"]`.
    Suffixes(Vec<String>),
    /// A regular expression that must match a whole path.
    Regex(String),
}

/// The modules to adapt.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Every linear module except the output head.
    AllLinear,
    /// The modules that a pattern selects.
    Pattern(ModulePattern),
}

/// A choice of layers, as by PEFT's `layers_to_transform` and `layers_pattern`: the first number in a path is its
/// layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Numbers of the layers, from 0.
    pub indices: Vec<usize>,
    /// Regular expressions, one of which must match the name before the number; empty: any name.
    pub patterns: Vec<String>,
}

impl Layers {
    /// The ones of `paths` that are in these layers.
    ///
    /// # Errors
    /// A pattern that does not compile, or a layer without any of the paths.
    pub fn select(&self, paths: Vec<String>) -> Result<Vec<String>, AdapterError> {
        let layer = self.numbering()?;
        if let Some(unused) = self.indices.iter().find(|index| paths.iter().all(|path| layer(path) != Some(**index))) {
            return Err(AdapterError::UnusedTarget {
                key: "adapter.layers".into(),
                target: unused.to_string(),
                available: last_names(&paths),
            });
        }
        Ok(paths.into_iter().filter(|path| layer(path).is_some_and(|layer| self.indices.contains(&layer))).collect())
    }

    /// Removes the numbers to which none of `paths` belongs, unless none would be left, and returns them, and the patterns
    /// that match none, which are harmless and stay.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub(crate) fn drop_unmatched(&mut self, paths: &[String]) -> Result<(Vec<usize>, Vec<String>), AdapterError> {
        let mut unused = vec![];
        for pattern in &self.patterns {
            let alone = Self { indices: vec![], patterns: vec![pattern.clone()] };
            let layer = alone.numbering()?;
            if paths.iter().all(|path| layer(path).is_none()) {
                unused.push(pattern.clone());
            }
        }
        let layer = self.numbering()?;
        let known: Vec<usize> = paths.iter().filter_map(|path| layer(path)).collect();
        let (kept, dropped): (Vec<usize>, Vec<usize>) = self.indices.iter().partition(|index| known.contains(index));
        if kept.is_empty() {
            return Ok((vec![], unused));
        }
        self.indices = kept;
        Ok((dropped, unused))
    }

    /// Finds the number of a path's layer.
    fn numbering(&self) -> Result<impl Fn(&str) -> Option<usize> + use<>, AdapterError> {
        let any = [String::from(r"[^.]*")];
        let patterns = if self.patterns.is_empty() { any.as_slice() } else { self.patterns.as_slice() };
        let regex =
            |pattern: &String| compile("adapter.layers_pattern", &format!(r"^(?:|.*?\.)(?:{pattern})\.(\d+)\."));
        let patterns = patterns.iter().map(regex).collect::<Result<Vec<_>, _>>()?;
        Ok(move |path: &str| patterns.iter().find_map(|pattern| pattern.captures(path))?.get(1)?.as_str().parse().ok())
    }
}

impl ModulePattern {
    /// Whether PEFT counts `path` among IA3's feedforward modules: by the end of the path, with or without a dot before
    /// it, or by a match of the whole path.
    pub(crate) fn ends(&self, key: &str, path: &str) -> Result<bool, AdapterError> {
        match self {
            Self::Suffixes(names) => Ok(names.iter().any(|name| path.ends_with(name.as_str()))),
            Self::Regex(pattern) => Ok(compile_whole(key, pattern)?.is_match(path)),
        }
    }

    fn compile(&self, key: &str) -> Result<Matcher<'_>, AdapterError> {
        Ok(match self {
            Self::Suffixes(suffixes) => Matcher::Suffixes(suffixes),
            Self::Regex(pattern) => Matcher::Regex(compile_whole(key, pattern)?),
        })
    }
}

impl Targets {
    /// The paths of `modules` to adapt, in their order. `modules` are all linear modules without the output head.
    ///
    /// # Errors
    /// A pattern that does not compile, a list entry that selects nothing, or an empty selection.
    pub fn select(&self, modules: &[String], exclude: Option<&ModulePattern>) -> Result<Vec<String>, AdapterError> {
        let excluded = exclude.map(|pattern| pattern.compile("adapter.exclude")).transpose()?;
        let chosen: Vec<String> = match self {
            Self::AllLinear => modules.to_vec(),
            Self::Pattern(pattern) => {
                if let ModulePattern::Suffixes(suffixes) = pattern {
                    for target in suffixes {
                        if !modules.iter().any(|path| is_suffix(target, path)) {
                            return Err(AdapterError::UnusedTarget {
                                key: "adapter.targets".into(),
                                target: target.clone(),
                                available: last_names(modules),
                            });
                        }
                    }
                }
                let matcher = pattern.compile("adapter.targets")?;
                modules.iter().filter(|path| matcher.matches(path)).cloned().collect()
            }
        };
        let kept: Vec<String> =
            chosen.into_iter().filter(|path| !excluded.as_ref().is_some_and(|matcher| matcher.matches(path))).collect();
        if kept.is_empty() {
            return Err(AdapterError::NoMatch {
                key: "adapter.targets".into(),
                targets: self.describe(),
                available: last_names(modules),
            });
        }
        Ok(kept)
    }

    fn describe(&self) -> String {
        match self {
            Self::AllLinear => "\"all-linear\" (after exclude)".into(),
            Self::Pattern(ModulePattern::Suffixes(suffixes)) => format!("{suffixes:?}"),
            Self::Pattern(ModulePattern::Regex(pattern)) => format!("{{ regex = {pattern:?} }}"),
        }
    }
}

/// The value of the first pattern that matches `path`, as for PEFT's `rank_pattern` and `alpha_pattern`: a key is a
/// regular expression that must match the end of the path, from a dot or the start.
///
/// # Errors
/// A key that does not compile.
pub(crate) fn pattern_value<T: Copy>(
    key: &str,
    patterns: &[(String, T)],
    path: &str,
) -> Result<Option<T>, AdapterError> {
    for (pattern, value) in patterns {
        if compile_whole(key, &format!(r"(.*\.)?({pattern})"))?.is_match(path) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

enum Matcher<'a> {
    Suffixes(&'a [String]),
    Regex(Regex),
}

impl Matcher<'_> {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Suffixes(suffixes) => suffixes.iter().any(|suffix| is_suffix(suffix, path)),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

pub(crate) fn is_suffix(suffix: &str, path: &str) -> bool {
    path.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn compile_whole(key: &str, pattern: &str) -> Result<Regex, AdapterError> {
    compile(key, &format!("^(?:{pattern})$"))
}

pub(crate) fn compile(key: &str, pattern: &str) -> Result<Regex, AdapterError> {
    Regex::new(pattern).map_err(|error| AdapterError::Pattern {
        key: key.into(),
        pattern: pattern.into(),
        reason: error.to_string(),
    })
}

fn last_names(modules: &[String]) -> String {
    let mut names: Vec<&str> = modules.iter().map(|path| path.rsplit('.').next().unwrap_or(path)).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<String> {
        ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"]
            .iter()
            .flat_map(|name| (0..2).map(move |layer| format!("model.layers.{layer}.{name}")))
            .collect()
    }

    fn suffixes(names: &[&str]) -> ModulePattern {
        ModulePattern::Suffixes(names.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn a_suffix_matches_at_dots_only() {
        let found = Targets::Pattern(suffixes(&["q_proj"])).select(&modules(), None).unwrap();
        assert_eq!(found, ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]);
        let error = Targets::Pattern(suffixes(&["proj"])).select(&modules(), None).unwrap_err().to_string();
        assert!(error.contains("`proj`") && error.contains("q_proj, up_proj, v_proj"), "{error}");
    }

    #[test]
    fn a_list_entry_that_selects_nothing_is_an_error() {
        let error = Targets::Pattern(suffixes(&["q_proj", "k_porj"])).select(&modules(), None).unwrap_err();
        assert!(matches!(error, AdapterError::UnusedTarget { target, .. } if target == "k_porj"));
    }

    #[test]
    fn a_regex_matches_whole_paths() {
        let regex = |text: &str| Targets::Pattern(ModulePattern::Regex(text.into()));
        assert_eq!(regex(r".*\.0\..*(q|v)_proj").select(&modules(), None).unwrap().len(), 2);
        assert!(regex("q_proj").select(&modules(), None).is_err());
        assert!(regex("(").select(&modules(), None).unwrap_err().to_string().contains("adapter.targets"));
    }

    #[test]
    fn layers_are_the_first_numbers_of_paths() {
        let layers = |indices: &[usize], patterns: &[&str]| Layers {
            indices: indices.to_vec(),
            patterns: patterns.iter().map(|name| name.to_string()).collect(),
        };
        let found = layers(&[1], &[]).select(modules()).unwrap();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|path| path.starts_with("model.layers.1.")), "{found:?}");
        assert_eq!(layers(&[1], &["h", "layers"]).select(modules()).unwrap(), found);
        assert!(layers(&[1], &["h"]).select(modules()).is_err());
        assert!(layers(&[1, 2], &[]).select(modules()).unwrap_err().to_string().contains("`2`"));
        let expert = vec!["model.layers.0.experts.3.w1".to_string()];
        assert_eq!(layers(&[0], &[]).select(expert.clone()).unwrap(), expert);
    }

    #[test]
    fn exclude_wins_and_an_empty_selection_is_an_error() {
        let kept = Targets::AllLinear.select(&modules(), Some(&suffixes(&["up_proj"]))).unwrap();
        assert_eq!(kept.len(), 4);
        let everything = ModulePattern::Regex(".*".into());
        assert!(Targets::AllLinear.select(&modules(), Some(&everything)).is_err());
    }

    #[test]
    fn patterns_match_path_ends_in_order() {
        let patterns = [("0.self_attn.q_proj".to_string(), 4), ("q_proj".to_string(), 2)];
        let value = |path| pattern_value("rank_pattern", &patterns, path).unwrap();
        assert_eq!(value("model.layers.0.self_attn.q_proj"), Some(4));
        assert_eq!(value("model.layers.1.self_attn.q_proj"), Some(2));
        assert_eq!(value("model.layers.1.self_attn.v_proj"), None);
    }
}
