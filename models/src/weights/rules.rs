//! Rules for names: a [`RuleSet`] translates our names of tensors to those in files, and back.
//!
//! A rule covers whole names, with `{}` for the number of a layer or an expert. Every name has at most one rule on
//! either side; rules that contradict each other are an error when the set is made. Only [`Layout::Transposed`]
//! reorders values: what is fused on disk stays fused in memory.

use super::template::Template;
use crate::error::ModelError;

/// The layout of a tensor in files, relative to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// The same layout.
    #[default]
    Same,
    /// A matrix with rows and columns exchanged, as GPT-2's `Conv1D` is stored. Its own inverse.
    Transposed,
    /// A tensor of rank zero in files; in memory a vector of length one.
    Scalar,
    /// In files, so many dimensions of length one stand before those in memory.
    Ones(usize),
    /// The kernel of a convolution of one pixel in files, `[out, in, 1, 1]`; in memory a matrix.
    Pointwise,
}

impl Layout {
    /// The shape in files of a tensor that has `shape` in memory.
    pub fn shape(self, shape: &[usize]) -> Vec<usize> {
        match self {
            Layout::Same => shape.to_vec(),
            Layout::Transposed => shape.iter().rev().copied().collect(),
            Layout::Scalar => vec![],
            Layout::Ones(count) => [vec![1; count].as_slice(), shape].concat(),
            Layout::Pointwise => [shape, &[1, 1]].concat(),
        }
    }

    /// Converts values to the other layout; `shape` is their present shape.
    pub fn convert<T: Copy>(self, values: Vec<T>, shape: &[usize]) -> Vec<T> {
        match (self, shape) {
            (Layout::Transposed, &[rows, columns]) => {
                (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect()
            }
            _ => values,
        }
    }
}

/// A rule for a name.
#[derive(Debug, Clone)]
pub enum Rule {
    /// The same tensor under two names. It is written as `theirs`, and also read under the `aliases` of older files and
    /// under the name that the reference has for it in memory, by which adapters are named.
    Same { ours: String, theirs: String, aliases: Vec<String>, in_memory: InMemory, layout: Layout },
    /// A buffer that files may hold and the model computes itself, such as `rotary_emb.inv_freq`.
    Ignored { theirs: String },
}

impl Rule {
    /// A tensor with one name on both sides.
    pub fn same(name: &str) -> Rule {
        Rule::renamed(name, name)
    }

    /// A tensor with our name and another name in files.
    pub fn renamed(ours: &str, theirs: &str) -> Rule {
        let (ours, theirs) = (ours.to_owned(), theirs.to_owned());
        Rule::Same { ours, theirs, aliases: Vec::new(), in_memory: InMemory::Same, layout: Layout::Same }
    }

    /// A tensor that is not needed.
    pub fn ignored(theirs: &str) -> Rule {
        Rule::Ignored { theirs: theirs.to_owned() }
    }

    /// The same rule for a matrix that files hold transposed.
    pub fn transposed(self) -> Rule {
        self.laid_out(Layout::Transposed)
    }

    /// The same rule for a tensor with another layout in files.
    pub fn laid_out(mut self, other: Layout) -> Rule {
        if let Rule::Same { layout, .. } = &mut self {
            *layout = other;
        }
        self
    }

    /// Adds another name under which the tensor is read. A rule that ignores has none: write a second rule.
    pub fn or(mut self, alias: &str) -> Rule {
        if let Rule::Same { aliases, .. } = &mut self {
            aliases.push(alias.to_owned());
        }
        self
    }

    /// Says that the reference calls the tensor otherwise in memory than in files. It is read under that name too.
    pub fn called(mut self, name: &str) -> Rule {
        if let Rule::Same { in_memory, .. } = &mut self {
            *in_memory = InMemory::Called(name.to_owned());
        }
        self
    }

    /// Says that the tensor is several in the reference's memory.
    pub fn split(mut self) -> Rule {
        if let Rule::Same { in_memory, .. } = &mut self {
            *in_memory = InMemory::Split;
        }
        self
    }
}

/// What a tensor of files is in the reference's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InMemory {
    /// The same, under the same name.
    Same,
    /// The same under another name.
    Called(String),
    /// Several tensors.
    Split,
}

/// The meaning of a name in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Our name for it.
    Tensor(String),
    /// A known tensor that is not needed.
    Ignored,
}

/// The rules of one model, checked for consistency.
#[derive(Debug)]
pub struct RuleSet {
    /// Pairs of a name in files and our name (`None`: ignored). A name that is written comes before its aliases.
    readings: Vec<(Template, Option<Template>)>,
    /// Our name, the name in files, and the layout there.
    writings: Vec<(Template, Template, Layout)>,
    /// Our name and that in the reference's memory, where it is not that in files.
    memories: Vec<(Template, Template)>,
    /// Our names of tensors that are several there.
    split: Vec<Template>,
}

