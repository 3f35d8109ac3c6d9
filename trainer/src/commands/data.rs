//! `firebrand data`: rows as training will see them.

use std::io::IsTerminal;
use std::process::ExitCode;

use firebrand_datasets::{Dataset, Example, Part, Prepare, Progress, Split, Tokenizer, prepare};

use crate::cli::{DataArgs, SplitName};
use crate::error::Error;
use crate::hub::HubDatasets;
use crate::plan::{self, Text};
use crate::recipe::Recipe;
use crate::say;

pub fn run(arguments: &DataArgs) -> Result<ExitCode, Error> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.overrides)?.recipe;
    let folder = plan::model_folder(&recipe.model)?;
    let text = Text::load(&folder, &recipe.data.template, recipe.data.date.as_deref())?;
    let split = match arguments.split {
        SplitName::Train => Split::Train,
        SplitName::Eval => Split::Eval,
    };
    let limit = match (arguments.rows, arguments.json) {
        (Some(rows), _) => Some(rows),
        (None, true) => None,
        (None, false) => Some(5),
    };
    let dataset = prepare(&Prepare {
        config: &recipe.data,
        split,
        base: std::path::Path::new(""),
        tokenizer: text.tokenizer.as_ref(),
        template: text.template.as_ref(),
        micro_batch: recipe.train.micro_batch_size,
        cache: None,
        fetch: &HubDatasets,
        keep_text: true,
        limit,
        progress: &|_: Progress| {},
    })
    .map_err(|error| text.explain(error))?;
    let shown = limit.unwrap_or(usize::MAX);
    if arguments.json {
        for row in dataset.rows().take(shown).flatten() {
            say!("{}\n", serde_json::to_string(&dataset.example(row)?).unwrap_or_default())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let paint = Paint { on: std::io::stdout().is_terminal() };
    for decision in &dataset.decisions {
        say!("{}\n", paint.dim(&format!("{}: {} ({})", decision.path, decision.format, decision.why)))?;
    }
    let packs = pack_numbers(&dataset, &recipe);
    for row in dataset.rows().take(shown).flatten() {
        show(&dataset.example(row)?, packs[row], text.tokenizer.as_ref(), paint)?;
    }
    let epoch = dataset.epoch(recipe.seed, 0);
    let used =
        format!("{} packs of these rows, {:.0} % of their room is used", epoch.packs.len(), epoch.efficiency * 100.0);
    say!("{}\n", paint.dim(&used))?;
    say!("{}\n", paint.dim("trained tokens are green; special tokens are underlined"))?;
    Ok(ExitCode::SUCCESS)
}

/// Pack and segment of each row in the first epoch, over the rows read.
fn pack_numbers(dataset: &Dataset, recipe: &Recipe) -> Vec<Option<(usize, usize)>> {
    let mut places = vec![None; dataset.len()];
    for (pack, packed) in dataset.epoch(recipe.seed, 0).packs.iter().enumerate() {
        for (segment, row) in packed.rows.into_iter().enumerate() {
            places[row] = Some((pack + 1, segment + 1));
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
    let place = place.map_or("in no pack".to_string(), |(pack, segment)| format!("pack {pack}, segment {segment}"));
    let part = match example.part {
        Part::Alone => "",
        Part::Chosen => ", chosen",
        Part::Rejected => ", rejected",
        Part::Good => ", good",
        Part::Bad => ", bad",
    };
    let weight = example.weights.iter().copied().find(|weight| *weight != 0.0).unwrap_or(0.0);
    say!(
        "\n{}\n",
        paint.bold(&format!(
            "{}  {} tokens, {} labelled, weight {weight}{part}, {place}",
            example.source,
            example.input_ids.len(),
            example.labelled_tokens()
        ))
    )?;
    let mut line = String::new();
    let mut role = None;
    for (index, (&id, &label)) in example.input_ids.iter().zip(&example.labels).enumerate() {
        let now = example.roles.as_ref().and_then(|roles| roles[index]);
        if now != role && now.is_some() {
            line += &paint.dim(&format!("\n{:9} ", now.map(|role| role.to_string()).unwrap_or_default()));
            role = now;
        }
        let token = match tokenizer {
            Some(tokenizer) => tokenizer.decode(&[id], false)?,
            None => id.to_string(),
        };
        let shown = if tokenizer.is_some() { token.replace('\n', "\\n") } else { format!("{token} ") };
        let special = tokenizer.is_some_and(|tokenizer| tokenizer.is_special(id));
        line += &paint.token(&shown, label >= 0, special);
    }
    say!("{}\n", line.trim_start_matches('\n'))?;
    Ok(())
}

/// Colours, where there is a terminal; brackets mark trained text elsewhere.
#[derive(Debug, Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn dim(self, text: &str) -> String {
        self.wrap(text, "\x1b[2m")
    }

    fn bold(self, text: &str) -> String {
        self.wrap(text, "\x1b[1m")
    }

    fn token(self, text: &str, trained: bool, special: bool) -> String {
        match (self.on, trained) {
            (false, true) => format!("[{text}]"),
            (false, false) => text.to_string(),
            (true, _) => {
                let colour = if trained { "\x1b[32m" } else { "\x1b[90m" };
                let line = if special { "\x1b[4m" } else { "" };
                format!("{colour}{line}{text}\x1b[0m")
            }
        }
    }

    fn wrap(self, text: &str, code: &str) -> String {
        if self.on { format!("{code}{text}\x1b[0m") } else { text.to_string() }
    }
}
