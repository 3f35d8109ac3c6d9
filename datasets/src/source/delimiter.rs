//! What separates the cells of a table of text: [`Delimiter`] is the key `delimiter` of a source, and [`found`] sees which
//! it is where the recipe says nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A character that separates cells, one byte long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delimiter(pub(super) u8);

impl TryFrom<String> for Delimiter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') && !byte.is_ascii_alphanumeric() => {
                Ok(Self(*byte))
            }
            _ => Err(format!("`delimiter` is one character, such as \";\" or \"\\t\", found {text:?}")),
        }
    }
}

impl From<Delimiter> for String {
    fn from(delimiter: Delimiter) -> Self {
        char::from(delimiter.0).to_string()
    }
}

impl JsonSchema for Delimiter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Delimiter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": [";"] })
    }
}

/// The separator of a table that begins with `start`, which usually is `usual`. Another is taken where the header has it,
/// has not the usual one, and the line below has as many of it.
pub(super) fn found(start: &[u8], usual: u8) -> u8 {
    let mut lines = start.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let Some(header) = lines.next() else { return usual };
    let row = lines.next();
    let count = |line: &[u8], separator: u8| {
        let mut quoted = false;
        let outside = line.iter().filter(|byte| {
            quoted ^= **byte == b'"';
            !quoted && **byte == separator
        });
        outside.count()
    };
    if count(header, usual) > 0 {
        return usual;
    }
    let fits = |separator: &u8| {
        let all = count(header, *separator);
        // A cell of the row may be longer than what was read of it, so it may have fewer.
        all > 0 && row.is_none_or(|row| count(row, *separator) > 0 && count(row, *separator) <= all)
    };
    [b';', b'\t', b'|', b','].into_iter().filter(|separator| *separator != usual).find(fits).unwrap_or(usual)
}

/// The separator that Excel names in a first line of its own (`sep=;`), and the length of that line.
pub(super) fn named(start: &[u8]) -> Option<(u8, usize)> {
    let line = start.split(|byte| *byte == b'\n').next()?;
    match line.trim_ascii_end().strip_prefix(b"sep=") {
        Some([separator]) => Some((*separator, line.len() + 1)),
        // A tab is white space.
        Some([]) if line.starts_with(b"sep=\t") => Some((b'\t', line.len() + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separator_is_what_header_and_row_have() {
        for (start, usual, expected) in [
            ("a,b\n1,2\n", b',', b','),
            ("a;b\n1,5;2\n", b',', b';'),
            ("a\tb\n1\t2\n", b',', b'\t'),
            ("a|b|c\r\n1|2|3\r\n", b',', b'|'),
            ("a,b\n1,2\n", b'\t', b','),
            ("a;b", b',', b';'),
            ("\"a;b\"\n1\n", b',', b','),
            // One column with a name of two words.
            ("notes; remarks\nall is well\n", b',', b','),
            ("a,b;c\n1;2,3\n", b',', b','),
            ("", b',', b','),
        ] {
            assert_eq!(char::from(found(start.as_bytes(), usual)), char::from(expected), "{start}");
        }
        assert_eq!(named(b"sep=;\r\na;b\n"), Some((b';', 7)));
        assert_eq!(named(b"sep=\t\na\tb\n"), Some((b'\t', 6)));
        assert_eq!(named(b"sepal,petal\n"), None);
    }

    #[test]
    fn a_delimiter_is_one_character() {
        for good in [";", "\t", "|", ",", " ", "^"] {
            assert_eq!(String::from(Delimiter::try_from(good.to_string()).unwrap()), good);
        }
        for bad in ["", ";;", "\"", "a", "\n", "\u{1f}\u{1f}", "é"] {
            assert!(Delimiter::try_from(bad.to_string()).is_err(), "{bad:?}");
        }
    }
}
