//! The report of the gate: [`Report`] holds findings with their counts and the first rows.

use std::fmt;

use serde::Serialize;

use crate::config::Split;
use crate::location::Location;

/// What the gate found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Findings that forbid training.
    pub errors: Vec<Finding>,
    /// Findings that should be known but do not stop a run.
    pub warnings: Vec<Finding>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// In which split.
    pub split: Split,
    /// Number of rows that have it.
    pub count: usize,
    /// Number of rows in all.
    pub of: usize,
    /// What it means, and what to do.
    pub message: String,
    /// The places of the first rows that have it.
    pub examples: Vec<Location>,
}

/// The checks of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The split has no row.
    NoRows,
    /// A row begins with two BOS tokens.
    DoubleBos,
    /// A row trains nothing.
    NoLabels,
    /// A row trains very few tokens.
    FewLabels,
    /// A trained turn has no end token, so the model would not learn to stop.
    MissingEnd,
    /// The end token of a turn is not one that generation stops at.
    UnknownEnd,
    /// Truncation removed the whole answer.
    AnswerTruncated,
    /// Truncation removed a part of what is trained.
    Truncated,
    /// A row was left out because of its length.
    Dropped,
    /// A message, text or completion is empty.
    EmptyMessage,
    /// A row holds images, sound or video, which a model of text does not see.
    Media,
    /// A row occurs twice.
    Duplicate,
    /// An evaluation row is also trained on.
    EvalInTrain,
    /// The text holds U+FFFD, the mark of bytes lost before.
    LossyText,
    /// A token covers the end of a prompt and the beginning of its completion.
    Straddling,
    /// The text of a message spells a control token, which the model would read as one.
    ControlToken,
    /// The order of messages is not that of a dialogue.
    OddOrder,
    /// Both answers of a pair are the same.
    EqualPair,
    /// A row is longer than the sequences that the model was trained on.
    BeyondPositions,
    /// A row could not be used and was left out.
    Broken,
    /// An answer is written otherwise than it would be as the last message.
    Rewritten,
    /// A thought of an answer is not written by the template, so it is not trained.
    LostThought,
    /// The generation prompt holds more than what stands before an answer in the text.
    OpenPrompt,
    /// The header of an answer is trained, because the template writes no generation prompt.
    NoPrompt,
    /// A picture is tiny.
    Tiny,
    /// A picture occurs twice, with different captions or labels.
    SamePicture,
    /// Nearly all rows are of one class.
    OneClass,
    /// A prompt and its completion are joined without the chat template that there is.
    NoTemplate,
}

impl Check {
    /// The name of the check in reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::NoRows => "no-rows",
            Check::DoubleBos => "double-bos",
            Check::NoLabels => "no-labels",
            Check::FewLabels => "few-labels",
            Check::MissingEnd => "missing-end",
            Check::UnknownEnd => "unknown-end",
            Check::AnswerTruncated => "answer-truncated",
            Check::Truncated => "truncated",
            Check::Dropped => "dropped",
            Check::EmptyMessage => "empty-message",
            Check::Media => "media",
            Check::Duplicate => "duplicate",
            Check::EvalInTrain => "eval-in-train",
            Check::LossyText => "lossy-text",
            Check::Straddling => "straddling",
            Check::ControlToken => "control-token",
            Check::OddOrder => "odd-order",
            Check::EqualPair => "equal-pair",
            Check::BeyondPositions => "beyond-positions",
            Check::Broken => "broken",
            Check::Rewritten => "rewritten",
            Check::LostThought => "lost-thought",
            Check::OpenPrompt => "open-prompt",
            Check::NoPrompt => "no-prompt",
            Check::Tiny => "tiny",
            Check::SamePicture => "same-picture",
            Check::OneClass => "one-class",
            Check::NoTemplate => "no-template",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.iter().map(|finding| ("error", finding));
        let warnings = self.warnings.iter().map(|finding| ("warning", finding));
        for (index, (level, finding)) in errors.chain(warnings).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{level}: {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = match self.split {
            Split::Train => "train",
            Split::Eval => "eval",
        };
        let check = self.check.name();
        write!(f, "{split} data, {check}: ")?;
        if self.of > 0 {
            write!(f, "{} of {} rows: ", self.count, self.of)?;
        }
        f.write_str(&self.message)?;
        if !self.examples.is_empty() {
            let places: Vec<_> = self.examples.iter().map(Location::to_string).collect();
            let more = match self.count > places.len() {
                true => ", ...",
                false => "",
            };
            write!(f, " ({}{more})", places.join(", "))?;
        }
        Ok(())
    }
}
