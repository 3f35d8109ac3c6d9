//! Classifiers in `config.json`: how many classes there are, what they are called, and which token is padding.
//!
//! Reference: transformers 5.23, `configuration_utils.py` and `GenericForSequenceClassification` in `modeling_layers.py`,
//! of which GPT-2, GPT-NeoX and older families have copies of their own. All read a text at the last token that is not
//! `pad_token_id`.

use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::hf_config::HfConfig;

/// The ends of the names of transformers' classes of sequence classifiers, and of classifiers of images.
pub(crate) const OF_TEXTS: &str = "ForSequenceClassification";
pub(super) const OF_IMAGES: &str = "ForImageClassification";

/// PEFT's name, and that of files, for the module of the scores of texts, and of images.
pub(super) const SCORE_OF_TEXTS: &str = "score";
pub(super) const SCORE_OF_IMAGES: &str = "classifier";

/// All names of modules of scores.
pub(crate) const SCORE_MODULES: [&str; 2] = [SCORE_OF_TEXTS, SCORE_OF_IMAGES];

/// The most classes that are accepted: more than any published classifier has.
const MOST: usize = 1 << 16;

/// The number of classes where the file names none: transformers' default, which it does not write.
const USUAL: usize = 2;

/// What a classifier tells apart, as `config.json` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassNames {
    /// The names of the classes, by their numbers.
    pub names: Vec<String>,
    /// `problem_type`: `single_label_classification`, `multi_label_classification` or `regression`.
    pub problem_type: Option<String>,
}

/// The number of classes, if the file is that of a classifier whose class ends in `of`.
pub(super) fn classes(config: &HfConfig, of: &str) -> Result<Option<usize>, ModelError> {
    let class = config.optional_strings("architectures")?.and_then(|classes| classes.first().copied());
    if !class.is_some_and(|class| class.ends_with(of)) {
        return Ok(None);
    }
    let named = config.section("id2label")?.map(|names| names.map().len());
    let count = match named {
        Some(count) => count,
        None => config.optional_usize("num_labels")?.unwrap_or(USUAL),
    };
    if !(1..=MOST).contains(&count) {
        let key = if named.is_some() { "id2label" } else { "num_labels" };
        return Err(config.wrong(key, format!("1 to {MOST} classes"), count.to_string()));
    }
    Ok(Some(count))
}

/// The id of the padding, which a classifier does not read; -1 is no token's.
pub(super) fn padding(config: &HfConfig) -> Result<Option<usize>, ModelError> {
    match config.map().get("pad_token_id").and_then(Value::as_i64) {
        Some(id) if id < 0 => Ok(None),
        _ => config.optional_usize("pad_token_id"),
    }
}

impl ClassNames {
    /// The names and the problem in a `config.json`, for `count` classes. A class without a name has transformers' one.
    pub fn of(config: &HfConfig, count: usize) -> Self {
        let given = config.section("id2label").ok().flatten();
        let name = |number: usize| {
            let given = given.as_ref()?.map().get(&number.to_string())?.as_str()?;
            Some(given.to_owned())
        };
        let names = (0..count).map(|number| name(number).unwrap_or_else(|| format!("LABEL_{number}")));
        let problem_type = config.optional_string("problem_type").ok().flatten().map(str::to_owned);
        Self { names: names.collect(), problem_type }
    }

    /// Writes them into a `config.json`.
    pub(crate) fn write(&self, config: &mut HfConfig) {
        let by_number = self.names.iter().enumerate();
        let names: Map<String, Value> =
            by_number.clone().map(|(number, name)| (number.to_string(), name.as_str().into())).collect();
        let numbers: Map<String, Value> = by_number.map(|(number, name)| (name.clone(), number.into())).collect();
        config.set("id2label", names);
        config.set("label2id", numbers);
        if config.says("num_labels") {
            config.set("num_labels", self.names.len());
        }
        config.set("problem_type", self.problem_type.clone().map_or(Value::Null, Value::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HfConfig {
        HfConfig::from_json("config.json", text).unwrap()
    }

    #[test]
    fn a_class_of_transformers_and_its_labels_are_a_classifier() {
        let of = |text: &str| classes(&config(text), OF_TEXTS);
        let class = r#""architectures": ["LlamaForSequenceClassification"]"#;
        assert_eq!(of(r#"{"architectures": ["LlamaForCausalLM"], "id2label": {"0": "a"}}"#).unwrap(), None);
        assert_eq!(of("{}").unwrap(), None);
        assert_eq!(of(&format!("{{{class}}}")).unwrap(), Some(2));
        assert_eq!(of(&format!(r#"{{{class}, "num_labels": 1}}"#)).unwrap(), Some(1));
        assert_eq!(of(&format!(r#"{{{class}, "id2label": {{"0": "a", "1": "b", "2": "c"}}}}"#)).unwrap(), Some(3));
        let error = of(&format!(r#"{{{class}, "id2label": {{}}}}"#)).unwrap_err().to_string();
        assert!(error.contains("id2label"), "{error}");
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        let names = ClassNames { names: vec!["b".into(), "a".into()], problem_type: Some("regression".into()) };
        let mut written = config(r#"{"num_labels": 7}"#);
        names.write(&mut written);
        assert_eq!(ClassNames::of(&written, 2), names);
        assert_eq!(written.map()["label2id"]["a"], 1);
        assert_eq!(written.map()["num_labels"], 2);
        assert_eq!(ClassNames::of(&written, 3).names[2], "LABEL_2");
    }

    #[test]
    fn padding_is_an_id_or_none() {
        for (text, id) in [("{}", None), (r#"{"pad_token_id": null}"#, None), (r#"{"pad_token_id": -1}"#, None)] {
            assert_eq!(padding(&config(text)).unwrap(), id);
        }
        assert_eq!(padding(&config(r#"{"pad_token_id": 3}"#)).unwrap(), Some(3));
    }
}
