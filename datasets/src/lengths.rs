//! The lengths of a split's rows as a histogram for a terminal: [`Lengths`] shows what `max_length` cuts and where
//! labels are.

use std::fmt;

use serde_json::{Value, json};

use crate::dataset::Dataset;

/// Most lines of a histogram; one more where the shortest row lies inside a line's range.
const BINS: usize = 16;
/// Characters of the longest bar.
const BAR: usize = 40;

/// The lengths of examples, counted. The two examples of a pair count separately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths {
    /// Number of examples.
    pub rows: usize,
    /// Number of tokens of all examples.
    pub tokens: usize,
    /// Number of tokens that are learned to be predicted.
    pub labelled: usize,
    /// Number of examples that were cut.
    pub cut: usize,
    /// Median length: half of the examples are at most this long.
    pub median: usize,
    /// 95th percentile: 95 % of the examples are at most this long.
    pub most: usize,
    /// Length of the longest example.
    pub longest: usize,
    /// Number of lengths that share a line: a power of two.
    width: usize,
    /// Number of lines left out before the shortest example's.
    first: usize,
    bins: Vec<Bin>,
}

/// The examples of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bin {
    rows: usize,
    tokens: usize,
    labelled: usize,
    cut: usize,
}

impl Lengths {
    /// The lengths of all examples of `dataset`, from its index: no example is read.
    pub fn of(dataset: &Dataset) -> Self {
        let mut lengths: Vec<usize> = (0..dataset.len()).map(|row| dataset.length(row)).collect();
        lengths.sort_unstable();
        let at = |share: f64| match lengths.len() {
            0 => 0,
            rows => lengths[((rows as f64 * share).ceil() as usize).clamp(1, rows) - 1],
        };
        let (shortest, longest) = (at(0.0), at(1.0));
        let width = (longest - shortest + 1).div_ceil(BINS).next_power_of_two();
        // A bin holds the lengths above its start, up to and including its end.
        let bin_of = |length: usize| length.saturating_sub(1) / width;
        let first = bin_of(shortest);
        let mut bins = vec![Bin::default(); bin_of(longest) - first + 1];
        dataset.entries(|_, entry| {
            let length = entry.length as usize;
            let bin = &mut bins[bin_of(length) - first];
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
            first,
            bins,
        }
    }
}

impl Lengths {
    /// All values as a JSON object; each line of its `histogram` counts the lengths from `from` to `to`.
    pub fn json(&self) -> Value {
        let line = |(index, bin): (usize, &Bin)| {
            let (from, to) = self.bounds(index);
            json!({
                "from": from,
                "to": to,
                "rows": bin.rows,
                "tokens": bin.tokens,
                "labelled_tokens": bin.labelled,
                "truncated": bin.cut,
            })
        };
        json!({
            "rows": self.rows,
            "tokens": self.tokens,
            "labelled_tokens": self.labelled,
            "truncated": self.cut,
            "median": self.median,
            "percentile_95": self.most,
            "longest": self.longest,
            "histogram": self.bins.iter().enumerate().map(line).collect::<Vec<_>>(),
        })
    }

    /// The shortest and the longest length of a line.
    fn bounds(&self, index: usize) -> (usize, usize) {
        ((self.first + index) * self.width + 1, (self.first + index + 1) * self.width)
    }
}

/// Writes a summary line, then the histogram.
impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, tokens, labelled, cut, median, most, longest, bins, .. } = self;
        let labelled_share = share(*labelled, *tokens);
        writeln!(f, "{rows} rows, {tokens} tokens, {labelled} labelled ({labelled_share}), {cut} rows cut")?;
        let mean = *tokens as f64 / (*rows).max(1) as f64;
        writeln!(f, "length: mean {mean:.1}, median {median}, 95 % up to {most}, longest {longest}")?;
        let digits = longest.to_string().len().max(4);
        let count = rows.to_string().len().max(4);
        writeln!(f, "{:>1$}  {2:>count$}  {3:BAR$}  labelled  cut", "tokens", 2 * digits + 1, "rows", "")?;
        let largest = bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
        for (index, bin) in bins.iter().enumerate() {
            let (start, end) = self.bounds(index);
            // Rounded up, so that few rows still have a bar.
            let bar = "█".repeat((bin.rows * BAR).div_ceil(largest));
            let labelled = share(bin.labelled, bin.tokens);
            let lengths = if start == end {
                format!("{start:>digits$} {:digits$}", "")
            } else {
                format!("{start:>digits$}-{end:<digits$}")
            };
            let line = format!("{lengths}  {:>count$}  {bar:BAR$}  {labelled:>8}", bin.rows);
            match bin.cut {
                0 => writeln!(f, "{}", line.trim_end())?,
                cut => writeln!(f, "{line}  {cut:>3}")?,
            }
        }
        Ok(())
    }
}

/// A part in percent; empty where the whole is 0.
fn share(part: usize, whole: usize) -> String {
    match whole {
        0 => String::new(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DataConfig, SourceConfig, Split};
    use crate::prepare::{Prepare, prepare};
    use crate::source::NoFetch;

    /// Rows of token ids, the first half of each not trained, cut at 100 tokens.
    fn lengths(of: &[usize]) -> Lengths {
        let dir = tempfile::tempdir().unwrap();
        let row = |length: &usize| {
            let ids: Vec<usize> = (0..*length).collect();
            let labels: Vec<i64> = (0..*length).map(|id| if id < length / 2 { -100 } else { id as i64 }).collect();
            format!("{}\n", json!({"input_ids": ids, "labels": labels}))
        };
        std::fs::write(dir.path().join("rows.jsonl"), of.iter().map(row).collect::<String>()).unwrap();
        let config =
            DataConfig { max_length: 100, train: vec![SourceConfig::new("rows.jsonl")], ..DataConfig::default() };
        let request = Prepare {
            config: &config,
            split: Split::Train,
            base: dir.path(),
            tokenizer: None,
            template: None,
            pictures: None,
            fetch: &NoFetch,
            micro_batch: 1,
            cache: None,
            keep_text: false,
            limit: None,
            progress: &|_| std::ops::ControlFlow::Continue(()),
        };
        Lengths::of(&prepare(&request).unwrap())
    }

    #[test]
    fn every_row_is_in_the_line_of_its_length() {
        let lengths = lengths(&[40, 48, 49, 56, 57, 100, 120, 300]);
        assert_eq!((lengths.rows, lengths.cut, lengths.longest), (8, 2, 100));
        assert_eq!((lengths.median, lengths.most), (56, 100));
        // 61 lengths in lines of four, from 37-40 to 97-100.
        assert_eq!((lengths.width, lengths.first, lengths.bins.len()), (4, 9, 16));
        let rows: Vec<usize> = lengths.bins.iter().map(|bin| bin.rows).collect();
        assert_eq!(rows, [1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        let shown = lengths.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("8 rows, 550 tokens, ") && lines[0].ends_with("2 rows cut"), "{shown}");
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(words(lines[3]), ["37-40", "1", &"█".repeat(14), "50.0", "%"]);
        let last = words(lines[18]);
        assert_eq!((last[0].as_str(), last[1].as_str(), last.last().unwrap().as_str()), ("97-100", "3", "2"));
        assert_eq!(last[2], "█".repeat(BAR));
    }

    #[test]
    fn rows_of_one_length_are_one_line() {
        let lengths = lengths(&[7, 7, 7]);
        assert_eq!((lengths.median, lengths.most, lengths.longest), (7, 7, 7));
        assert_eq!(lengths.bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [3]);
        assert!(lengths.to_string().contains("   7          3  █"), "{lengths}");
    }
}
