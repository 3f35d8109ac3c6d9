//! `firebrand data`: shows rows as training will see them, their lengths, and a table with statistics of each; or a file
//! before there is a recipe.

mod file;
pub(super) mod paint;
mod sheet;
mod stats;
mod tensors;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::process::ExitCode;

use firebrand_datasets::{
    CacheChoice, DataConfig, Dataset, Example, ExampleContent, Lengths, Location, Part, Pictured, Prepare, Progress,
    RowKind, Split, TensorFile, Tokenizer, Tokens, prepare,
};
use firebrand_hub::HubDatasets;
use serde_json::json;

use super::counted::count;
use crate::cli::{DataArgs, SplitName};
use crate::error::Error;
use crate::plan::{Data, Opened, Text, decide_classes, rows_of};
use crate::recipe::Recipe;
use crate::say;
use crate::ui::bars::DataProgress;
use paint::Paint;

/// The exit code of arguments that make no sense together.
const MISUSE: u8 = 2;
/// Rows shown when `--rows` is not given.
const SHOWN: usize = 5;

pub fn run(arguments: &DataArgs) -> Result<ExitCode, Error> {
    let table = arguments.stats.as_deref().map(|path| stats::kind(path).map(|kind| (path, kind))).transpose()?;
    let loaded = match (file::is_data(&arguments.recipe), &arguments.model) {
        (true, Some(model)) => file::as_recipe(arguments, model)?,
        (true, None) => {
            file::show(arguments, SHOWN)?;
            return Ok(ExitCode::SUCCESS);
        }
        (false, Some(_)) if arguments.stats.is_none() => {
            eprintln!(
                "error: a recipe names its model: --model goes with --stats, or with a data file in place of a recipe"
            );
            return Ok(ExitCode::from(MISUSE));
        }
        (false, _) => Recipe::load(&arguments.recipe, &arguments.overrides)?,
    };
    let Opened { mut loaded, folder, text, .. } = Opened::new(loaded)?;
    let split = match arguments.split {
        SplitName::Train => Split::Train,
        SplitName::Eval => Split::Eval,
    };
    if let Some(path) = &arguments.tensors {
        let data = all(&loaded.recipe, &text)?;
        decide_classes(&mut loaded, &folder, &data)?;
        let data = of_split(data.with_classes(&loaded.recipe), split)?;
        let written = tensors::write(&data, arguments.rows.unwrap_or(usize::MAX), path)?;
        eprintln!("{} written into {}", count(written, "row"), path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let recipe = loaded.recipe;
    if let Some(path) = &arguments.out {
        let Some(pictures) = &text.pictures else {
            return Err(Error::Request {
                problem: format!("{}: the model reads no pictures, or its folder does not say how", recipe.model),
                help: "--out makes a sheet of pictures; leave it out, and rows are printed".into(),
            });
        };
        let rows = arguments.rows.unwrap_or(sheet::SHOWN);
        let written = sheet::write(&first(&recipe, &text, split, Some(rows))?, pictures, rows, path)?;
        eprintln!("{} on {}", count(written, "picture"), path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((path, kind)) = table {
        stats::write(arguments, &recipe, &text, &whole(&recipe, &text, split)?, path, kind)?;
        return Ok(ExitCode::SUCCESS);
    }
    let limit = match (arguments.rows, arguments.lengths, arguments.json) {
        (Some(rows), ..) => Some(rows),
        (None, true, _) => Some(0),
        (None, false, true) => None,
        (None, false, false) => Some(SHOWN),
    };
    if limit != Some(0) {
        show_rows(arguments, &recipe, &text, split, limit)?;
    }
    if arguments.lengths {
        let dataset = whole(&recipe, &text, split)?;
        let lengths = Lengths::of(&dataset);
        match arguments.json {
            true => {
                let mut report = lengths.json();
                if !dataset.chosen.is_empty() {
                    report["chosen"] = json!(dataset.chosen);
                }
                say!("{report}\n")?;
            }
            false => {
                for chosen in dataset.chosen.iter().filter(|_| limit == Some(0)) {
                    say!("{chosen}\n")?;
                }
                say!("{lengths}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All rows of a recipe as training has them.
fn all(recipe: &Recipe, text: &Text) -> Result<Data, Error> {
    let bar = DataProgress::new();
    let data = Data::load(recipe, text, crate::plan::cache::folder().as_deref(), &|split, progress| {
        bar.report(split, progress);
        ControlFlow::Continue(())
    });
    bar.finish();
    data
}

/// The rows of one split.
fn of_split(data: Data, split: Split) -> Result<Dataset, Error> {
    let chosen = match split {
        Split::Train => Some(data.train),
        Split::Eval => data.eval,
    };
    chosen.ok_or_else(|| Error::Request {
        problem: "there are no rows to evaluate on".into(),
        help: "name some in [[data.eval]], or set rows of training aside with data.validation_split".into(),
    })
}

/// Shows the first `limit` rows of a split with their texts, without caching them.
fn show_rows(
    arguments: &DataArgs,
    recipe: &Recipe,
    text: &Text,
    split: Split,
    limit: Option<usize>,
) -> Result<(), Error> {
    let dataset = first(recipe, text, split, limit)?;
    let shown = limit.unwrap_or(usize::MAX);
    if arguments.json {
        // Standard output has the rows and nothing else.
        for chosen in &dataset.chosen {
            eprintln!("{chosen}");
        }
        for row in dataset.rows().take(shown).flatten() {
            say!("{}\n", dataset.example(row)?.json()?)?;
        }
        return Ok(());
    }
    let paint = Paint::of_stdout();
    for decision in &dataset.decisions {
        say!("{}\n", paint.dim(&format!("{}: {} ({})", decision.path, decision.format, decision.why)))?;
    }
    for note in &dataset.notes {
        say!("{}\n", paint.dim(note))?;
    }
    for chosen in &dataset.chosen {
        say!("{}\n", paint.dim(&chosen.to_string()))?;
    }
    let packs = pack_numbers(&dataset, recipe);
    for row in dataset.rows().take(shown).flatten() {
        show(&dataset.example(row)?, packs[row], text.tokenizer.as_ref(), paint)?;
    }
    match dataset.kind() {
        RowKind::Tokens => {}
        RowKind::Tensors => return Ok(()),
    }
    let epoch = dataset.epoch(recipe.seed, 0);
    let used = format!(
        "{} of these rows, {:.0} % of {} room is used",
        count(epoch.packs.len(), "pack"),
        epoch.efficiency * 100.0,
        if epoch.packs.len() == 1 { "its" } else { "their" }
    );
    say!("{}\n", paint.dim(&used))?;
    say!("{}\n", paint.dim(paint.legend()))?;
    if !arguments.lengths {
        say!("\n{}", Lengths::of(&dataset))?;
        say!("{}\n", paint.dim("of the rows read for this; --lengths is about all rows of the split"))?;
    }
    Ok(())
}

/// At least `wanted` rows of a split with their texts, if there are that many. More rows are read when some are left
/// out or belong to the other split.
fn first(recipe: &Recipe, text: &Text, split: Split, wanted: Option<usize>) -> Result<Dataset, Error> {
    let mut limit = wanted;
    loop {
        let read = Cell::new(0);
        let progress = |progress: Progress| {
            read.set(progress.rows);
            ControlFlow::Continue(())
        };
        let config = rows_of(recipe);
        let dataset = prepare(&Prepare { keep_text: true, limit, ..request(recipe, &config, text, split, &progress) })
            .map_err(|error| text.explain(error))?;
        match (wanted, limit) {
            (Some(wanted), Some(asked)) if dataset.rows().count() < wanted && read.get() >= asked => {
                limit = Some(asked.saturating_mul(8));
            }
            _ => return Ok(dataset),
        }
    }
}

/// All rows of a split as training has them, from the cache if it holds them.
fn whole(recipe: &Recipe, text: &Text, split: Split) -> Result<Dataset, Error> {
    let name = match split {
        Split::Train => "train",
        Split::Eval => "eval",
    };
    let cache = match recipe.data.cache {
        CacheChoice::Auto => crate::plan::cache::folder(),
        CacheChoice::Off => None,
    };
    let bar = DataProgress::new();
    let progress = |progress: Progress| {
        bar.report(name, progress);
        ControlFlow::Continue(())
    };
    let config = rows_of(recipe);
    let dataset = prepare(&Prepare { cache: cache.as_deref(), ..request(recipe, &config, text, split, &progress) });
    bar.finish();
    Ok(dataset.map_err(|error| text.explain(error))?)
}

fn request<'a>(
    recipe: &'a Recipe,
    config: &'a DataConfig,
    text: &'a Text,
    split: Split,
    progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
) -> Prepare<'a> {
    Prepare {
        config,
        split,
        base: std::path::Path::new(""),
        tokenizer: text.tokenizer.as_ref(),
        template: text.template.as_ref(),
        pictures: text.pictures.as_ref(),
        micro_batch: recipe.train.micro_batch_size,
        cache: None,
        fetch: &HubDatasets,
        keep_text: false,
        limit: None,
        progress,
    }
}

/// The pack and segment of each row in the first epoch, over the rows that were read.
fn pack_numbers(dataset: &Dataset, recipe: &Recipe) -> Vec<Option<(usize, usize)>> {
    let mut places = vec![None; dataset.len()];
    for (pack, packed) in dataset.epoch(recipe.seed, 0).packs.iter().enumerate() {
        for (segment, row) in packed.examples.into_iter().enumerate() {
            let segment = if dataset.documents().is_joined() { 1 } else { segment + 1 };
            places[row] = Some((pack + 1, segment));
        }
    }
    places
}

fn show(
    example: &Example,
    place: Option<(usize, usize)>,
    tokenizer: Option<&Tokenizer>,
    paint: Paint,
) -> Result<(), Error> {
    match &example.content {
        ExampleContent::Tokens(tokens) => show_tokens(example, tokens, place, tokenizer, paint),
        ExampleContent::Tensors(file) => show_tensors(&example.source, file, paint),
        ExampleContent::Pictured(pictured) => show_pictured(&example.source, pictured, paint),
    }
}

/// Prints the path, size and caption or label of a row with a picture.
fn show_pictured(source: &Location, pictured: &Pictured, paint: Paint) -> Result<(), Error> {
    let (height, width) = pictured.size;
    let label = pictured.label.as_ref().and_then(|row| row.label.as_ref());
    let label = label.map_or(String::new(), |label| format!(", label {}", paint::visible(&label.to_string())));
    let name = paint::visible(&pictured.image.name());
    say!("\n{}{name}, {width} x {height} pixels{label}\n", paint.bold(&format!("{source}  ")))?;
    if let Some(caption) = &pictured.caption {
        let tokens: Vec<String> = caption.ids.iter().map(|ids| count(ids.len(), "token")).collect();
        say!("{}  {}\n", paint::visible(&caption.text), paint.dim(&tokens.join(", ")))?;
    }
    Ok(())
}

/// Prints the names, types and shapes of a row's arrays.
fn show_tensors(source: &Location, file: &TensorFile, paint: Paint) -> Result<(), Error> {
    say!("\n{}{}\n", paint.bold(&format!("{source}  ")), paint::visible(&file.path.display().to_string()))?;
    let arrays = file.read(source)?;
    let width = arrays.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, array) in &arrays {
        say!("{:width$}  {} {:?}\n", paint::visible(name), array.values.dtype(), array.shape)?;
    }
    Ok(())
}

fn show_tokens(
    example: &Example,
    tokens: &Tokens,
    place: Option<(usize, usize)>,
    tokenizer: Option<&Tokenizer>,
    paint: Paint,
) -> Result<(), Error> {
    let pack = place.map(|(pack, _)| pack);
    let place = place.map_or("in no pack".to_string(), |(pack, segment)| format!("pack {pack}, segment {segment}"));
    let label = tokens.label.as_ref().and_then(|row| row.label.as_ref());
    let label = label.map_or(String::new(), |label| format!(", label {}", paint::visible(&label.to_string())));
    let part = match example.part {
        Part::Alone => String::new(),
        Part::Chosen | Part::Rejected | Part::Good | Part::Bad => format!(", {}", example.part.name()),
    };
    let of_tokens = || tokens.weights.iter().copied().find(|weight| *weight != 0.0).unwrap_or(0.0);
    let weight = tokens.label.as_ref().map_or_else(of_tokens, |row| row.weight);
    let cut = example.notes.cut_from.map_or_else(String::new, |tokens| format!(" (cut from {tokens})"));
    let known = format!(
        "{}  {} tokens{cut}, {} labelled, weight {weight}{part}{label}, ",
        example.source,
        tokens.input_ids.len(),
        example.labelled_tokens()
    );
    say!("\n{}{}\n", paint.bold(&known), paint.pack(&place, pack))?;
    let mut line = String::new();
    let mut role = None;
    for (index, (&id, &label)) in tokens.input_ids.iter().zip(&tokens.labels).enumerate() {
        let now = tokens.roles.as_ref().and_then(|roles| roles[index]);
        if now != role && now.is_some() {
            let name = now.map(|role| role.to_string()).unwrap_or_default();
            line += &format!("\n{} ", paint.pack(&format!("{name:9}"), pack));
            role = now;
        }
        let shown = match tokenizer {
            Some(tokenizer) => paint::visible(&tokenizer.decode(&[id], false)?),
            None => format!("{id} "),
        };
        let special = tokenizer.is_some_and(|tokenizer| tokenizer.is_special(id));
        line += &paint.token(&shown, label >= 0, special);
    }
    say!("{}\n", line.trim_start_matches('\n'))?;
    Ok(())
}
