//! Training of base parameters beside adapters: [`TrainedBase`] holds PEFT's `modules_to_save`, `bias` and
//! `ensure_weight_tying`.
//!
//! Names have PEFT's meaning (`utils/other.py`, `tuners/tuners_utils.py`), which has two rules for one list: a module
//! is trained as a whole where its path *ends* in a name, with or without a dot before it (`norm` includes every
//! `post_attention_layernorm`); adapters leave out modules where a whole part of the path matches. Not here: which
//! tensors of a model these are.

use crate::AdapterError;
use crate::targets::compile;

/// The parameters of the base that are trained, in terms of Hugging Face module paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrainedBase {
    /// Ends of the paths of modules that are trained as a whole.
    pub modules: Vec<String>,
    /// Which biases are trained.
    pub biases: Biases,
    /// What happens to a tied head when the token table or the head is trained or adapted.
    pub tying: Tying,
}

/// Which biases of the base are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Biases {
    /// None.
    #[default]
    None,
    /// Those of all modules.
    All,
    /// Those of modules with an adapter.
    OfAdapted,
}

/// What happens to a tied head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tying {
    /// It becomes a matrix of its own, as large as the table: training one of the two does not change the other.
    #[default]
    Broken,
    /// Both stay one matrix and are trained together.
    Kept,
}

impl TrainedBase {
    /// Whether nothing of the base is trained.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.biases == Biases::None
    }

    /// Whether the tensor `name` (`model.norm.weight`) is trained where adapters are on the modules `adapted`.
    pub fn trains(&self, name: &str, adapted: &[String]) -> bool {
        let of_module = modules_of(name).any(|module| self.modules.iter().any(|end| module.ends_with(end.as_str())));
        let bias = name.strip_suffix(".bias");
        of_module
            || match self.biases {
                Biases::None => false,
                Biases::All => bias.is_some(),
                Biases::OfAdapted => bias.is_some_and(|module| adapted.iter().any(|path| path == module)),
            }
    }

    /// The ones of `paths` that may have adapters: modules trained as a whole have none.
    ///
    /// # Errors
    /// A name that is not a valid regular expression.
    pub(crate) fn leaves(&self, paths: Vec<String>) -> Result<Vec<String>, AdapterError> {
        let regex = |name: &String| compile("adapter.modules_to_save", &format!(r"^(?:|.*\.)(?:{name})(?:$|\.)"));
        let taken = self.modules.iter().map(regex).collect::<Result<Vec<_>, _>>()?;
        Ok(paths.into_iter().filter(|path| !taken.iter().any(|regex| regex.is_match(path))).collect())
    }

    /// Removes the modules to which none of the tensors `names` belongs, and returns them.
    pub(crate) fn drop_unmatched(&mut self, names: &[&str]) -> Vec<String> {
        let used =
            |end: &String| names.iter().flat_map(|name| modules_of(name)).any(|module| module.ends_with(end.as_str()));
        let (kept, dropped) = self.modules.drain(..).partition(used);
        self.modules = kept;
        dropped
    }

    /// The first of its modules to which none of the tensors `names` belongs.
    pub fn unused<'a>(&'a self, names: &[&str]) -> Option<&'a str> {
        let used =
            |end: &String| names.iter().flat_map(|name| modules_of(name)).any(|module| module.ends_with(end.as_str()));
        self.modules.iter().find(|end| !used(end)).map(String::as_str)
    }
}

/// The modules that contain a tensor, from the outermost.
fn modules_of(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> TrainedBase {
        TrainedBase { modules: names.iter().map(|name| name.to_string()).collect(), ..TrainedBase::default() }
    }

    #[test]
    fn modules_are_trained_whole_by_the_end_of_their_path() {
        let base = modules(&["norm", "layers.1.mlp"]);
        for (name, trained) in [
            ("model.norm.weight", true),
            ("model.layers.0.post_attention_layernorm.weight", true),
            ("model.layers.1.mlp.up_proj.weight", true),
            ("model.layers.11.mlp.up_proj.weight", false),
            ("model.norms.weight", false),
            ("lm_head.weight", false),
        ] {
            assert_eq!(base.trains(name, &[]), trained, "{name}");
        }
        assert_eq!(base.unused(&["model.norm.weight", "model.layers.1.mlp.up_proj.weight"]), None);
        assert_eq!(base.unused(&["model.norm.weight"]), Some("layers.1.mlp"));
    }

    #[test]
    fn biases_are_all_or_those_of_adapted_modules() {
        let adapted = ["model.layers.0.q_proj".to_string()];
        let trains = |biases, name| TrainedBase { biases, ..TrainedBase::default() }.trains(name, &adapted);
        for (name, all, of_adapted) in [
            ("model.layers.0.q_proj.bias", true, true),
            ("model.layers.0.k_proj.bias", true, false),
            ("model.norm.bias", true, false),
            ("model.layers.0.q_proj.weight", false, false),
        ] {
            assert_eq!(
                [Biases::None, Biases::All, Biases::OfAdapted].map(|biases| trains(biases, name)),
                [false, all, of_adapted]
            );
        }
    }

    #[test]
    fn adapters_pass_by_modules_that_are_trained_whole() {
        let paths = ["model.layers.0.mlp.up_proj", "model.layers.0.q_proj", "lm_head"].map(String::from);
        let left = modules(&["mlp", "head"]).leaves(paths.to_vec()).unwrap();
        assert_eq!(left, ["model.layers.0.q_proj", "lm_head"]);
        assert!(modules(&["("]).leaves(paths.to_vec()).is_err());
    }
}
