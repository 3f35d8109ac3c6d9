//! Strict accounting: [`RuleSet::account`] uses every tensor of the files and of the model exactly once, or names it in
//! an error.
//!
//! All problems are reported at once, each with the nearest name on the other side, because one wrong prefix affects
//! every name. The tensors of a quantized weight count as one, with the shape that its state gives; a part that is
//! missing or unused is named by itself.

use std::{collections::BTreeMap, path::Path};

use firebrand_kernels::QuantizationScheme;

use super::{
    accounting_error::{AccountingError, Doubled, Misshapen, Missing, Unused},
    bitsandbytes::{quantized_part_of, quantized_weights},
    checkpoint::Checkpoint,
    rules::{Layout, Reading, RuleSet},
    tie::{Head, HeadTie},
};
use crate::error::ModelError;
use crate::wording::nearest;

/// A tensor that the model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Our name.
    pub name: String,
    pub shape: Vec<usize>,
}

/// A tensor to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Our name.
    pub ours: String,
    /// Its name in the file.
    pub theirs: String,
    /// How the file lays it out.
    pub form: Form,
}

/// How a file stores the numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As numbers of one dtype.
    Dense(Layout),
    /// As codes and scales in several tensors. Rows and columns are as in memory, even where dense matrices are
    /// transposed.
    Quantized(QuantizationScheme),
}

/// A tensor of the files, or the tensors of a quantized weight.
#[derive(Clone, Copy)]
struct Found<'a> {
    theirs: &'a str,
    shape: &'a [usize],
    scheme: Option<QuantizationScheme>,
}

/// What each tensor of the files is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadPlan {
    /// One load per expected tensor, in the order of these.
    pub loads: Vec<Load>,
    /// Names in the files of the equal copy of a tied tensor ([`Head::TiedStoredTwice`]).
    pub copies: Vec<String>,
    /// Names in the files that a rule ignores.
    pub ignored: Vec<String>,
}

impl RuleSet {
    /// Pairs the tensors of `checkpoint` with those that the model expects; `tie` says how the head is tied, if the
    /// model has one.
    ///
    /// It reads only the states of quantized weights, so call it before allocating the model.
    ///
    /// # Errors
    /// Any tensor that is missing, unused, doubled or of another shape.
    pub fn account(
        &self,
        checkpoint: &Checkpoint,
        expected: &[Expected],
        tie: Option<&HeadTie>,
    ) -> Result<LoadPlan, ModelError> {
        let quantized = quantized_weights(checkpoint)?;
        let belongs = |part: &str| {
            let weight = quantized_part_of(part).and_then(|name| quantized.get_key_value(name));
            weight.is_some_and(|(name, header)| header.tensors(name).iter().any(|tensor| tensor == part))
        };
        let found =
            checkpoint.tensors().filter(|view| !belongs(view.name)).map(|view| match quantized.get(view.name) {
                Some(header) => Found { theirs: view.name, shape: &header.shape, scheme: Some(header.scheme) },
                None => Found { theirs: view.name, shape: view.shape, scheme: None },
            });
        let parts = quantized.iter().flat_map(|(name, header)| header.tensors(name).into_iter().skip(1));
        let missing = parts.filter(|part| checkpoint.find(part).is_none()).collect();
        self.pair(checkpoint.path(), found, missing, expected, tie).map_err(|error| Box::new(error).into())
    }