impl RuleSet {
    /// Error: a malformed template, spellings with different numbers of `{}`, a name with two rules.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self, ModelError> {
        let mut set = RuleSet { readings: Vec::new(), writings: Vec::new(), memories: Vec::new(), split: Vec::new() };
        for rule in rules {
            match rule {
                Rule::Ignored { theirs } => set.add_reading(template(&theirs)?, None)?,
                Rule::Same { ours, theirs, aliases, in_memory, layout } => {
                    let (ours, canonical) = (template(&ours)?, template(&theirs)?);
                    if let Some((claimed, ..)) = set.writings.iter().find(|(other, ..)| other.overlaps(&ours)) {
                        return Err(contradiction(&ours, format!("`{claimed}` is already ours by another rule")));
                    }
                    set.add_reading(canonical.clone(), Some(&ours))?;
                    for alias in aliases {
                        set.add_reading(template(&alias)?, Some(&ours))?;
                    }
                    match in_memory {
                        InMemory::Same => {}
                        InMemory::Called(name) => {
                            let name = template(&name)?;
                            set.add_reading(name.clone(), Some(&ours))?;
                            set.memories.push((ours.clone(), name));
                        }
                        InMemory::Split => set.split.push(ours.clone()),
                    }
                    set.writings.push((ours, canonical, layout));
                }
            }
        }
        Ok(set)
    }

    /// The meaning of a name in a file; `None` when no rule covers it.
    pub fn to_ours(&self, theirs: &str) -> Option<Reading> {
        self.readings.iter().find_map(|(from, to)| {
            let numbers = from.matches(theirs)?;
            Some(to.as_ref().map_or(Reading::Ignored, |to| Reading::Tensor(to.fill(&numbers))))
        })
    }

    /// The name under which our tensor is written; `None` when no rule covers it.
    pub fn to_theirs(&self, ours: &str) -> Option<String> {
        self.writings.iter().find_map(|(from, to, _)| Some(to.fill(&from.matches(ours)?)))
    }

    /// The name of our tensor in the reference's memory; `None` when no rule covers it.
    pub fn in_memory(&self, ours: &str) -> Option<String> {
        self.called(ours).or_else(|| self.to_theirs(ours))
    }

    /// The name in the reference's memory of a tensor with this name in files, where the two differ.
    pub fn in_memory_of(&self, theirs: &str) -> Option<String> {
        match self.to_ours(theirs)? {
            Reading::Tensor(ours) => self.called(&ours),
            Reading::Ignored => None,
        }
    }

    /// Whether our tensor is several in the reference's memory.
    pub fn is_split(&self, ours: &str) -> bool {
        self.split.iter().any(|template| template.matches(ours).is_some())
    }

    fn called(&self, ours: &str) -> Option<String> {
        self.memories.iter().find_map(|(from, to)| Some(to.fill(&from.matches(ours)?)))
    }

    /// The layout of our tensor in files.
    pub fn layout(&self, ours: &str) -> Layout {
        let found = self.writings.iter().find(|(from, ..)| from.matches(ours).is_some());
        found.map_or(Layout::Same, |(.., layout)| *layout)
    }

    /// The name in files of a tensor or module whose block has another number, where a block's number is the first of a
    /// name. Names outside of blocks stay; `None`: `number` says that there is no such block any more.
    pub fn renumbered(&self, theirs: &str, number: impl Fn(usize) -> Option<usize>) -> Option<String> {
        let found = self.readings.iter().find_map(|(from, _)| {
            let (at, digits) = from.first_number(theirs)?;
            Some((at, digits.parse().ok()?))
        });
        let Some((at, old)) = found else { return Some(theirs.to_owned()) };
        let new = number(old)?.to_string();
        let parts = theirs.split('.').enumerate().map(|(place, part)| if place == at { new.as_str() } else { part });
        Some(parts.collect::<Vec<&str>>().join("."))
    }

    fn add_reading(&mut self, theirs: Template, ours: Option<&Template>) -> Result<(), ModelError> {
        if let Some((claimed, _)) = self.readings.iter().find(|(other, _)| other.overlaps(&theirs)) {
            return Err(contradiction(&theirs, format!("a file's name could mean this rule or that of `{claimed}`")));
        }
        if let Some(ours) = ours.filter(|ours| ours.placeholders() != theirs.placeholders()) {
            return Err(contradiction(&theirs, format!("not as many `{{}}` as in `{ours}`")));
        }
        self.readings.push((theirs, ours.cloned()));
        Ok(())
    }
}

fn template(text: &str) -> Result<Template, ModelError> {
    Template::new(text).map_err(|problem| ModelError::Rules { rule: text.to_owned(), problem: problem.to_owned() })
}

