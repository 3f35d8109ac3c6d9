//! Prints the modules of an adapter as a table.

use std::fmt;

use super::modules::{AdapterModules, ModuleReport};
use super::text::thousands;

/// Modules that are named where there may be many.
const NAMED: usize = 8;

impl fmt::Display for AdapterModules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "adapter  {}", self.path.display())?;
        let mut fact = |label: &str, value: String| writeln!(f, "  {label:<13} {value}");
        fact("method", self.method.into())?;
        fact("base model", self.base_model.as_deref().map_or("not named".into(), printable))?;
        fact("parameters", thousands(self.parameters))?;
        let summary = &self.summary;
        fact("change", format!("{} in all {} modules", number(summary.change), self.modules.len()))?;
        for (label, module) in [("largest in", &summary.largest), ("smallest in", &summary.smallest)] {
            let Some(found) = self.modules.iter().find(|report| Some(&report.module) == module.as_ref()) else {
                continue;
            };
            fact(label, format!("{}: {}", printable(&found.module), number(found.change)))?;
        }
        fact("never trained", named(&summary.never_trained))?;
        if !self.trained_base.is_empty() {
            fact("of the base", named(&self.trained_base))?;
        }
        table(f, &self.modules)
    }
}

/// A table of the columns that the modules have; all but the first are right-aligned.
fn table(f: &mut fmt::Formatter<'_>, modules: &[ModuleReport]) -> fmt::Result {
    let rows: Vec<Vec<(&str, String)>> = modules.iter().map(row).collect();
    let Some(first) = rows.first() else { return Ok(()) };
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(_, value)| value.chars().count());
        cells.chain(first.get(column).map(|(label, _)| label.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    let mut line = |cells: Vec<&str>| {
        let cells = cells.into_iter().zip(&widths).enumerate().map(|(index, (cell, width))| match index {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    line(first.iter().map(|(label, _)| *label).collect())?;
    rows.iter().try_for_each(|row| line(row.iter().map(|(_, value)| value.as_str()).collect()))
}

fn row(report: &ModuleReport) -> Vec<(&'static str, String)> {
    let mut cells = vec![("module", printable(&report.module))];
    if let Some(low_rank) = &report.low_rank {
        let [out, input] = low_rank.shape;
        cells.extend([
            ("weight", format!("{out} x {input}")),
            ("rank", low_rank.rank.to_string()),
            ("alpha", low_rank.alpha.to_string()),
            ("scale", number(low_rank.scale)),
            ("|A|", number(low_rank.a_norm)),
            ("|B|", number(low_rank.b_norm)),
            ("|s B A|", number(report.change)),
            ("spectral norm", low_rank.singular_values.first().map_or("0".into(), |value| number(*value))),
            ("effective rank", format!("{:.2}", low_rank.effective_rank)),
        ]);
    }
    let spreads =
        [(&report.magnitude, ["magnitude from", "to", "deviation"]), (&report.factors, ["from", "to", "deviation"])];
    for (spread, [from, to, deviation]) in spreads {
        if let Some(spread) = spread {
            let values = [(from, spread.min), (to, spread.max), (deviation, spread.deviation)];
            cells.extend(values.map(|(label, value)| (label, number(value))));
        }
    }
    cells
}

fn named(modules: &[String]) -> String {
    let names: Vec<String> = modules.iter().take(NAMED).map(|name| printable(name)).collect();
    match modules.len() {
        0 => "none".into(),
        count if count > NAMED => format!("{count}: {} and {} more", names.join(", "), count - NAMED),
        count => format!("{count}: {}", names.join(", ")),
    }
}

/// A number with four digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).max(0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.3e}")
    }
}

/// A name from an untrusted file, with control characters escaped because a terminal would obey them.
fn printable(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.000"),
            (0.012345, "0.01235"),
            (123.456, "123.5"),
            (98765.4, "98765"),
            (1e-7, "1.000e-7"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn many_names_are_cut() {
        let names: Vec<String> = (0..10).map(|index| format!("m{index}")).collect();
        assert_eq!(named(&names), "10: m0, m1, m2, m3, m4, m5, m6, m7 and 2 more");
        assert_eq!(named(&names[..2]), "2: m0, m1");
        assert_eq!(named(&[]), "none");
    }
}
