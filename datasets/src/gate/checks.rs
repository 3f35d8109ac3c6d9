//! The checks of the gate. One walk over what the store's index says of the rows finds everything; no row is read, and
//! memory is a number a row, for finding equal ones.

use std::collections::{BTreeSet, HashSet};

use super::{Check, Finding, Report};
use crate::config::{GateConfig, Split};
use crate::dataset::Dataset;
use crate::location::Location;
use crate::store::Entry;
use crate::tokenizer::Tokenizer;

/// Rows shown of each finding.
const SHOWN: usize = 3;

/// Looks at one split.
pub(super) fn look(report: &mut Report, dataset: &Dataset, tokenizer: Option<&Tokenizer>, config: &GateConfig) {
    let mut look = Look { report, dataset };
    if dataset.is_empty() {
        look.error(Check::NoRows, "no row is left to use", &Tally::default());
    }
    let mut found = Found::default();
    dataset.entries(|row, entry| found.see(row, entry, dataset.split, tokenizer));
    look.beginnings(&found);
    look.ends(&found, tokenizer, config);
    look.labels(&found);
    look.truncation(&found, config);
    look.contents(&found, config);
    look.warning(Check::Duplicate, "the same row stands further up", &found.duplicate);
}

/// Looks for evaluation rows among the training rows.
pub(super) fn compare(report: &mut Report, train: &Dataset, eval: &Dataset) {
    // The evaluation rows are the fewer; the training rows pass by.
    let mut wanted = HashSet::new();
    eval.entries(|_, entry| {
        wanted.insert(short(entry));
    });
    let mut known = HashSet::new();
    train.entries(|_, entry| {
        if wanted.contains(&short(entry)) {
            known.insert(short(entry));
        }
    });
    let mut found = Tally::default();
    eval.entries(|row, entry| found.add_if(known.contains(&short(entry)), row));
    let message = "they are trained on as well, so the evaluation says nothing about new rows";
    Look { report, dataset: eval }.warning(Check::EvalInTrain, message, &found);
}

/// Half of a row's hash: two of a billion rows that differ are taken for equal with a chance of one in 10^20.
fn short(entry: &Entry) -> u128 {
    entry.digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Rows of one kind: how many, and the first.
#[derive(Default)]
struct Tally {
    count: usize,
    first: Vec<usize>,
}

impl Tally {
    fn add_if(&mut self, is_one: bool, row: usize) {
        if is_one {
            self.count += 1;
            if self.first.len() < SHOWN {
                self.first.push(row);
            }
        }
    }
}

/// What a walk over the rows finds.
#[derive(Default)]
struct Found {
    double_bos: Tally,
    unended: Tally,
    unknown_end: Tally,
    /// The ends that generation does not know.
    unknown_ends: BTreeSet<u32>,
    unlabelled: Tally,
    lost: Tally,
    cut: Tally,
    empty: Tally,
    empty_others: Tally,
    lossy: Tally,
    straddling: Tally,
    duplicate: Tally,
    seen: HashSet<u128>,
}

impl Found {
    fn see(&mut self, row: usize, entry: &Entry, split: Split, tokenizer: Option<&Tokenizer>) {
        let notes = &entry.notes;
        let bos = tokenizer.and_then(|tokenizer| tokenizer.special().bos_id);
        self.double_bos.add_if(bos.is_some() && entry.opening == [bos, bos], row);
        self.unended.add_if(notes.unended > 0, row);
        let known = tokenizer.map(Tokenizer::eos_ids).filter(|ids| !ids.is_empty());
        let end = notes.end.filter(|id| notes.unended == 0 && known.is_some_and(|known| !known.contains(id)));
        self.unknown_end.add_if(end.is_some(), row);
        self.unknown_ends.extend(end);
        let labelled = entry.labelled as usize;
        self.unlabelled.add_if(labelled == 0, row);
        let lost = notes.cut_from.is_some() && notes.labelled_before > 0 && labelled == 0;
        self.lost.add_if(lost, row);
        self.cut.add_if(!lost && labelled < notes.labelled_before, row);
        self.empty.add_if(notes.empty.0 > 0, row);
        self.empty_others.add_if(notes.empty.0 == 0 && notes.empty.1 > 0, row);
        self.lossy.add_if(notes.lossy, row);
        self.straddling.add_if(notes.straddles, row);
        self.duplicate.add_if(split == Split::Train && !self.seen.insert(short(entry)), row);
    }
}

struct Look<'a> {
    report: &'a mut Report,
    dataset: &'a Dataset,
}