    /// Pairs tensors; `missing` holds the missing parts of quantized weights that are already known.
    fn pair<'a>(
        &self,
        path: &Path,
        found: impl Iterator<Item = Found<'a>>,
        mut missing: Vec<String>,
        expected: &[Expected],
        tie: Option<&HeadTie>,
    ) -> Result<LoadPlan, AccountingError> {
        let mut plan = LoadPlan { loads: Vec::new(), copies: Vec::new(), ignored: Vec::new() };
        let mut unused: Vec<&str> = Vec::new();
        let mut held: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for tensor in found {
            let theirs = tensor.theirs;
            match self.to_ours(theirs) {
                None => unused.push(theirs),
                Some(Reading::Ignored) => plan.ignored.push(theirs.to_owned()),
                Some(Reading::Tensor(ours)) => match tie.filter(|tie| tie.head == ours) {
                    Some(HeadTie { outcome: Head::TiedStoredTwice, .. }) => plan.copies.push(theirs.to_owned()),
                    Some(HeadTie { outcome: Head::TiedFromHead, embedding, .. }) => {
                        held.entry(embedding.clone()).or_default().push(tensor);
                    }
                    _ => held.entry(ours).or_default().push(tensor),
                },
            }
        }
        let (mut doubled, mut misshapen) = (Vec::new(), Vec::new());
        for Expected { name, shape } in expected {
            match held.remove(name).as_deref() {
                None | Some([]) => missing.push(self.to_theirs(name).unwrap_or_else(|| name.clone())),
                Some([found]) => {
                    let (form, shape) = match found.scheme {
                        Some(scheme) => (Form::Quantized(scheme), shape.clone()),
                        None => (Form::Dense(self.layout(name)), self.layout(name).shape(shape)),
                    };
                    let theirs = found.theirs.to_owned();
                    if found.shape == shape {
                        plan.loads.push(Load { ours: name.clone(), theirs, form });
                    } else {
                        misshapen.push(Misshapen { theirs, expected: shape, found: found.shape.to_vec() });
                    }
                }
                Some(several) => doubled.push(Doubled {
                    ours: name.clone(),
                    theirs: several.iter().map(|found| found.theirs.to_owned()).collect(),
                }),
            }
        }
        unused.extend(held.into_values().flatten().map(|found| found.theirs));
        if missing.is_empty() && unused.is_empty() && doubled.is_empty() && misshapen.is_empty() {
            return Ok(plan);
        }
        unused.sort_unstable();
        let (missing, unused) = with_nearest(missing, &unused);
        Err(AccountingError { path: path.to_owned(), missing, unused, doubled, misshapen })
    }
}

