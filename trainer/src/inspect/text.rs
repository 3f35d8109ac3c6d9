//! Prints a report for people, on about one page however many layers there are.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::report::{
    Architecture, BlockSizes, DiffusionSizes, ImageSizes, InspectReport, Kind, TensorReport, TowersSizes,
};

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "model",
            Kind::Adapter => "adapter",
            Kind::Checkpoint => "checkpoint",
            Kind::Weights => "weights",
        };
        writeln!(f, "{kind}  {}", self.path.display())?;
        for (label, value) in self.facts() {
            writeln!(f, "  {label:<11} {value}")?;
        }
        writeln!(f, "files")?;
        let width = self.files.iter().map(|file| file.name.len()).max().unwrap_or(0);
        for file in &self.files {
            writeln!(f, "  {:<width$}  {:>9}  sha256 {}", file.name, size(file.bytes), file.sha256)?;
        }
        if self.tensors.is_empty() {
            return Ok(());
        }
        writeln!(f, "tensors")?;
        let groups = group(&self.tensors);
        let width = groups.iter().map(|group| group.name.len()).max().unwrap_or(0).min(90);
        for Group { name, shape, dtype, count } in &groups {
            let times = if *count > 1 { format!("  x{count}") } else { String::new() };
            writeln!(f, "  {name:<width$}  {dtype:<4} {shape:?}{times}")?;
        }
        Ok(())
    }
}

/// The lines about the sizes of blocks.
fn blocks(sizes: &BlockSizes) -> [(&'static str, String); 3] {
    let BlockSizes { hidden_size, layers, heads, kv_heads, head_dim, intermediate_size } = sizes;
    [
        ("layers", format!("{layers}, hidden {hidden_size}")),
        ("attention", format!("{heads} heads of {head_dim}, {kv_heads} for keys and values")),
        ("mlp", intermediate_size.to_string()),
    ]
}

impl InspectReport {
    /// The lines at the top, each a label and a value.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(family) = &self.family {
            let model_type = if family.model_type.is_empty() { "unnamed" } else { &family.model_type };
            facts.push(("family", model_type.to_string()));
            if let Some(reason) = &family.unsupported {
                facts.push(("unsupported", reason.clone()));
            }
            if let Some(scheme) = &family.scheme {
                facts.push(("quantized", scheme.clone()));
            }
            match &family.architecture {
                None => {}
                Some(Architecture::Decoder(sizes)) => {
                    facts.extend(blocks(&sizes.blocks));
                    let head = match (sizes.classes, sizes.tied_head) {
                        (Some(_), _) => "no output head",
                        (None, true) => "output head is the embedding",
                        (None, false) => "output head a tensor of its own",
                    };
                    facts.push(("vocabulary", format!("{}, {head}", sizes.vocab_size)));
                    if let Some(classes) = sizes.classes {
                        let problem =
                            sizes.problem_type.as_deref().unwrap_or("a problem that config.json does not name");
                        facts.push(("classifier", format!("{classes} of {problem}: {}", names(&sizes.labels))));
                    }
                    facts.push(("positions", sizes.max_positions.to_string()));
                }
                Some(Architecture::Image(ImageSizes { classes, labels, registers, images })) => {
                    let registers = if *registers > 0 { format!(", {registers} registers") } else { String::new() };
                    let (size, patch) = (images.image_size, images.patch_size);
                    facts.push(("images", format!("{size} x {size} or others, patches of {patch}{registers}")));
                    facts.extend(blocks(&images.blocks));
                    facts.push(match classes {
                        Some(classes) => ("classifier", format!("{classes} classes: {}", names(labels))),
                        None => ("classifier", "none: training gives it a head".to_string()),
                    });
                }
                Some(Architecture::Diffusion(sizes)) => facts.extend(stages(sizes)),
                Some(Architecture::Towers(TowersSizes { embedding, text, vision })) => {
                    facts.push(("embedding", embedding.to_string()));
                    facts.push(("images", format!("{0} x {0}, patches of {1}", vision.image_size, vision.patch_size)));
                    facts.extend(blocks(&vision.blocks));
                    facts.push(("texts", format!("{} tokens of {}", text.max_positions, text.vocab_size)));
                    facts.extend(blocks(&text.blocks));
                }
            }
        }
        if let Some(adapter) = &self.adapter {
            let settings = adapter.lora.as_ref().map(|lora| {
                let rslora = if lora.rslora { ", rsLoRA" } else { "" };
                format!(", rank {}, alpha {}, dropout {}{rslora}", lora.rank, lora.alpha, lora.dropout)
            });
            facts.push(("method", format!("{}{}", adapter.method, settings.unwrap_or_default())));
            facts.push(("modules", format!("{}, targets {}", adapter.modules, targets(&adapter.target_modules))));
            facts.push(("base model", adapter.base_model.clone().unwrap_or_else(|| "not named".to_string())));
        }
        if let Some(checkpoint) = &self.checkpoint {
            let (step, epoch, tokens) = (checkpoint.step, checkpoint.epoch, thousands(checkpoint.tokens));
            facts
                .push(("step", format!("{step}, epoch {epoch}, {tokens} tokens trained on, seed {}", checkpoint.seed)));
            if let Some(metric) = checkpoint.metric {
                facts.push(("metric", metric.to_string()));
            }
            let bytes = size(checkpoint.optimizer_bytes);
            facts.push(("optimizer", format!("{} tensors, {bytes}", checkpoint.optimizer_tensors)));
        }
        facts.extend(self.notes.iter().map(|note| ("note", note.clone())));
        facts.push(("parameters", thousands(self.parameters)));
        let dtypes = self.dtypes.iter();
        let dtypes = dtypes.map(|(name, dtype)| format!("{name} {} in {} tensors", size(dtype.bytes), dtype.tensors));
        let dtypes = dtypes.collect::<Vec<_>>().join(", ");
        facts.push(("dtype", if dtypes.is_empty() { "no weights in this folder".to_string() } else { dtypes }));
        facts
    }
}