impl Look<'_> {
    fn finding(&self, check: Check, message: impl Into<String>, count: usize, examples: Vec<Location>) -> Finding {
        Finding {
            check,
            split: self.dataset.split,
            count,
            of: self.dataset.len() + self.dataset.dropped().len(),
            message: message.into(),
            examples,
        }
    }

    fn places(&self, rows: &Tally) -> Vec<Location> {
        rows.first.iter().map(|row| self.dataset.location(*row)).collect()
    }

    fn error(&mut self, check: Check, message: impl Into<String>, rows: &Tally) {
        let finding = self.finding(check, message, rows.count, self.places(rows));
        self.report.errors.push(finding);
    }

    fn warning(&mut self, check: Check, message: impl Into<String>, rows: &Tally) {
        if rows.count > 0 {
            let finding = self.finding(check, message, rows.count, self.places(rows));
            self.report.warnings.push(finding);
        }
    }

    /// An error above a share of the rows, a warning below.
    fn limited(&mut self, check: Check, message: &str, rows: &Tally, key: &str, limit: f64) {
        let share = rows.count as f64 / self.dataset.len().max(1) as f64;
        if share > limit {
            let message = format!("{message}; {key} = {limit} allows fewer");
            self.error(check, message, rows);
        } else {
            self.warning(check, message, rows);
        }
    }

    fn beginnings(&mut self, found: &Found) {
        if found.double_bos.count > 0 {
            let message = "they begin with two BOS tokens; the text or the template spells one too many";
            self.error(Check::DoubleBos, message, &found.double_bos);
        }
    }

    fn ends(&mut self, found: &Found, tokenizer: Option<&Tokenizer>, config: &GateConfig) {
        let message = "a trained turn does not end in a control token, so the model does not learn to stop";
        self.limited(Check::MissingEnd, message, &found.unended, "allow_unended", config.allow_unended);
        let token = |id: &u32| tokenizer.and_then(|tokenizer| tokenizer.id_to_token(*id));
        let tokens: Vec<_> = found.unknown_ends.iter().filter_map(token).collect();
        let message = format!(
            "turns end with {}, which is not among the eos_token_id of generation_config.json, so generation will \
             not stop there",
            tokens.join(", ")
        );
        self.warning(Check::UnknownEnd, message, &found.unknown_end);
    }

    fn labels(&mut self, found: &Found) {
        let rows = &found.unlabelled;
        if rows.count > 0 && rows.count == self.dataset.len() {
            let message = "no token of any row is trained; look at `firebrand data`, and at train_on";
            self.error(Check::NoLabels, message, rows);
        } else {
            self.warning(Check::NoLabels, "no token of them is trained; they are left out", rows);
        }
    }

    fn truncation(&mut self, found: &Found, config: &GateConfig) {
        let message = "truncation to max_length cut the whole answer away";
        let limit = config.allow_truncated;
        self.limited(Check::AnswerTruncated, message, &found.lost, "allow_truncated", limit);
        self.warning(Check::Truncated, "truncation to max_length cut a part of what is trained", &found.cut);
        let dropped = self.dataset.dropped();
        if !dropped.is_empty() {
            let first = dropped.iter().take(SHOWN).map(|(location, _)| location.clone()).collect();
            let message = "they are longer than max_length and left out";
            let finding = self.finding(Check::Dropped, message, dropped.len(), first);
            self.report.warnings.push(finding);
        }
    }

    fn contents(&mut self, found: &Found, config: &GateConfig) {
        let message = "a message or text of them is empty";
        self.limited(Check::EmptyMessage, message, &found.empty, "allow_empty", config.allow_empty);
        self.warning(Check::EmptyMessage, "a system or tool message of them is empty", &found.empty_others);
        let message = "the text holds U+FFFD, the mark of bytes that were lost before";
        self.warning(Check::LossyText, message, &found.lossy);
        let message = "a token covers the end of the prompt and the beginning of the completion, and is not trained; \
                       move the space from the end of the prompt to the beginning of the completion";
        self.warning(Check::Straddling, message, &found.straddling);
    }
}
