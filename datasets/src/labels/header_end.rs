//! Answers that end with the header of the next turn: [`end_at_headers`].
//!
//! GLM's templates write no token behind an answer; generation stops at the header that the model begins next
//! (`eos_token_id` of its `generation_config.json` names `<|user|>` and `<|observation|>`). So that header is what the
//! model has to write at the end of its answer, and it is trained as such, behind the last answer of a row too.

use super::Rendered;

/// Extends spans that no control token ends over the end of generation that follows them. `controls` are the texts of
/// control tokens, `ends` gives those at which generation stops. The last answer gets the end that stands in the dialogue.
pub(crate) fn end_at_headers<'t>(rendered: &mut Rendered, controls: &[String], ends: impl FnOnce() -> Vec<&'t str>) {
    let is_ended = |answer: &str| {
        let answer = answer.trim_end();
        controls.iter().any(|control| !control.is_empty() && answer.ends_with(control.as_str()))
    };
    let Rendered { text, spans, .. } = rendered;
    let open: Vec<usize> = (0..spans.len()).filter(|&at| !is_ended(&text[spans[at].clone()])).collect();
    if open.is_empty() {
        return;
    }
    let ends = ends();
    let follows = |at: usize| ends.iter().find(|end| text[spans[at].end..].starts_with(**end));
    let found: Vec<(usize, usize)> = open.iter().filter_map(|&at| Some((at, follows(at)?.len()))).collect();
    let last = open.last().copied().filter(|&at| at + 1 == spans.len() && spans[at].end == text.len());
    // An end within an answer is the answer's own words, or shows that answers end in another way.
    let outside = |at: usize, end: &str| spans.iter().all(|span| at >= span.end || at + end.len() <= span.start);
    let header = ends.iter().find(|end| text.match_indices(**end).any(|(at, _)| outside(at, end)));
    for (at, length) in found {
        spans[at].end += length;
    }
    if let (Some(last), Some(header)) = (last, header) {
        let header = (*header).to_owned();
        text.push_str(&header);
        spans[last].end = text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(text: &str, answers: &[&str], ends: &[&str]) -> (String, Vec<String>) {
        let controls = ["<|user|>", "<|assistant|>", "<|end|>", "<|observation|>"].map(String::from);
        let spans = answers.iter().map(|answer| {
            let at = text.find(answer).unwrap();
            at..at + answer.len()
        });
        let mut rendered = Rendered { text: text.into(), spans: spans.collect(), ..Rendered::default() };
        end_at_headers(&mut rendered, &controls, || ends.to_vec());
        let spans = rendered.spans.iter().map(|span| rendered.text[span.clone()].to_owned()).collect();
        (rendered.text, spans)
    }

    #[test]
    fn an_answer_without_an_end_is_ended_by_the_header_at_which_generation_stops() {
        let text =
            "<|user|>\none?<|assistant|>\ncall<|observation|>\nsun<|assistant|>\nA<|user|>\ntwo?<|assistant|>\nB";
        let ends = ["<|end|>", "<|user|>", "<|observation|>"];
        let (whole, spans) = ended(text, &["\ncall", "\nA", "\nB"], &ends);
        assert_eq!(spans, ["\ncall<|observation|>", "\nA<|user|>", "\nB<|user|>"]);
        assert_eq!(whole, format!("{text}<|user|>"));
    }

    #[test]
    fn answers_with_an_end_and_headers_that_end_nothing_stay() {
        let text = "<|user|>\none?<|assistant|>\nA<|end|>\n<|user|>\ntwo?<|assistant|>\nB<|end|>\n";
        for ends in [&["<|end|>"][..], &["<|end|>", "<|user|>"]] {
            let (whole, spans) = ended(text, &["\nA<|end|>", "\nB<|end|>"], ends);
            assert_eq!((whole.as_str(), spans), (text, vec!["\nA<|end|>".to_owned(), "\nB<|end|>".into()]));
        }
        // Generation does not stop at a header: an answer without an end stays without one, and the gate says so.
        let bare = "<|user|>\none?<|assistant|>\nA<|user|>\ntwo?<|assistant|>\nB";
        let (whole, spans) = ended(bare, &["\nA", "\nB"], &["<|end|>"]);
        assert_eq!((whole.as_str(), spans), (bare, vec!["\nA".to_owned(), "\nB".into()]));
        // Answers that end otherwise: the last one's end is missing, and what it would be is not told by headers.
        let cut = "<|user|>\none?<|assistant|>\nA<|end|><|user|>\ntwo?<|assistant|>\nB";
        let (whole, spans) = ended(cut, &["\nA<|end|>", "\nB"], &["<|end|>"]);
        assert_eq!((whole.as_str(), spans), (cut, vec!["\nA<|end|>".to_owned(), "\nB".into()]));
    }
}
