//! Tensor names with placeholders: a [`Template`] such as `model.layers.{}.mlp.up_proj.weight` matches and makes names.
//!
//! A name consists of parts between dots. `{}` is always a whole part and stands for a number as names write it:
//! decimal, without leading zeros. So matching needs no search, and it is easy to decide whether two templates can
//! match the same name.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    text: String,
}

const NUMBER: &str = "{}";

impl Template {
    /// Error: braces that are not a placeholder, or an empty part.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        for part in text.split('.') {
            if part.is_empty() {
                return Err("a part between dots is empty");
            }
            if part != NUMBER && part.contains(['{', '}']) {
                return Err("`{}` must be a whole part between dots");
            }
        }
        Ok(Template { text: text.to_owned() })
    }

    pub fn placeholders(&self) -> usize {
        self.parts().filter(|part| *part == NUMBER).count()
    }

    /// The numbers at the placeholders of `name`, if it matches.
    pub fn matches<'n>(&self, name: &'n str) -> Option<Vec<&'n str>> {
        let mut numbers = Vec::new();
        let mut parts = name.split('.');
        for expected in self.parts() {
            let part = parts.next()?;
            match expected {
                NUMBER if is_number(part) => numbers.push(part),
                NUMBER => return None,
                literal if literal == part => {}
                _ => return None,
            }
        }
        parts.next().is_none().then_some(numbers)
    }

    /// The name with `numbers` in place of the placeholders.
    pub fn fill(&self, numbers: &[&str]) -> String {
        let mut numbers = numbers.iter();
        let fill = |part| if part == NUMBER { numbers.next().copied().unwrap_or(NUMBER) } else { part };
        self.parts().map(fill).collect::<Vec<&str>>().join(".")
    }

    /// The first number in `name`, a name that matches or one that begins or goes on as such a name does, and its place
    /// among the parts.
    pub fn first_number<'n>(&self, name: &'n str) -> Option<(usize, &'n str)> {
        let at = self.parts().position(|part| part == NUMBER)?;
        let mut parts = name.split('.');
        let same = self.parts().take(at).all(|expected| parts.next() == Some(expected));
        parts.next().filter(|part| same && is_number(part)).map(|number| (at, number))
    }

    /// Whether some name matches both templates.
    pub fn overlaps(&self, other: &Template) -> bool {
        let meets = |(a, b)| a == b || (a == NUMBER && is_number(b)) || (b == NUMBER && is_number(a));
        self.parts().count() == other.parts().count() && self.parts().zip(other.parts()).all(meets)
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.text.split('.')
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_number(part: &str) -> bool {
    part == "0" || (!part.is_empty() && !part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::new(text).unwrap()
    }

    #[test]
    fn matching_and_filling_are_inverse() {
        let experts = template("layers.{}.experts.{}.w1.weight");
        let name = "layers.10.experts.0.w1.weight";
        let numbers = experts.matches(name).unwrap();
        assert_eq!(numbers, ["10", "0"]);
        assert_eq!(experts.fill(&numbers), name);
    }

    #[test]
    fn only_whole_names_with_plain_numbers_match() {
        let layer = template("layers.{}.weight");
        for name in
            ["layers.01.weight", "layers.-1.weight", "layers..weight", "layers.1.weight.x", "layers.1", "x.1.weight"]
        {
            assert_eq!(layer.matches(name), None, "{name}");
        }
        assert_eq!(template("norm.weight").matches("norm.weight"), Some(vec![]));
    }

    #[test]
    fn overlaps_are_seen() {
        assert!(template("a.{}.w").overlaps(&template("a.3.w")));
        assert!(template("a.{}.w").overlaps(&template("a.{}.w")));
        assert!(template("a.{}.3").overlaps(&template("a.2.{}")));
        assert!(!template("a.{}.w").overlaps(&template("a.b.w")));
        assert!(!template("a.{}.w").overlaps(&template("a.{}")));
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["a.x{}.b", "a.{i}.b", "a..b", ""] {
            assert!(Template::new(text).is_err(), "{text}");
        }
    }
}
