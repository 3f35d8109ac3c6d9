//! Ends an answer before a text that was named: [`StopTexts`].

/// Gives an answer out piece by piece, up to the first of the named texts. What may be the beginning of one is held back
/// until it is known.
#[derive(Debug, Clone, Default)]
pub struct StopTexts {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopTexts {
    /// `stops` are the texts; empty ones are left out.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), stopped: false }
    }

    /// Takes a piece of the answer; returns what may be shown now. Nothing follows a stop.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(place) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(place);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| self.begun(stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether one of the texts was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, when the answer is over.
    pub fn finish(self) -> String {
        self.held
    }

    /// The bytes at the end of what is held that may be the beginning of `stop`.
    fn begun(&self, stop: &str) -> usize {
        let starts = self.held.char_indices().map(|(place, _)| self.held.len() - place);
        starts
            .filter(|length| *length < stop.len())
            .find(|length| stop.starts_with(&self.held[self.held.len() - length..]))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut texts = StopTexts::new(&stops);
        let mut text: String = pieces.iter().map(|piece| texts.push(piece)).collect();
        let stopped = texts.stopped();
        text += &texts.finish();
        (text, stopped)
    }

    #[test]
    fn an_answer_ends_before_the_first_of_the_texts_however_it_is_cut() {
        let text = "One. Zwei\u{e4}. User: three";
        for stops in [&["User:"][..], &["three", "User:"], &["\u{e4}. U"], &["nowhere", ""]] {
            let whole = shown(stops, &[text]);
            let expected = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop)).min();
            assert_eq!(whole, (text[..expected.unwrap_or(text.len())].to_string(), expected.is_some()));
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(shown(stops, &letters), whole, "{stops:?}");
        }
    }

    #[test]
    fn nothing_is_held_back_that_cannot_become_a_stop() {
        let mut texts = StopTexts::new(&["aab".into()]);
        assert_eq!((texts.push("xa"), texts.push("a"), texts.push("a")), ("x".into(), String::new(), "a".into()));
        assert_eq!(texts.push("c"), "aac");
        assert_eq!((texts.push("aa"), texts.push("b"), texts.push("d")), (String::new(), String::new(), String::new()));
        assert!(texts.stopped());
    }
}
