//! How names from files stand in messages: cut to a length, with the most similar known name.

/// The candidate most like `name`, if any is alike.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A hostile file may hold very many names; a hint is not worth more time than this.
    const CONSIDERED: usize = 2_000;
    const ALIKE: f64 = 0.6;
    candidates
        .into_iter()
        .take(CONSIDERED)
        .map(|candidate| (strsim::normalized_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| clip(candidate))
}

/// Names come from untrusted files: a message shows at most this much of one.
pub(crate) fn clip(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

pub(crate) fn nearest_note(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (nearest: `{name}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_the_misspelling_and_nothing_for_a_stranger() {
        let keys = ["hidden_size", "vocab_size", "rope_theta"];
        assert_eq!(nearest("hiden_size", keys), Some("hidden_size".to_owned()));
        assert_eq!(nearest("zzzz", keys), None);
    }

    #[test]
    fn clip_keeps_character_boundaries() {
        assert_eq!(clip(&"é".repeat(300)).chars().count(), 203);
        assert_eq!(clip("short"), "short");
    }
}