/// The first names of classes. They come from an untrusted file.
fn names(labels: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = labels.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    let more = labels.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// The pattern, or the last parts of the listed names, because the list may name every module of every layer.
fn targets(value: &Value) -> String {
    match value {
        Value::Array(names) => {
            let last = |name: &Value| name.as_str().and_then(|name| name.rsplit('.').next()).map(str::to_string);
            names.iter().filter_map(last).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Tensors whose names differ in one number only.
struct Group<'a> {
    name: String,
    shape: &'a [usize],
    dtype: &'static str,
    count: usize,
}

/// Joins `layers.0.x`, `layers.1.x`, ... if they have one shape and dtype. The group is listed in the place of the
/// first.
fn group(tensors: &[TensorReport]) -> Vec<Group<'_>> {
    let mut keys = std::collections::HashMap::new();
    let mut groups: Vec<(Group, Vec<u64>)> = Vec::new();
    for tensor in tensors {
        // The name comes from an untrusted file, and a terminal would obey control characters in it.
        let name = tensor.name.escape_debug().to_string();
        let Some((template, number)) = number(&name) else {
            let (shape, dtype) = (&*tensor.shape, tensor.dtype);
            groups.push((Group { name, shape, dtype, count: 1 }, Vec::new()));
            continue;
        };
        let next = groups.len();
        let place = *keys.entry((template.clone(), &*tensor.shape, tensor.dtype)).or_insert(next);
        if place == next {
            let group = Group { name: template, shape: &tensor.shape, dtype: tensor.dtype, count: 0 };
            groups.push((group, Vec::new()));
        }
        groups[place].0.count += 1;
        groups[place].1.push(number);
    }
    groups
        .into_iter()
        .map(|(group, numbers)| Group { name: group.name.replacen("{}", &span(numbers), 1), ..group })
        .collect()
}

/// The first part of a name that is a number, and the name with `{}` instead of it.
fn number(name: &str) -> Option<(String, u64)> {
    let parts: Vec<&str> = name.split('.').collect();
    let (place, number) = parts.iter().enumerate().find_map(|(place, part)| Some((place, part.parse().ok()?)))?;
    let template: Vec<&str> =
        parts.iter().enumerate().map(|(at, part)| if at == place { "{}" } else { *part }).collect();
    Some((template.join("."), number))
}

/// `{0..29}`, or the numbers themselves if some between are missing.
fn span(mut numbers: Vec<u64>) -> String {
    numbers.sort_unstable();
    match numbers[..] {
        [] => "{}".to_string(),
        [only] => only.to_string(),
        [first, .., last] if last - first == numbers.len() as u64 - 1 => format!("{{{first}..{last}}}"),
        _ => format!("{{{}}}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
    }
}

/// A size in decimal units, as disks and downloads are measured.
fn size(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|(_, unit)| bytes as f64 >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(|chunk| String::from_utf8_lossy(chunk).into_owned());
    grouped.collect::<Vec<_>>().join(",")
}

/// The facts of a diffusion pipeline's network.
fn stages(sizes: &DiffusionSizes) -> Vec<(&'static str, String)> {
    let listed = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let made = sizes.sample_size.map_or_else(String::new, |size| format!(", made for {size} x {size}"));
    let mut facts = vec![
        ("pictures", format!("{} channels{made}", sizes.channels)),
        (
            "stages",
            format!("{} channels; transformers of {} blocks", listed(&sizes.widths), listed(&sizes.transformer_layers)),
        ),
        ("texts", format!("states of {}", sizes.text_width)),
    ];
    facts.extend(sizes.schedule.iter().map(|schedule| ("tells", schedule.clone())));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, size: usize) -> TensorReport {
        TensorReport { name: name.to_string(), shape: vec![size], dtype: "F32", file: "f".to_string() }
    }

    #[test]
    fn layers_alike_are_one_line() {
        let tensors = [
            tensor("embed", 9),
            tensor("layers.0.a", 1),
            tensor("layers.0.b", 2),
            tensor("layers.1.a", 1),
            tensor("layers.1.b", 3),
            tensor("layers.2.a", 1),
        ];
        let lines: Vec<_> = group(&tensors).into_iter().map(|group| (group.name, group.count)).collect();
        let expected = [("embed", 1), ("layers.{0..2}.a", 3), ("layers.0.b", 1), ("layers.1.b", 1)];
        assert_eq!(lines, expected.map(|(name, count)| (name.to_string(), count)));
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        let tensors = [tensor("a\u{1b}[2J", 1), tensor("layers.0.\u{7}", 1)];
        let names: Vec<_> = group(&tensors).into_iter().map(|group| group.name).collect();
        assert!(names.iter().all(|name| !name.contains(char::is_control)), "{names:?}");
    }

    #[test]
    fn a_span_with_a_gap_shows_its_numbers() {
        assert_eq!(span(vec![2, 0, 1]), "{0..2}");
        assert_eq!(span(vec![0, 2]), "{0,2}");
        assert_eq!(span(vec![7]), "7");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(134_515_008), "134,515,008");
        assert_eq!(thousands(7), "7");
        assert_eq!((size(999), size(269_030_016)), ("999 B".to_string(), "269.0 MB".to_string()));
    }
}
