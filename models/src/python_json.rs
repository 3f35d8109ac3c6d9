//! JSON as Python writes it: with the words `NaN`, `Infinity` and `-Infinity`, which JSON does not have.

/// The words, a longer one before what it ends in.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with these words as strings. Words within strings stay.
pub(crate) fn with_words_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut is_string) = (text, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !is_string && rest.starts_with(**word));
        let length = match (word, next) {
            (Some(word), _) => {
                out.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            (None, '\\') if is_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, other) => other.len_utf8(),
        };
        is_string ^= next == '"';
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_of_strings_become_strings() {
        let text = r#"{"a NaN": -Infinity, "b\"NaN\\": [NaN,Infinity], "ü": "\\"}"#;
        let expected = r#"{"a NaN": "-Infinity", "b\"NaN\\": ["NaN","Infinity"], "ü": "\\"}"#;
        assert_eq!(with_words_quoted(text), expected);
        assert_eq!(with_words_quoted("\"\\"), "\"\\");
    }
}
