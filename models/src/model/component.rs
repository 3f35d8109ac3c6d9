//! What is known of the files that a model came from: what is needed to write them again.

use std::collections::HashMap;
use std::sync::Arc;

use firebrand_kernels::QuantizationScheme;

use super::ModelFiles;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::weights::{Dtype, HeadTie, RuleSet};

/// One set of weights files with its configuration.
#[derive(Debug, Clone)]
pub(super) struct Component {
    pub config: HfConfig,
    /// Names of its tensors.
    pub rules: Arc<RuleSet>,
    /// Dtype of each tensor in the files, by their name.
    pub stored: HashMap<String, Dtype>,
    /// How its linear maps are quantized in the files, and the precision they were quantized from.
    pub quantized: Option<(QuantizationScheme, Dtype)>,
    /// How head and embedding relate in the files; absent where there are no files, or not both.
    pub tie: Option<HeadTie>,
}

impl Component {
    /// Of opened files; `quantized` is for the caller to fill in, because it shows in the weights.
    pub fn of(files: &ModelFiles) -> Self {
        Self {
            config: files.config().clone(),
            rules: Arc::clone(files.rules()),
            stored: files.checkpoint().tensors().map(|view| (view.name.to_string(), view.dtype)).collect(),
            quantized: None,
            tie: files.head_tie().cloned(),
        }
    }

    /// Of no files yet.
    pub fn fresh(config: HfConfig, rules: Arc<RuleSet>) -> Self {
        Self { config, rules, stored: HashMap::new(), quantized: None, tie: None }
    }

    /// The name of a parameter in the files.
    pub fn name_in_files(&self, ours: &str) -> Result<String, ModelError> {
        self.rules.to_theirs(ours).ok_or_else(|| ModelError::Rules {
            rule: ours.to_string(),
            problem: "no rule of the family names this parameter".into(),
        })
    }
}
