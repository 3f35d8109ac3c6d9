//! How long the rows of a split are, as a histogram for a terminal: what `max_length` cuts and where the labels are.

use std::fmt;

use crate::dataset::Dataset;

/// Lines of a histogram, at most.
const BINS: usize = 16;
/// Characters of the longest bar.
const BAR: usize = 40;

/// The lengths of rows, counted. Each example of a pair counts by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths {
    /// How many examples there are.
    pub rows: usize,
    /// Tokens of all of them.
    pub tokens: usize,
    /// Tokens that are learned to be predicted.
    pub labelled: usize,
    /// How many were cut.
    pub cut: usize,
    /// Half of the rows are at most this long.
    pub median: usize,
    /// 95 % of the rows are at most this long.
    pub most: usize,
    /// The longest row.
    pub longest: usize,
    /// Lengths that share a line: a power of two.
    width: usize,
    bins: Vec<Bin>,
}

/// The rows of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bin {
    rows: usize,
    tokens: usize,
    labelled: usize,
    cut: usize,
}

impl Lengths {
    /// Those of all rows of `dataset`, from its index: no row is read.
    pub fn of(dataset: &Dataset) -> Self {
        let mut lengths: Vec<usize> = (0..dataset.len()).map(|row| dataset.length(row)).collect();
        lengths.sort_unstable();
        let at = |share: f64| match lengths.len() {
            0 => 0,
            rows => lengths[((rows as f64 * share).ceil() as usize).clamp(1, rows) - 1],
        };
        let longest = at(1.0);
        let width = longest.div_ceil(BINS).next_power_of_two();
        let mut bins = vec![Bin::default(); longest.div_ceil(width).max(1)];
        dataset.entries(|_, entry| {
            let length = entry.length as usize;
            // A bin holds the lengths from its start, not included, to its end.
            let bin = &mut bins[length.saturating_sub(1) / width];
            bin.rows += 1;
            bin.tokens += length;
            bin.labelled += entry.labelled as usize;
            bin.cut += usize::from(entry.notes.cut_from.is_some());
        });
        Self {
            rows: lengths.len(),
            tokens: dataset.tokens(),
            labelled: dataset.labelled_tokens(),
            cut: bins.iter().map(|bin| bin.cut).sum(),
            median: at(0.5),
            most: at(0.95),
            longest,
            width,
            bins,
        }
    }
}

/// The first line is a summary, the others are the histogram.
impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, tokens, labelled, cut, median, most, longest, width, bins } = self;
        let labelled_share = share(*labelled, *tokens);
        writeln!(f, "{rows} rows, {tokens} tokens, {labelled} labelled ({labelled_share}), {cut} rows cut")?;
        let mean = *tokens as f64 / (*rows).max(1) as f64;
        writeln!(f, "length: mean {mean:.1}, median {median}, 95 % up to {most}, longest {longest}")?;
        let digits = longest.to_string().len().max(4);
        let count = rows.to_string().len().max(4);
        writeln!(f, "{:>1$}  {2:>count$}  {3:BAR$}  labelled  cut", "tokens", 2 * digits + 1, "rows", "")?;
        let largest = bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        for (index, bin) in bins.iter().enumerate() {
            let (start, end) = (index * width + 1, (index + 1) * width);
            // Few rows are still a mark.
            let bar = "█".repeat((bin.rows * BAR).div_ceil(largest));
            let labelled = share(bin.labelled, bin.tokens);
            let line = format!("{start:>digits$}-{end:<digits$}  {:>count$}  {bar:BAR$}  {labelled:>8}", bin.rows);
            match bin.cut {
                0 => writeln!(f, "{}", line.trim_end())?,
                cut => writeln!(f, "{line}  {cut:>3}")?,
            }
        }
        Ok(())
    }
}

/// A part in percent; nothing of nothing.
fn share(part: usize, whole: usize) -> String {
    match whole {
        0 => String::new(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}
