//! The checks of rows with pictures: [`look`] reads each example once. Pixels are not decoded again.

use std::collections::{BTreeMap, HashSet};

use super::findings::{Findings, Tally};
use super::report::Check;
use crate::config::GateConfig;
use crate::error::DataError;
use crate::example::{Example, ExampleContent};
use crate::pictured::Pictured;

/// A picture is tiny if its shorter side, in pixels, is below this.
const TINY: u32 = 16;
/// A class has nearly all rows if it has this share of them.
const NEARLY_ALL: f64 = 0.95;

#[derive(Default)]
struct Counts {
    tiny: Tally,
    uncaptioned: Tally,
    cut: Tally,
    lossy: Tally,
    control: Tally,
    same: Tally,
    pixels: HashSet<[u8; 32]>,
    rows: HashSet<[u8; 32]>,
    classes: BTreeMap<String, usize>,
}

/// Checks the examples of a split.
///
/// # Errors
/// Prepared rows that cannot be read again.
pub(super) fn look(to: &mut Findings<'_>, config: &GateConfig) -> Result<(), DataError> {
    let mut counts = Counts::default();
    for (number, example) in to.dataset.examples().enumerate() {
        counts.add(number, &example?);
    }
    counts.report(to, config);
    Ok(())
}

impl Counts {
    fn add(&mut self, number: usize, example: &Example) {
        let ExampleContent::Pictured(Pictured { size, pixels, caption, label, .. }) = &example.content else { return };
        let found = |is_found: bool| Some(number).filter(|_| is_found);
        self.tiny.add(found(size.0.min(size.1) < TINY));
        self.uncaptioned.add(found(example.notes.empty.0 > 0 && caption.is_some()));
        self.cut.add(found(example.notes.cut_from.is_some()));
        self.lossy.add(found(example.notes.lossy));
        self.control.add(found(example.notes.control));
        let (seen, is_other) = (!self.pixels.insert(*pixels), self.rows.insert(example.digest()));
        self.same.add(found(seen && is_other));
        if let Some(label) = label.as_ref().and_then(|row| row.label.as_ref()) {
            *self.classes.entry(label.to_string()).or_default() += 1;
        }
    }

    fn report(&self, to: &mut Findings<'_>, config: &GateConfig) {
        let message = format!("a side of the picture has fewer than {TINY} pixels, so there is little to see");
        to.warning(Check::Tiny, message, &self.tiny);
        let message = "they have no caption; data.empty = \"skip\" leaves such rows out";
        to.limited(Check::EmptyMessage, message, &self.uncaptioned, ("allow_empty", config.allow_empty));
        let message = "the caption has more tokens than the text encoder reads, and its end is cut off";
        to.warning(Check::Truncated, message, &self.cut);
        let message = "the caption holds U+FFFD, the mark of bytes that were lost before";
        to.limited(Check::LossyText, message, &self.lossy, ("allow_lossy", config.allow_lossy));
        let message = "the caption spells a control token, which the text encoder reads as one";
        to.limited(Check::ControlToken, message, &self.control, ("allow_control", config.allow_control));
        let message = "the same picture stands further up, with other words or another label";
        to.warning(Check::SamePicture, message, &self.same);
        let labelled: usize = self.classes.values().sum();
        let most = self.classes.iter().max_by_key(|(_, count)| **count);
        if let Some((class, &count)) = most.filter(|_| self.classes.len() > 1)
            && count as f64 >= NEARLY_ALL * labelled as f64
        {
            let message =
                format!("they are of the class {class}: a model that always says {class} is right for nearly all");
            to.warning(Check::OneClass, message, &Tally { count, first: vec![] });
        }
    }
}