fn contradiction(template: &Template, problem: String) -> ModelError {
    ModelError::Rules { rule: template.to_string(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RuleSet {
        RuleSet::new([
            Rule::renamed("embed.weight", "model.embed_tokens.weight").or("embed_tokens.weight"),
            Rule::renamed("layers.{}.experts.{}.up.weight", "model.layers.{}.mlp.experts.{}.w3.weight"),
            Rule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq"),
            Rule::same("lm_head.weight"),
        ])
        .unwrap()
    }

    #[test]
    fn names_go_there_and_back() {
        let set = set();
        for ours in ["embed.weight", "layers.3.experts.12.up.weight", "lm_head.weight"] {
            let theirs = set.to_theirs(ours).unwrap();
            assert_eq!(set.to_ours(&theirs), Some(Reading::Tensor(ours.to_owned())), "{theirs}");
        }
        assert_eq!(set.to_theirs("layers.3.experts.12.up.weight").unwrap(), "model.layers.3.mlp.experts.12.w3.weight");
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let set = RuleSet::new([Rule::renamed("a.{}", "b.{}").transposed(), Rule::same("c")]).unwrap();
        assert_eq!((set.layout("a.3"), set.layout("c")), (Layout::Transposed, Layout::Same));
        let theirs = Layout::Transposed.convert(vec![1, 2, 3, 4, 5, 6], &[2, 3]);
        assert_eq!(theirs, [1, 4, 2, 5, 3, 6]);
        assert_eq!(Layout::Transposed.convert(theirs, &[3, 2]), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_name_in_memory_is_read_and_names_adapters() {
        let set = RuleSet::new([Rule::renamed("q.{}", "query.{}").called("q_proj.{}"), Rule::same("c")]).unwrap();
        assert_eq!(
            (set.in_memory("q.3").unwrap(), set.to_theirs("q.3").unwrap()),
            ("q_proj.3".into(), "query.3".into())
        );
        assert_eq!(set.to_ours("q_proj.3"), Some(Reading::Tensor("q.3".into())));
        assert_eq!((set.in_memory_of("query.3"), set.in_memory_of("c")), (Some("q_proj.3".into()), None));
        assert_eq!((set.in_memory("c"), set.in_memory("d")), (Some("c".into()), None));
    }

    #[test]
    fn dimensions_of_one_stand_before_the_others_in_files() {
        assert_eq!(Layout::Ones(2).shape(&[3, 4]), [1, 1, 3, 4]);
        assert_eq!(Layout::Ones(1).convert(vec![1, 2], &[1, 2]), [1, 2]);
    }

    #[test]
    fn aliases_are_read_and_never_written() {
        let set = set();
        assert_eq!(set.to_ours("embed_tokens.weight"), Some(Reading::Tensor("embed.weight".to_owned())));
        assert_eq!(set.to_theirs("embed.weight").unwrap(), "model.embed_tokens.weight");
    }

    #[test]
    fn ignored_is_not_unknown() {
        let set = set();
        assert_eq!(set.to_ours("model.layers.0.self_attn.rotary_emb.inv_freq"), Some(Reading::Ignored));
        assert_eq!(set.to_ours("model.layers.x.self_attn.rotary_emb.inv_freq"), None);
        assert_eq!(set.to_theirs("layers.0.unknown"), None);
    }

    #[test]
    fn a_block_gets_another_number_wherever_a_name_has_it() {
        let set = set();
        let third_first = |number: usize| (number == 3).then_some(0);
        for (theirs, renumbered) in [
            ("model.layers.3.mlp.experts.12.w3.weight", Some("model.layers.0.mlp.experts.12.w3.weight")),
            ("model.layers.3.mlp.experts.3.w3.weight.absmax", Some("model.layers.0.mlp.experts.3.w3.weight.absmax")),
            ("model.layers.3.self_attn.rotary_emb.inv_freq", Some("model.layers.0.self_attn.rotary_emb.inv_freq")),
            ("model.layers.3", Some("model.layers.0")),
            ("model.layers.1.mlp", None),
            ("model.embed_tokens.weight", Some("model.embed_tokens.weight")),
            ("lm_head", Some("lm_head")),
        ] {
            assert_eq!(set.renumbered(theirs, third_first).as_deref(), renumbered, "{theirs}");
        }
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let cases = [
            (vec![Rule::renamed("a.{}", "x.{}"), Rule::renamed("b", "x.7")], "`x.7`"),
            (vec![Rule::renamed("a.{}", "x.{}"), Rule::renamed("a.0", "y")], "`a.0`"),
            (vec![Rule::same("a"), Rule::ignored("a")], "`a`"),
            (vec![Rule::same("a").or("a")], "`a`"),
            (vec![Rule::same("a").or("b"), Rule::same("b")], "`b`"),
            (vec![Rule::renamed("a.{}", "a")], "not as many"),
            (vec![Rule::same("a.{}").or("a.{}.{}")], "not as many"),
            (vec![Rule::same("a.l{}")], "whole part"),
        ];
        for (rules, says) in cases {
            let message = RuleSet::new(rules).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
