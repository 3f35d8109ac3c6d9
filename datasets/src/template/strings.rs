//! Python's string functions, for the methods of strings and for the filters that do the same.

/// `str.splitlines(keepends)`.
pub(super) fn lines(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end =
            |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let (line, end) = match rest.char_indices().find(|(_, c)| is_end(*c)) {
            Some((at, '\r')) if rest[at + 1..].starts_with('\n') => (at, at + 2),
            Some((at, c)) => (at, at + c.len_utf8()),
            None => (rest.len(), rest.len()),
        };
        let taken = &rest[..if keep_ends { end } else { line }];
        rest = &rest[end..];
        Some(taken)
    })
}

/// `str.strip()`, as the filter `trim` does it too.
pub(super) fn trim(text: &str, characters: Option<&str>) -> String {
    text.trim_matches(stripped(characters)).to_string()
}

/// A predicate for the characters that are stripped: the given ones, else Python's whitespace.
pub(super) fn stripped(characters: Option<&str>) -> impl Fn(char) -> bool {
    move |c| match characters {
        Some(characters) => characters.contains(c),
        None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
    }
}
