//! The merges of a SentencePiece BPE model: [`merges`] derives them, because the file does not list them. Any two
//! neighbours whose joined text is a piece may be merged, the piece with the best score first.
//!
//! Scores decide, not ids. In files written by SentencePiece's training the two agree, but LLaMA and Mistral have runs
//! of spaces at the lowest ids with the lowest scores.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::model_proto::{Kind, Piece};

/// The merges may take this many times the bytes of the pieces. Real vocabularies need less than 4; a vocabulary of
/// ever longer runs of one letter would need thousands.
const MOST_TIMES_THE_PIECES: usize = 64;

/// The left and right half of a merge.
pub(super) type Merge = (String, String);

struct Split<'p> {
    score: f32,
    left: &'p str,
    right: &'p str,
    characters: (usize, usize),
}

/// The merges of these pieces, best first. Ties are broken as transformers breaks them: longer left halves first, then
/// longer right ones, then the ids.
pub(super) fn merges(pieces: &[Piece]) -> Result<Vec<Merge>, String> {
    let usable = || pieces.iter().enumerate().filter(|(_, piece)| is_text(piece));
    let ids: HashMap<&str, usize> = usable().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let allowed = MOST_TIMES_THE_PIECES.saturating_mul(pieces.iter().map(|piece| piece.text.len()).sum());
    let mut needed = 0usize;
    let mut splits = Vec::new();
    for (_, piece) in usable() {
        let length = piece.text.chars().count();
        let mut found = Vec::new();
        for (before, (at, _)) in piece.text.char_indices().enumerate().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(first), Some(second)) = (ids.get(left), ids.get(right)) {
                let characters = (before, length - before);
                found.push(((*first, *second), Split { score: piece.score, left, right, characters }));
            }
        }
        needed = needed.saturating_add(found.len().saturating_mul(piece.text.len()));
        if needed > allowed {
            return Err("its pieces can be put together in more ways than those of any tokenizer".into());
        }
        found.sort_by_key(|(ids, _)| *ids);
        splits.extend(found.into_iter().map(|(_, split)| split));
    }
    // The sort is stable, so ties stay in the order of ids. Scores are finite, so they can be compared.
    splits.sort_by(|a, b| {
        b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then_with(|| b.characters.cmp(&a.characters))
    });
    Ok(splits.into_iter().map(|split| (split.left.to_owned(), split.right.to_owned())).collect())
}

/// Whether SentencePiece matches the piece in text; other pieces are control tokens, bytes and the unknown token.
fn is_text(piece: &Piece) -> bool {
    match piece.kind {
        Kind::Normal | Kind::UserDefined | Kind::Unused => true,
        Kind::Unknown | Kind::Control | Kind::Byte => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, score: f32) -> Piece {
        Piece { text: text.into(), score, kind: Kind::Normal }
    }

    #[test]
    fn the_best_score_is_merged_first_whatever_its_id() {
        let pieces = [
            piece("▁▁", -1e9),
            piece("▁a", -0.0),
            piece("▁aa", -1.0),
            piece("▁", -2.0),
            piece("a", -3.0),
            piece("aa", -4.0),
        ];
        let merges = merges(&pieces).unwrap();
        let texts: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        assert_eq!(texts, ["▁ a", "▁a a", "▁ aa", "a a", "▁ ▁"]);
    }

    #[test]
    fn control_tokens_are_never_put_together_from_letters() {
        let mut pieces = [piece("<", -1.0), piece("s>", -2.0), piece("<s>", 0.0)];
        pieces[2].kind = Kind::Control;
        assert!(merges(&pieces).unwrap().is_empty());
    }

    #[test]
    fn a_vocabulary_made_to_grow_is_refused() {
        let pieces: Vec<Piece> = (1..400).map(|length| piece(&"a".repeat(length), 0.0)).collect();
        assert!(merges(&pieces).is_err());
    }
}
