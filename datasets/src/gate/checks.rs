//! The checks of the gate: [`look`] counts in one pass over the index of a split, then decides what the counts mean. No
//! tokens are read.
//!
//! Each row is kept as 16 bytes of its hash, so duplicates among many millions of rows are found in bounded memory.

use std::collections::{BTreeSet, HashSet};

use super::findings::{Findings, SHOWN, Tally};
use super::pictures;
use super::report::{Check, Report};
use crate::config::{GateConfig, Split};
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::example::{OddOrder, Part};
use crate::format::Unread;
use crate::kind::RowKind;
use crate::store::Entry;
use crate::tokenizer::Tokenizer;

/// Checks one split.
///
/// # Errors
/// Prepared rows that cannot be read again.
pub(super) fn look(
    report: &mut Report,
    dataset: &Dataset,
    tokenizer: Option<&Tokenizer>,
    config: &GateConfig,
) -> Result<(), DataError> {
    let mut counts = Counts::default();
    let known_ends = tokenizer.map(Tokenizer::eos_ids).filter(|ids| !ids.is_empty());
    let bos = tokenizer.and_then(|tokenizer| tokenizer.special().bos_id);
    walk(dataset, |first, row| {
        counts.rows += 1;
        match dataset.kind() {
            RowKind::Tokens if row.first().is_some_and(|entry| dataset.is_labelled(entry)) => {
                counts.labelled(first, row)
            }
            RowKind::Tokens => counts.tokens(first, row, bos, known_ends, config),
            // A row of tensors has no tokens to check, only a hash; pictures are looked at below.
            RowKind::Tensors => {}
        }
        counts.content(first, row, dataset.split);
    });
    let unknown =
        counts.unknown_ends.iter().filter_map(|id| tokenizer?.id_to_token(*id)).collect::<Vec<_>>().join(", ");
    let rows = counts.rows;
    let mut findings = Findings { report, dataset, rows };
    counts.report(&mut findings, &unknown, config);
    match dataset.kind() {
        RowKind::Tokens => Ok(()),
        RowKind::Tensors => pictures::look(&mut findings, config),
    }
}

/// Searches the training rows for evaluation rows.
pub(super) fn compare(report: &mut Report, train: &Dataset, eval: &Dataset, config: &GateConfig) {
    let (mut wanted, mut trained) = (HashSet::new(), HashSet::new());
    walk(eval, |_, row| {
        wanted.insert(fingerprint(row));
    });
    walk(train, |_, row| trained.extend(Some(fingerprint(row)).filter(|row| wanted.contains(row))));
    let mut leaked = Tally::default();
    let mut rows = 0;
    walk(eval, |first, row| {
        rows += 1;
        leaked.add(Some(first).filter(|_| trained.contains(&fingerprint(row))));
    });
    let message = "they are trained on as well, so the evaluation says nothing about new rows";
    let limit = ("allow_leaked", config.allow_leaked);
    Findings { report, dataset: eval, rows }.limited(Check::EvalInTrain, message, &leaked, limit);
}

/// Calls `look` for every row with the number of its first example and the entries of its examples: both answers of a
/// pair, or all windows of a text that was split.
fn walk(dataset: &Dataset, mut look: impl FnMut(usize, &[Entry])) {
    let mut row: Vec<Entry> = Vec::new();
    let mut first = 0;
    dataset.entries(|index, entry| {
        if !entry.goes_on && !row.is_empty() {
            look(first, &row);
            row.clear();
        }
        if row.is_empty() {
            first = index;
        }
        row.push(entry.clone());
    });
    if !row.is_empty() {
        look(first, &row);
    }
}

/// An odd factor: multiplication by it loses no bit of an example's hash, however many examples follow.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A hash of what a row trains, in 128 bits.
fn fingerprint(row: &[Entry]) -> u128 {
    row.iter().fold(0, |sum: u128, entry| {
        let mut half = [0; 16];
        half.copy_from_slice(&entry.digest[..16]);
        // The digest covers an example's part, so a pair differs from the same pair with its answers exchanged.
        sum.wrapping_mul(SPREAD) ^ u128::from_le_bytes(half)
    })
}

