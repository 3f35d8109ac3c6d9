//! Weight tying: [`HeadTie::resolve`] decides once, from config and files together, whether the output head is the
//! token embedding.
//!
//! The rule is that of transformers 5. Where the config says tied, one stored tensor serves both, two equal ones are
//! tied, and two different ones are kept apart, because then the config is wrong. Where the config says untied, nothing
//! is tied, even if the two are equal: training would make them differ.

use super::{
    checkpoint::Checkpoint,
    rules::{Reading, RuleSet},
    view::TensorView,
};

/// How head and embedding are tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Untied by the config: the head is a tensor of its own, and the files must hold it.
    Untied,
    /// Tied by the config, and stored once, under the embedding's name.
    Tied,
    /// Tied by the config, and stored twice, as equal tensors. Written once, unless the caller keeps the copy.
    TiedStoredTwice,
    /// Tied by the config, and stored once, under the head's name.
    TiedFromHead,
    /// The config says tied, but the files hold two different tensors, which are kept apart. A config written for this
    /// model must say untied.
    UntiedByFile,
}

impl Head {
    /// Whether the model has one tensor for both.
    pub fn is_tied(self) -> bool {
        match self {
            Head::Tied | Head::TiedStoredTwice | Head::TiedFromHead => true,
            Head::Untied | Head::UntiedByFile => false,
        }
    }
}

/// The decision, and the two tensors that it concerns (our names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTie {
    pub embedding: String,
    pub head: String,
    pub outcome: Head,
}

impl HeadTie {
    /// Decides for the tensors `embedding` and `head` (our names); `config_tied` is `tie_word_embeddings`.
    ///
    /// It reads both tensors if the config ties them and both are stored. Whether the required tensors are stored is
    /// checked by [`RuleSet::account`].
    pub fn resolve(rules: &RuleSet, checkpoint: &Checkpoint, embedding: &str, head: &str, config_tied: bool) -> Self {
        let find = |ours: &str| {
            let name = checkpoint
                .names()
                .find(|theirs| matches!(rules.to_ours(theirs), Some(Reading::Tensor(name)) if name == ours));
            name.and_then(|name| checkpoint.find(name))
        };
        let outcome = match (config_tied, find(embedding), find(head)) {
            (false, _, _) => Head::Untied,
            (true, _, None) => Head::Tied,
            (true, None, Some(_)) => Head::TiedFromHead,
            (true, Some(embedding), Some(head)) if equal(embedding, head) => Head::TiedStoredTwice,
            (true, Some(_), Some(_)) => Head::UntiedByFile,
        };
        HeadTie { embedding: embedding.to_owned(), head: head.to_owned(), outcome }
    }
}

fn equal(a: TensorView, b: TensorView) -> bool {
    a.dtype == b.dtype && a.shape == b.shape && a.bytes() == b.bytes()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::weights::{CheckpointPlan, Dtype, PlanOptions, Rule, TensorSpec};

    fn outcome(tensors: &[(&str, u8)], config_tied: bool) -> Head {
        let rules = RuleSet::new([
            Rule::renamed("embed.weight", "model.embed_tokens.weight"),
            Rule::same("lm_head.weight").or("embed_out.weight"),
        ])
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str| TensorSpec { name: name.to_owned(), dtype: Dtype::U8, shape: vec![1] };
        let specs = tensors.iter().map(|(name, _)| spec(name)).collect();
        let plan = CheckpointPlan::new(specs, &PlanOptions::default()).unwrap();
        let value = |spec: &TensorSpec| tensors.iter().find(|(name, _)| *name == spec.name).unwrap().1;
        plan.write(folder.path(), |spec| Ok(Cow::Owned(vec![value(spec)]))).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        HeadTie::resolve(&rules, &checkpoint, "embed.weight", "lm_head.weight", config_tied).outcome
    }

    const EMBED: &str = "model.embed_tokens.weight";
    const HEAD: &str = "lm_head.weight";

    #[test]
    fn a_tied_config_follows_the_file() {
        assert_eq!(outcome(&[(EMBED, 1)], true), Head::Tied);
        assert_eq!(outcome(&[(HEAD, 1)], true), Head::TiedFromHead);
        assert_eq!(outcome(&[(EMBED, 1), (HEAD, 1)], true), Head::TiedStoredTwice);
        assert_eq!(outcome(&[(EMBED, 1), ("embed_out.weight", 1)], true), Head::TiedStoredTwice);
        assert_eq!(outcome(&[(EMBED, 1), (HEAD, 2)], true), Head::UntiedByFile);
    }

    #[test]
    fn an_untied_config_is_never_tied_by_equal_weights() {
        assert_eq!(outcome(&[(EMBED, 1), (HEAD, 1)], false), Head::Untied);
        assert_eq!(outcome(&[(EMBED, 1)], false), Head::Untied);
    }
}
