//! The files that a model came from: [`Component`] holds what is needed to write them again.

use std::collections::HashMap;
use std::sync::Arc;

use firebrand_kernels::QuantizationScheme;

use super::ModelFiles;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::weights::{Dtype, HeadTie, Reading, RuleSet};

/// A set of weights files with its configuration.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub config: HfConfig,
    /// Names of the tensors.
    pub rules: Arc<RuleSet>,
    /// Dtype of each tensor in the files, by its name there.
    pub stored: HashMap<String, Dtype>,
    /// How the files quantize linear maps, and the precision that these had before.
    pub quantized: Option<(QuantizationScheme, Dtype)>,
    /// How the files tie head and embedding; absent where there are no files, or not both tensors.
    pub tie: Option<HeadTie>,
}

impl Component {
    /// The component of opened files. The caller sets `quantized`, which only the weights show.
    pub fn of(files: &ModelFiles) -> Self {
        Self {
            config: files.config().clone(),
            rules: Arc::clone(files.rules()),
            stored: files.checkpoint().tensors().map(|view| (view.name.to_string(), view.dtype)).collect(),
            quantized: None,
            tie: files.head_tie().cloned(),
        }
    }

    /// The component of a model without files.
    pub fn fresh(config: HfConfig, rules: Arc<RuleSet>) -> Self {
        Self { config, rules, stored: HashMap::new(), quantized: None, tie: None }
    }

    /// The name of a parameter in the files.
    pub fn name_in_files(&self, ours: &str) -> Result<String, ModelError> {
        named(ours, self.rules.to_theirs(ours))
    }

    /// The name of a parameter in the reference's memory.
    pub fn name_in_memory(&self, ours: &str) -> Result<String, ModelError> {
        named(ours, self.rules.in_memory(ours))
    }

    /// Takes other names for the same tensors.
    pub fn rename(&mut self, rules: RuleSet) {
        let renamed = |(theirs, dtype): (String, Dtype)| match self.rules.to_ours(&theirs) {
            Some(Reading::Tensor(ours)) => (rules.to_theirs(&ours).unwrap_or(theirs), dtype),
            Some(Reading::Ignored) | None => (theirs, dtype),
        };
        self.stored = std::mem::take(&mut self.stored).into_iter().map(renamed).collect();
        self.rules = Arc::new(rules);
    }
}

fn named(ours: &str, name: Option<String>) -> Result<String, ModelError> {
    name.ok_or_else(|| ModelError::Rules {
        rule: ours.to_string(),
        problem: "no rule of the family names this parameter".into(),
    })
}