/// Adds to each name the most similar name of the other list.
fn with_nearest(missing: Vec<String>, unused: &[&str]) -> (Vec<Missing>, Vec<Unused>) {
    // Comparing every pair of two long lists would take minutes on a hostile file, and the first names already show the
    // pattern.
    const HINTS: usize = 50;
    let unused_of = |(i, theirs): (usize, &&str)| Unused {
        theirs: (*theirs).to_owned(),
        nearest: (i < HINTS).then(|| nearest(theirs, missing.iter().map(String::as_str))).flatten(),
    };
    let unused_hinted = unused.iter().enumerate().map(unused_of).collect();
    let missing_of = |(i, theirs): (usize, String)| {
        let nearest = (i < HINTS).then(|| nearest(&theirs, unused.iter().copied())).flatten();
        Missing { theirs, nearest }
    };
    (missing.into_iter().enumerate().map(missing_of).collect(), unused_hinted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Rule;

    fn rules() -> RuleSet {
        RuleSet::new([
            Rule::renamed("embed.weight", "model.embed_tokens.weight").or("embed_tokens.weight"),
            Rule::renamed("layers.{}.up.weight", "model.layers.{}.mlp.up_proj.weight"),
            Rule::same("lm_head.weight"),
            Rule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq"),
        ])
        .unwrap()
    }

    fn expected(names: &[&str]) -> Vec<Expected> {
        names.iter().map(|name| Expected { name: (*name).to_owned(), shape: vec![2, 3] }).collect()
    }

    fn pair(found: &[&str], wanted: &[&str], outcome: Head) -> Result<LoadPlan, AccountingError> {
        let (embedding, head) = ("embed.weight".to_owned(), "lm_head.weight".to_owned());
        let found = found.iter().map(|name| dense(name, &[2, 3]));
        let tie = HeadTie { embedding, head, outcome };
        rules().pair(Path::new("m"), found, vec![], &expected(wanted), Some(&tie))
    }

    fn dense<'a>(theirs: &'a str, shape: &'a [usize]) -> Found<'a> {
        Found { theirs, shape, scheme: None }
    }

    const EMBED: &str = "model.embed_tokens.weight";
    const UP: &str = "model.layers.0.mlp.up_proj.weight";

    #[test]
    fn each_tensor_is_paired_in_the_order_of_the_model() {
        let found = [UP, "model.layers.0.self_attn.rotary_emb.inv_freq", EMBED];
        let plan = pair(&found, &["embed.weight", "layers.0.up.weight"], Head::Tied).unwrap();
        let theirs: Vec<&str> = plan.loads.iter().map(|load| load.theirs.as_str()).collect();
        assert_eq!(theirs, [EMBED, UP]);
        assert_eq!(plan.ignored, [found[1]]);
        assert!(plan.copies.is_empty());
    }

    #[test]
    fn all_that_is_missing_or_unused_is_listed_with_the_nearest_name() {
        let found = [EMBED, "model.layers.0.mlp.up_prog.weight", "model.layers.9.mlp.up_proj.weight", "zzz"];
        let wanted = ["embed.weight", "layers.0.up.weight", "lm_head.weight"];
        let error = pair(&found, &wanted, Head::Untied).unwrap_err();
        let missing: Vec<&str> = error.missing.iter().map(|missing| missing.theirs.as_str()).collect();
        assert_eq!(missing, [UP, "lm_head.weight"]);
        let unused: Vec<&str> = error.unused.iter().map(|unused| unused.theirs.as_str()).collect();
        assert_eq!(unused, [found[1], found[2], "zzz"]);
        assert_eq!(error.unused[0].nearest.as_deref(), Some(UP));
        assert_eq!(error.unused[2].nearest, None);
        let message = error.to_string();
        assert!(message.contains("missing: `lm_head.weight`") && message.contains("unused: `zzz`"), "{message}");
    }

    #[test]
    fn two_spellings_of_one_tensor_are_an_error() {
        let error = pair(&[EMBED, "embed_tokens.weight"], &["embed.weight"], Head::Tied).unwrap_err();
        assert!(error.to_string().contains("as `model.embed_tokens.weight` and `embed_tokens.weight`"), "{error}");
    }

    #[test]
    fn another_shape_is_an_error() {
        let found = [dense(EMBED, &[3, 2])];
        let expected = expected(&["embed.weight"]);
        let error = rules().pair(Path::new("m"), found.into_iter(), vec![], &expected, None).unwrap_err();
        assert!(error.to_string().contains("expected [2, 3], found [3, 2]"), "{error}");
    }

    #[test]
    fn a_tied_head_is_loaded_once_from_where_it_is() {
        let both = [EMBED, "lm_head.weight"];
        let plan = pair(&both, &["embed.weight"], Head::TiedStoredTwice).unwrap();
        assert_eq!((plan.loads.len(), plan.copies), (1, vec!["lm_head.weight".to_owned()]));
        let plan = pair(&["lm_head.weight"], &["embed.weight"], Head::TiedFromHead).unwrap();
        assert_eq!(
            plan.loads[0],
            Load {
                ours: "embed.weight".to_owned(),
                theirs: "lm_head.weight".to_owned(),
                form: Form::Dense(Layout::Same)
            }
        );
        let plan = pair(&both, &["embed.weight", "lm_head.weight"], Head::UntiedByFile).unwrap();
        assert_eq!(plan.loads.len(), 2);
    }

    #[test]
    fn a_head_absent_and_untied_is_missing() {
        let error = pair(&[EMBED], &["embed.weight", "lm_head.weight"], Head::Untied).unwrap_err();
        assert_eq!(error.missing[0].theirs, "lm_head.weight");
    }
}