/// Number of labelled tokens of a row: for a pair, those of the answer with fewer; for a text, those of all its
/// windows.
fn labelled(row: &[Entry]) -> usize {
    let labelled = row.iter().map(|entry| entry.labelled as usize);
    match row.first().map(|entry| entry.part) {
        Some(Part::Chosen | Part::Rejected) => labelled.min().unwrap_or(0),
        Some(Part::Alone | Part::Good | Part::Bad) | None => labelled.sum(),
    }
}

/// The counts of one pass over the rows.
#[derive(Default)]
struct Counts {
    rows: usize,
    double_bos: Tally,
    unended: Tally,
    unknown_end: Tally,
    unknown_ends: BTreeSet<u32>,
    unlabelled: Tally,
    few_labels: Tally,
    answer_lost: Tally,
    truncated: Tally,
    cut: Tally,
    empty: Tally,
    empty_context: Tally,
    media: Tally,
    lossy: Tally,
    straddling: Tally,
    control: Tally,
    odd_order: Tally,
    odd_orders: Vec<OddOrder>,
    rewritten: Tally,
    lost_thought: Tally,
    opened: Tally,
    header: Tally,
    plain: Tally,
    equal_pair: Tally,
    duplicate: Tally,
    seen: HashSet<u128>,
}

impl Counts {
    fn tokens(&mut self, first: usize, row: &[Entry], bos: Option<u32>, ends: Option<&[u32]>, config: &GateConfig) {
        // The first example of the row that has the finding, so that the right answer of a pair is shown.
        let has = |has: &dyn Fn(&Entry) -> bool| row.iter().position(has).map(|index| first + index);
        self.double_bos.add(has(&|entry| bos.is_some() && entry.opening == [bos, bos]));
        self.unended.add(has(&|entry| entry.notes.unended > 0));
        let unknown = |entry: &Entry| {
            entry.notes.end.filter(|end| entry.notes.unended == 0 && ends.is_some_and(|ends| !ends.contains(end)))
        };
        self.unknown_end.add(has(&|entry| unknown(entry).is_some()));
        self.unknown_ends.extend(row.iter().filter_map(unknown));
        let labelled = labelled(row);
        self.unlabelled.add(Some(first).filter(|_| labelled == 0));
        self.few_labels.add(Some(first).filter(|_| (1..config.few_labels).contains(&labelled)));
        let lost =
            |entry: &Entry| entry.notes.cut_from.is_some() && entry.notes.labelled_before > 0 && entry.labelled == 0;
        self.answer_lost.add(has(&lost));
        self.truncated.add(has(&|entry| !lost(entry) && (entry.labelled as usize) < entry.notes.labelled_before));
        self.empty.add(has(&|entry| entry.notes.empty.0 > 0));
        self.empty_context.add(has(&|entry| entry.notes.empty.0 == 0 && entry.notes.empty.1 > 0));
        self.media.add(has(&|entry| entry.notes.media.is_some()));
        self.lossy.add(has(&|entry| entry.notes.lossy));
        self.straddling.add(has(&|entry| entry.notes.straddles));
        self.control.add(has(&|entry| entry.notes.control));
        self.rewritten.add(has(&|entry| entry.notes.rewritten));
        self.lost_thought.add(has(&|entry| entry.notes.lost_thought));
        self.opened.add(has(&|entry| entry.notes.opened));
        self.header.add(has(&|entry| entry.notes.header));
        self.plain.add(has(&|entry| entry.notes.plain));
        self.odd_order.add(has(&|entry| entry.notes.order.is_some()));
        for order in row.iter().filter_map(|entry| entry.notes.order) {
            if !self.odd_orders.contains(&order) {
                self.odd_orders.push(order);
            }
        }
    }

