//! Names from files in messages: [`clip`] shortens one, [`nearest`] finds the most similar known one.

/// The candidate most similar to `name`, if one is similar enough.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A hostile file may hold very many names, and a hint is not worth the time to compare all of them.
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

/// Shortens a name for a message: names come from untrusted files.
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
