//! Things and their number: [`count`].

/// `1 pack`, `2 packs`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
