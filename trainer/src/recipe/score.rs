//! `[objective]` of kind `classify` and `reward`: what is learned of whole texts, or of images.

use firebrand_datasets::{Classes, Problem, RowKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Classification of texts or images.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifyRecipe {
    /// The names of the classes, by their numbers. Empty: left to the head of the model, or to the rows.
    pub labels: Vec<String>,
    /// What a row's label says. Absent: left to the model.
    pub problem: Option<Problem>,
    /// The kind of rows, which is that of the model.
    pub rows: RowKind,
}

impl Default for ClassifyRecipe {
    fn default() -> Self {
        ClassifyKeys::default().into()
    }
}

/// Rewards from preferences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RewardRecipe {
    /// Factor of the squared sum of a pair's rewards. Absent: it is not added.
    pub center: Option<f64>,
}

/// Keys of classification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClassifyKeys {
    /// The names of the classes, in the order of their numbers. When not given: those of the model's head, if it has one with
    /// names; else the names in the training rows, sorted; where rows have numbers, as many as the largest asks for. A head of
    /// images that tells other classes apart is replaced by a new one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = &["negative", "positive"])]
    pub labels: Vec<String>,
    /// What the label of a row says: one class (`single`, cross-entropy), a list of classes (`multi`, binary cross-entropy of
    /// each), or a value (`regression`, squared error). When not given: what the model's `config.json` says of its head, else
    /// `single`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["multi"]))]
    pub problem: Option<Problem>,
}

/// Keys of reward models.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RewardKeys {
    /// Adds this times the mean of `(chosen + rejected)^2`, so that rewards stay around zero (Eisenstein et al. 2023, arXiv
    /// 2312.09244). Not added when not given; 0.01 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), example = 0.01)]
    pub center: Option<f64>,
}

impl ClassifyRecipe {
    /// What is told apart.
    pub fn classes(&self) -> Classes {
        Classes { problem: self.problem.unwrap_or_default(), names: self.labels.clone() }
    }

    /// A name that two classes have.
    pub(super) fn repeated(labels: &[String]) -> Option<&str> {
        labels.iter().enumerate().find(|(index, name)| labels[..*index].contains(name)).map(|(_, name)| name.as_str())
    }
}

impl From<ClassifyKeys> for ClassifyRecipe {
    fn from(keys: ClassifyKeys) -> Self {
        Self { labels: keys.labels, problem: keys.problem, rows: RowKind::Tokens }
    }
}

impl From<ClassifyRecipe> for ClassifyKeys {
    fn from(recipe: ClassifyRecipe) -> Self {
        Self { labels: recipe.labels, problem: recipe.problem }
    }
}

impl From<RewardKeys> for RewardRecipe {
    fn from(keys: RewardKeys) -> Self {
        Self { center: keys.center }
    }
}

impl From<RewardRecipe> for RewardKeys {
    fn from(recipe: RewardRecipe) -> Self {
        Self { center: recipe.center }
    }
}
