//! Colours text on a terminal; elsewhere brackets mark trained text.

use std::io::IsTerminal;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Paint {
    /// Whether stdout is a terminal.
    pub on: bool,
}

/// The colours that packs take in turn; the green of trained tokens and the grey of others are not among them.
const PACKS: [&str; 5] = ["\x1b[36m", "\x1b[35m", "\x1b[33m", "\x1b[34m", "\x1b[31m"];

impl Paint {
    /// For standard output: colours on a terminal, unless `NO_COLOR` asks for none.
    pub fn of_stdout() -> Self {
        let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: std::io::stdout().is_terminal() && !asked_for_none }
    }

    /// Paints an explanation.
    pub fn dim(self, text: &str) -> String {
        self.wrap(text, "\x1b[2m")
    }

    /// Paints the location and length of a row.
    pub fn bold(self, text: &str) -> String {
        self.wrap(text, "\x1b[1m")
    }

    /// Paints text of a row in the pack `number`, counted from 1.
    pub fn pack(self, text: &str, number: Option<usize>) -> String {
        match number {
            Some(number) => self.wrap(text, PACKS[number.saturating_sub(1) % PACKS.len()]),
            None => self.dim(text),
        }
    }

    /// What the colours and brackets of tokens mean.
    pub fn legend(self) -> &'static str {
        match self.on {
            true => "trained tokens are green; special tokens are underlined; each pack has a colour",
            false => "trained tokens are in [brackets]",
        }
    }

    /// Paints the word that all is well.
    pub fn good(self, text: &str) -> String {
        self.wrap(text, "\x1b[32m")
    }

    /// Paints a remark.
    pub fn remark(self, text: &str) -> String {
        self.wrap(text, "\x1b[33m")
    }

    /// Paints a token.
    pub fn token(self, text: &str, trained: bool, special: bool) -> String {
        match (self.on, trained) {
            (false, true) => format!("[{text}]"),
            (false, false) => text.to_string(),
            (true, _) => {
                let colour = if trained { "\x1b[32m" } else { "\x1b[90m" };
                let line = if special { "\x1b[4m" } else { "" };
                format!("{colour}{line}{text}\x1b[0m")
            }
        }
    }

    fn wrap(self, text: &str, code: &str) -> String {
        if self.on { format!("{code}{text}\x1b[0m") } else { text.to_string() }
    }
}

/// A token's text on one line, without control characters: rows are untrusted and must not control the terminal.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(visible("a\n\tb\u{1b}[2Jé\\"), "a\\n\\tb\\u{1b}[2Jé\\");
    }

    #[test]
    fn tokens_are_coloured_by_label_and_rows_by_pack() {
        let paint = Paint { on: true };
        assert_eq!(paint.token("x", true, true), "\x1b[32m\x1b[4mx\x1b[0m");
        assert_eq!(paint.token("x", false, false), "\x1b[90mx\x1b[0m");
        assert_ne!(paint.pack("x", Some(1)), paint.pack("x", Some(2)));
        let plain = Paint { on: false };
        assert_eq!((plain.token("x", true, true), plain.pack("x", Some(2))), ("[x]".into(), "x".into()));
    }
}
