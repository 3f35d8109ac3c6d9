//! `firebrand init`: looks at data and model and writes a recipe for them.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::{
    DataConfig, Dataset, Format, Lengths, Prepare, Report, RowKind, SourceConfig, Split, TemplateChoice, prepare,
};
use firebrand_hub::{HubDatasets, HubOptions, locate};
use firebrand_models::Model;

use crate::cli::InitArgs;
use crate::error::Error;
use crate::guess::{Guess, quoted};
use crate::plan::{Text, TextFolder};
use crate::recipe::{Duration, Recipe, Warmup};
use crate::say;
use crate::training::Steps;
use crate::ui::bars::DataProgress;
use crate::ui::output;

/// Rows that are tokenised to measure lengths.
const MEASURED: usize = 20_000;
/// A length in tokens above that of any row.
const UNBOUNDED: usize = 1 << 30;
/// The longest rows that a first recipe trains whole.
const LONGEST: usize = 4096;
/// Rows below which none are set aside for evaluation.
const FEW_ROWS: usize = 20;

pub fn run(arguments: &InitArgs) -> Result<ExitCode, Error> {
    if arguments.out.exists() {
        return Err(Error::Request {
            problem: format!("{} is there already", arguments.out.display()),
            help: "name another file by --out, or remove this one".into(),
        });
    }
    let folder = locate(&arguments.model, &HubOptions::from_env()?)?;
    let outline = Model::outline(&folder)?;
    let Some(predictor) = outline.network().predictor() else {
        return Err(Error::Request {
            problem: format!("a model of type {} predicts no tokens", outline.family().name()),
            help: "init writes recipes for models of text; recipes/families/ has one for each other kind".into(),
        });
    };
    let positions = predictor.max_positions();
    let text = Text::load(&TextFolder::of_model(&folder), &TemplateChoice::Model, None)?;
    let guess = Guess::of(&arguments.data)?;
    let guess = if text.ships_template() { guess.as_dialogues() } else { guess };
    let rows = Rows::measure(&guess, &text, positions)?;
    let recipe = Written { arguments, guess: &guess, rows: &rows, positions };
    let recipe = recipe.text();
    // What is written is a recipe before it is written.
    let loaded = Recipe::from_text(&arguments.out.display().to_string(), &recipe, &[])?;
    output::file(&arguments.out, |out| out.write_all(recipe.as_bytes()).map_err(Error::io(&arguments.out)))?;
    say!("wrote    {}\n", arguments.out.display())?;
    say!("format   {} ({})\n", guess.format, guess.why)?;
    for (ours, theirs) in &guess.columns {
        say!("column   {theirs} is {ours}\n")?;
    }
    say!("lengths  {}\n", rows.said())?;
    for line in rows.report.to_string().lines() {
        say!("{line}\n")?;
    }
    if let Some(note) = text.note(rows.dataset.rendered()) {
        say!("note     {note}\n")?;
    }
    let out = arguments.out.display();
    say!("next     firebrand data {out}; firebrand check {out}; firebrand train {out}\n")?;
    say!("output   {}\n", loaded.recipe.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The rows as tokens, and what is chosen by their lengths.
struct Rows {
    dataset: Dataset,
    lengths: Lengths,
    /// Rows that could not be used.
    broken: usize,
    max_length: usize,
    batch_size: usize,
    /// Share set aside for evaluation.
    aside: Option<f64>,
    /// Optimiser steps in an epoch; absent where not all rows were read.
    steps: Option<u64>,
    report: Report,
}

impl Rows {
    fn measure(guess: &Guess, text: &Text, positions: usize) -> Result<Self, Error> {
        let source = SourceConfig {
            format: guess.format,
            columns: guess.columns.iter().map(|(ours, theirs)| ((*ours).to_owned(), theirs.clone())).collect(),
            ..SourceConfig::new(&guess.path)
        };
        let whole = DataConfig {
            max_length: UNBOUNDED,
            packing: false,
            broken: firebrand_datasets::BrokenRows::Skip,
            train: vec![source],
            ..DataConfig::default()
        };
        let dataset = read(&whole, text)?;
        if dataset.kind() != RowKind::Tokens || dataset.is_empty() {
            return Err(Error::Request {
                problem: format!("{}: no row of it can be trained by this model", guess.path),
                help: "look at it with `firebrand data FILE --model M`".into(),
            });
        }
        let lengths = Lengths::of(&dataset);
        // Windows of the longest row waste least; very long rows are cut, 1 % of them at most where the model reads so many.
        let wanted = if lengths.longest <= LONGEST { lengths.longest } else { lengths.most.max(LONGEST) };
        let max_length = wanted.next_multiple_of(64).min(positions).max(2);
        let all = dataset.len() < MEASURED;
        let aside = match dataset.len() {
            rows if rows < FEW_ROWS => None,
            rows if rows < 200 => Some(0.1),
            rows if rows < 10_000 => Some(0.05),
            _ => Some(0.01),
        };
        let trained = DataConfig { max_length, packing: true, validation_split: aside, ..whole.clone() };
        let packed = read(&trained, text)?;
        let packs = packed.packs(0, 0);
        let batch_size = if packs < 256 { 8 } else { 16 };
        let steps = all.then(|| Steps::new(&packed, 0, batch_size, Duration::Epochs(1)).total);
        let eval = packed.set_aside(&trained).filter(|rows| !rows.is_empty());
        let report = Report::new(Some(&packed), eval.as_ref(), text.tokenizer.as_ref(), &trained.gate)?;
        let aside = aside.filter(|_| eval.is_some());
        let broken = dataset.broken().count;
        Ok(Self { dataset, lengths, broken, max_length, batch_size, aside, steps, report })
    }

    fn said(&self) -> String {
        let Lengths { rows, median, most, longest, .. } = self.lengths;
        let of = if self.steps.is_some() { "" } else { "the first " };
        format!("{of}{rows} rows: half have at most {median} tokens, 95 % at most {most}, the longest {longest}")
    }
}

fn read(config: &DataConfig, text: &Text) -> Result<Dataset, Error> {
    let bar = DataProgress::new();
    let dataset = prepare(&Prepare {
        config,
        split: Split::Train,
        base: Path::new(""),
        tokenizer: text.tokenizer.as_ref(),
        template: text.template.as_ref(),
        pictures: text.pictures.as_ref(),
        micro_batch: 1,
        cache: None,
        fetch: &HubDatasets,
        keep_text: false,
        limit: Some(MEASURED),
        progress: &|progress| {
            bar.report("rows", progress);
            ControlFlow::Continue(())
        },
    });
    bar.finish();
    Ok(dataset.map_err(|error| text.explain(error))?)
}

/// The recipe as text.
struct Written<'a> {
    arguments: &'a InitArgs,
    guess: &'a Guess,
    rows: &'a Rows,
    positions: usize,
}

impl Written<'_> {
    fn text(&self) -> String {
        let Self { arguments, guess, rows, positions } = self;
        let name = Path::new(&arguments.data).file_stem().map_or("first".into(), |stem| stem.to_string_lossy());
        let name = name.split('.').next().filter(|name| !name.is_empty() && !name.contains('*')).unwrap_or("first");
        let mut text = format!(
            "# Written by `firebrand init`. docs/recipe.md has every key; `firebrand check` tells what this run would do.\n\
             model  = {}\n\
             output = {}  # must be empty or absent\n\n\
             [adapter]  # leave the section out to train every weight, at a tenth of the learning rate\n\
             kind    = \"lora\"\n\
             rank    = 16\n\
             alpha   = 32.0\n\
             targets = \"all-linear\"\n\n\
             [data]\n\
             # {}.\n\
             max_length = {}{}\n",
            quoted(&arguments.model),
            quoted(&format!("runs/{name}")),
            rows.said(),
            rows.max_length,
            if rows.lengths.longest > rows.max_length {
                format!("  # longer rows are cut; the model was made for {positions} tokens")
            } else {
                String::new()
            }
        );
        text += &match rows.aside {
            Some(share) => format!("validation_split = {share}  # of the rows are only measured, never trained on\n"),
            None => {
                format!("# Fewer than {FEW_ROWS} rows: none is set aside for evaluation. [[data.eval]] names others.\n")
            }
        };
        if rows.broken > 0 {
            text += &format!("broken = \"skip\"  # {} rows cannot be used; \"stop\" names them\n", rows.broken);
        }
        text += &format!("\n# Guessed: {}.\n{}\n", guess.why, guess.lines());
        text += self.objective();
        text += &self.length();
        text
    }

    /// The section that says what is minimised, where the rows are judged answers.
    fn objective(&self) -> &'static str {
        match self.guess.format {
            Format::Preference => "[objective]\nkind = \"dpo\"  # or \"orpo\", \"simpo\", which need no reference\n\n",
            Format::Unpaired => "[objective]\nkind = \"kto\"\n\n",
            Format::Labelled => "[objective]\nkind = \"classify\"\n\n",
            Format::Auto
            | Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Captioned
            | Format::Text
            | Format::Tokens
            | Format::Tensors => "",
        }
    }

    fn length(&self) -> String {
        let rows = self.rows;
        let mut text = String::from("[train]\n");
        let warmup = match rows.steps {
            Some(steps) => {
                let epochs = Duration::fitting(steps);
                let total = steps * epochs as u64;
                text += &format!("epochs = {epochs}  # {steps} steps each\n");
                format!("warmup_steps = {}", Warmup::Fitting.steps(total as usize))
            }
            None => {
                text += "epochs = 1\n";
                "warmup_ratio = 0.03".into()
            }
        };
        text += &format!("batch_size = {}  # packs of rows in a step\n\n", rows.batch_size);
        text += &format!(
            "[optimizer]\nlearning_rate = 2e-4  # usual for LoRA\n\n[schedule]\nkind = \"cosine\"\n{warmup}\n"
        );
        if let (Some(_), Some(steps)) = (rows.aside, rows.steps) {
            let total = steps * Duration::fitting(steps) as u64;
            text += &format!("\n[eval]\nevery = {}\n", (total / 10).clamp(1, 50));
        }
        text + "\n[export]\nmerge = false  # true: the merged model too, in the folder model/\n"
    }
}
