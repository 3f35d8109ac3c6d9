//! The checks of the gate, one after the other.

use std::collections::{HashMap, HashSet};

use super::{Check, Finding, Report};
use crate::config::{GateConfig, Split};
use crate::dataset::Dataset;
use crate::example::Example;
use crate::location::Location;
use crate::tokenizer::Tokenizer;

/// Rows shown of each finding.
const SHOWN: usize = 3;

/// Looks at one split.
pub(super) fn look(report: &mut Report, dataset: &Dataset, tokenizer: Option<&Tokenizer>, config: &GateConfig) {
    let mut look = Look { report, dataset };
    if dataset.examples.is_empty() {
        look.error(Check::NoRows, "no row is left to use", &[]);
    }
    look.beginnings(tokenizer);
    look.ends(tokenizer, config);
    look.labels();
    look.truncation(config);
    look.contents(config);
    look.duplicates();
}

/// Looks for evaluation rows among the training rows.
pub(super) fn compare(report: &mut Report, train: &Dataset, eval: &Dataset) {
    let known: HashSet<[u8; 32]> = train.examples.iter().map(Example::digest).collect();
    let found: Vec<_> = eval
        .examples
        .iter()
        .filter(|example| known.contains(&example.digest()))
        .map(|example| &example.source)
        .collect();
    let mut look = Look { report, dataset: eval };
    let message = "they are trained on as well, so the evaluation says nothing about new rows";
    look.warning(Check::EvalInTrain, message, &found);
}

struct Look<'a> {
    report: &'a mut Report,
    dataset: &'a Dataset,
}

impl<'a> Look<'a> {
    fn rows(&self, wanted: impl Fn(&Example) -> bool) -> Vec<&'a Location> {
        self.dataset.examples.iter().filter(|example| wanted(example)).map(|example| &example.source).collect()
    }

    fn finding(&self, check: Check, message: impl Into<String>, rows: &[&Location]) -> Finding {
        Finding {
            check,
            split: self.dataset.split,
            count: rows.len(),
            of: self.dataset.examples.len() + self.dataset.dropped.len(),
            message: message.into(),
            examples: rows.iter().take(SHOWN).copied().cloned().collect(),
        }
    }

    fn error(&mut self, check: Check, message: impl Into<String>, rows: &[&Location]) {
        let finding = self.finding(check, message, rows);
        self.report.errors.push(finding);
    }

    fn warning(&mut self, check: Check, message: impl Into<String>, rows: &[&Location]) {
        if !rows.is_empty() {
            let finding = self.finding(check, message, rows);
            self.report.warnings.push(finding);
        }
    }

    /// An error above a share of the rows, a warning below.
    fn limited(&mut self, check: Check, message: &str, rows: &[&Location], key: &str, limit: f64) {
        let share = rows.len() as f64 / self.dataset.examples.len().max(1) as f64;
        if share > limit {
            let message = format!("{message}; {key} = {limit} allows fewer");
            self.error(check, message, rows);
        } else {
            self.warning(check, message, rows);
        }
    }

    fn beginnings(&mut self, tokenizer: Option<&Tokenizer>) {
        let Some(bos) = tokenizer.and_then(|tokenizer| tokenizer.special().bos_id) else {
            return;
        };
        let rows = self.rows(|example| example.input_ids.starts_with(&[bos, bos]));
        if !rows.is_empty() {
            let message = "they begin with two BOS tokens; the text or the template spells one too many";
            self.error(Check::DoubleBos, message, &rows);
        }
    }

    fn ends(&mut self, tokenizer: Option<&Tokenizer>, config: &GateConfig) {
        let rows = self.rows(|example| example.notes.unended > 0);
        let message = "a trained turn does not end in a control token, so the model does not learn to stop";
        self.limited(Check::MissingEnd, message, &rows, "allow_unended", config.allow_unended);
        let Some(tokenizer) = tokenizer.filter(|tokenizer| !tokenizer.eos_ids().is_empty()) else {
            return;
        };
        let unknown = |example: &Example| {
            let end = example.notes.end;
            end.filter(|id| example.notes.unended == 0 && !tokenizer.eos_ids().contains(id))
        };
        let rows = self.rows(|example| unknown(example).is_some());
        let mut tokens: Vec<_> = self.dataset.examples.iter().filter_map(unknown).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let tokens: Vec<_> = tokens.iter().filter_map(|id| tokenizer.id_to_token(*id)).collect();
        let message = format!(
            "turns end with {}, which is not among the eos_token_id of generation_config.json, so generation will \
             not stop there",
            tokens.join(", ")
        );
        self.warning(Check::UnknownEnd, message, &rows);
    }

    fn labels(&mut self) {
        let rows = self.rows(|example| example.labelled_tokens() == 0);
        if rows.is_empty() {
            return;
        }
        if rows.len() == self.dataset.examples.len() {
            let message = "no token of any row is trained; look at `firebrand data`, and at train_on";
            self.error(Check::NoLabels, message, &rows);
        } else {
            self.warning(Check::NoLabels, "no token of them is trained; they are left out", &rows);
        }
    }

    fn truncation(&mut self, config: &GateConfig) {
        let lost = |example: &Example| {
            example.notes.cut_from.is_some() && example.notes.labelled_before > 0 && example.labelled_tokens() == 0
        };
        let rows = self.rows(lost);
        let message = "truncation to max_length cut the whole answer away";
        let limit = config.allow_truncated;
        self.limited(Check::AnswerTruncated, message, &rows, "allow_truncated", limit);
        let part = |example: &Example| !lost(example) && example.labelled_tokens() < example.notes.labelled_before;
        let rows = self.rows(part);
        self.warning(Check::Truncated, "truncation to max_length cut a part of what is trained", &rows);
        let rows: Vec<_> = self.dataset.dropped.iter().map(|(location, _)| location).collect();
        self.warning(Check::Dropped, "they are longer than max_length and left out", &rows);
    }

    fn contents(&mut self, config: &GateConfig) {
        let rows = self.rows(|example| example.notes.empty.0 > 0);
        let message = "a message or text of them is empty";
        self.limited(Check::EmptyMessage, message, &rows, "allow_empty", config.allow_empty);
        let rows = self.rows(|example| example.notes.empty.0 == 0 && example.notes.empty.1 > 0);
        self.warning(Check::EmptyMessage, "a system or tool message of them is empty", &rows);
        let rows = self.rows(|example| example.notes.lossy);
        let message = "the text holds U+FFFD, the mark of bytes that were lost before";
        self.warning(Check::LossyText, message, &rows);
        let rows = self.rows(|example| example.notes.straddles);
        let message = "a token covers the end of the prompt and the beginning of the completion, and is not trained; \
                       move the space from the end of the prompt to the beginning of the completion";
        self.warning(Check::Straddling, message, &rows);
    }

    fn duplicates(&mut self) {
        if self.dataset.split == Split::Eval {
            return;
        }
        let mut seen: HashMap<[u8; 32], &Location> = HashMap::new();
        let mut rows = Vec::new();
        for example in &self.dataset.examples {
            if seen.insert(example.digest(), &example.source).is_some() {
                rows.push(&example.source);
            }
        }
        self.warning(Check::Duplicate, "the same row stands further up", &rows);
    }
}