    /// A row that has a label as a whole: nothing is asked of its tokens.
    fn labelled(&mut self, first: usize, row: &[Entry]) {
        let has = |has: &dyn Fn(&Entry) -> bool| row.iter().position(has).map(|index| first + index);
        self.unlabelled.add(has(&|entry| entry.labelled == 0));
        self.cut.add(has(&|entry| entry.notes.cut_from.is_some()));
        self.empty.add(has(&|entry| entry.notes.empty.0 > 0));
        self.empty_context.add(has(&|entry| entry.notes.empty.0 == 0 && entry.notes.empty.1 > 0));
        self.media.add(has(&|entry| entry.notes.media.is_some()));
        self.lossy.add(has(&|entry| entry.notes.lossy));
        self.control.add(has(&|entry| entry.notes.control));
    }

    fn content(&mut self, first: usize, row: &[Entry], split: Split) {
        self.equal_pair.add(Some(first).filter(|_| row.last().is_some_and(|entry| entry.equals_chosen)));
        self.duplicate.add(Some(first).filter(|_| split == Split::Train && !self.seen.insert(fingerprint(row))));
    }

    fn report(&self, to: &mut Findings<'_>, unknown_ends: &str, config: &GateConfig) {
        if self.rows == 0 {
            to.error(Check::NoRows, "no row is left to use", &Tally::default());
        }
        let broken = to.dataset.broken();
        let places = broken.first.iter().map(|(row, _)| row.clone()).take(SHOWN).collect();
        let example = broken.first.first().map_or("", |(_, error)| error.as_str());
        let message = format!("they could not be used and are left out, the first of them: {example}");
        to.limited_at(Check::Broken, &message, (broken.count, places), ("allow_broken", config.allow_broken));

        if self.double_bos.count > 0 {
            let message = "they begin with two BOS tokens; the text or the template spells one too many";
            to.error(Check::DoubleBos, message, &self.double_bos);
        }
        let message = "a trained turn does not end in a control token, so the model does not learn to stop";
        to.limited(Check::MissingEnd, message, &self.unended, ("allow_unended", config.allow_unended));
        let message = format!(
            "turns end with {unknown_ends}, which is not among the eos_token_id of generation_config.json, so \
             generation will not stop there"
        );
        to.warning(Check::UnknownEnd, message, &self.unknown_end);

        if self.unlabelled.count > 0 && self.unlabelled.count == self.rows {
            let message = "no token of any row is trained; look at `firebrand data`, and at train_on";
            to.error(Check::NoLabels, message, &self.unlabelled);
        } else {
            let message = "no token of them is trained; they are left out";
            let limit = ("allow_unlabelled", config.allow_unlabelled);
            to.limited(Check::NoLabels, message, &self.unlabelled, limit);
        }
        let message = format!("they train fewer than {} tokens", config.few_labels);
        let limit = ("allow_few_labels", config.allow_few_labels);
        to.limited(Check::FewLabels, &message, &self.few_labels, limit);

        let message = "truncation to max_length cut the whole answer away";
        let limit = ("allow_truncated", config.allow_truncated);
        to.limited(Check::AnswerTruncated, message, &self.answer_lost, limit);
        let message = "truncation to max_length cut a part of what is trained";
        to.warning(Check::Truncated, message, &self.truncated);
        let message = "truncation to max_length cut a part of what is classified";
        to.warning(Check::Truncated, message, &self.cut);
        let dropped = to.dataset.dropped();
        let places = dropped.iter().map(|(row, _)| row.clone()).take(SHOWN).collect();
        to.limited_at(
            Check::Dropped,
            "they are longer than max_length and left out",
            (dropped.len(), places),
            ("", 1.0),
        );

        let (count, mut places) = to.dataset.left_empty();
        places.truncate(SHOWN);
        let message = "something in them is empty, and they are left out";
        to.limited_at(Check::EmptyMessage, message, (count, places), ("", 1.0));
        let message = "a message or text of them is empty; data.empty = \"skip\" leaves such rows out";
        to.limited(Check::EmptyMessage, message, &self.empty, ("allow_empty", config.allow_empty));
        to.warning(Check::EmptyMessage, "a system or tool message of them is empty", &self.empty_context);
        let message = format!(
            "they hold images, sound or video, which the model does not see, in {}; only their text would be trained: leave \
             such rows out, or take what you need into a file without these columns",
            media(to.dataset)
        );
        to.limited(Check::Media, &message, &self.media, ("allow_media", config.allow_media));
        let message = "the text holds U+FFFD, the mark of bytes that were lost before";
        to.limited(Check::LossyText, message, &self.lossy, ("allow_lossy", config.allow_lossy));
        let message = "a token covers the end of the prompt and the beginning of the completion, and is not trained; \
                       move the space from the end of the prompt to the beginning of the completion";
        to.warning(Check::Straddling, message, &self.straddling);
        let message = "what somebody says in them spells a control token, which the model reads as one: a turn may end \
                       in its middle, or another speak";
        to.limited(Check::ControlToken, message, &self.control, ("allow_control", config.allow_control));
        let kinds: Vec<_> = self.odd_orders.iter().map(|order| odd(*order)).collect();
        let message = format!("their messages do not follow each other as in a dialogue: {}", kinds.join("; "));
        to.limited(Check::OddOrder, &message, &self.odd_order, ("allow_odd_order", config.allow_odd_order));
        let message = "the template writes an answer of theirs otherwise than it would write it as the last message, such as \
                       without its thought or with another end; it is trained as later turns see it";
        to.warning(Check::Rewritten, message, &self.rewritten);
        let message = "the template leaves out a thought of an answer, so the thought is not trained; a row that ends with \
                       the answer keeps it in many templates";
        to.warning(Check::LostThought, message, &self.lost_thought);
        let message = "the generation prompt goes on where an answer of theirs begins, as one that opens a thought does: \
                       generation starts behind text that is not trained; a template that writes what the prompt opens \
                       mends it";
        to.warning(Check::OpenPrompt, message, &self.opened);
        let message = "the template writes no generation prompt, so the header of an answer belongs to it: it is trained, \
                       and the model writes it";
        to.warning(Check::NoPrompt, message, &self.header);
        if let Some(first) = self.plain.first.first() {
            let (prompt, completion) = to.dataset.prompt_columns(*first);
            let message = format!(
                "prompt and completion are joined as they are, without the chat template, and a dialogue with the model \
                 will look different; if the model should answer as in a chat, write format = \"alpaca\" and columns = \
                 {{ instruction = {prompt:?}, output = {completion:?} }}"
            );
            to.warning(Check::NoTemplate, message, &self.plain);
        }
        let message = "the better and the worse answer are the same";
        to.limited(Check::EqualPair, message, &self.equal_pair, ("allow_equal_pairs", config.allow_equal_pairs));
        let message = "the same row stands further up";
        to.limited(Check::Duplicate, message, &self.duplicate, ("allow_duplicates", config.allow_duplicates));
    }
}

/// Where the media of a split stand, with their numbers of rows.
fn media(dataset: &Dataset) -> String {
    let mut places: Vec<(&str, u64)> = Vec::new();
    for (name, count) in dataset.unread().flat_map(Unread::media) {
        match places.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += count,
            None => places.push((name, count)),
        }
    }
    let quoted = |name: &str| if name.contains('`') { name.to_string() } else { format!("`{name}`") };
    let said: Vec<String> = places
        .iter()
        .map(|(name, count)| format!("{} ({count} row{})", quoted(name), if *count == 1 { "" } else { "s" }))
        .collect();
    said.join(", ")
}

fn odd(order: OddOrder) -> &'static str {
    match order {
        OddOrder::AssistantFirst => "the assistant speaks first",
        OddOrder::LateSystem => "a system message is not the first",
        OddOrder::Repeated => "one speaks twice in a row",
        OddOrder::Unanswered => "nobody answers the last message",
    }
}
