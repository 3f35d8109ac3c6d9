//! `firebrand data --stats`: writes a table of all rows, with each row's loss if a model is given.

use std::path::Path;

use firebrand_datasets::{Columns, Dataset, Lengths, RowScore, RowStatistics, StatisticsFile, TableKind};
use serde_json::{Value, json};

use crate::cli::{DataArgs, ModelArgs};
use crate::error::Error;
use crate::inference::LoadedModel;
use crate::inference::measure;
use crate::objective::TokenSums;
use crate::plan::{Text, fits};
use crate::recipe::Recipe;
use crate::say;
use crate::ui::{bars, output};

/// Number of rows named as those with the highest loss.
const WORST: usize = 5;

/// A model's scores of the rows.
struct Scores {
    rows: Vec<Option<RowScore>>,
    all: TokenSums,
    /// Row indices: the highest loss first, rows without a loss last.
    order: Vec<u32>,
}

/// The type of table that the ending of `path` asks for.
///
/// # Errors
/// An ending of no known type.
pub fn kind(path: &Path) -> Result<TableKind, Error> {
    TableKind::of(path).ok_or_else(|| Error::Request {
        problem: format!(
            "{}: a table is written as .csv or .parquet, and this file has another ending",
            path.display()
        ),
        help: "give the file of --stats one of these endings".into(),
    })
}

/// Writes the table and prints a summary of it.
pub fn write(
    arguments: &DataArgs,
    recipe: &Recipe,
    text: &Text,
    dataset: &Dataset,
    path: &Path,
    kind: TableKind,
) -> Result<(), Error> {
    let scores = output::file(path, |out| {
        let scores = match &arguments.model {
            Some(model) => Some(Scores::new(arguments, model, recipe, text, dataset)?),
            None => None,
        };
        let columns = if scores.is_some() { Columns::Scored } else { Columns::Plain };
        let mut table = StatisticsFile::new(kind, columns, out).map_err(Error::io(path))?;
        for place in 0..dataset.len() {
            let row = scores.as_ref().map_or(place, |scores| scores.order[place] as usize);
            let example = dataset.example(row)?;
            let format = dataset.decisions[example.source_index].format;
            let score = scores.as_ref().and_then(|scores| scores.rows[row]);
            let row = RowStatistics { score, ..RowStatistics::new(row, &example, format) };
            table.push(&row).map_err(Error::io(path))?;
        }
        table.finish().map_err(Error::io(path))?;
        Ok(scores)
    })?;
    let lengths = Lengths::of(dataset);
    if arguments.json {
        let mut summary = lengths.json();
        summary["file"] = json!(path);
        if let Some(scores) = scores {
            scores.add_to(&mut summary, dataset);
        }
        return say!("{summary}\n");
    }
    say!("{lengths}")?;
    if let Some(scores) = scores {
        scores.say(dataset)?;
    }
    say!("{} rows in {}\n", dataset.len(), path.display())
}

impl Scores {
    fn new(arguments: &DataArgs, model: &str, recipe: &Recipe, text: &Text, dataset: &Dataset) -> Result<Self, Error> {
        let named = ModelArgs {
            model: Some(model.to_string()),
            adapter: arguments.adapter.clone(),
            base: arguments.base,
            // The statistics are of this model, whatever the adapter was trained on.
            other_base: true,
            device: arguments.device.clone().unwrap_or_else(|| recipe.device.clone()),
            dtype: recipe.dtype,
        };
        let loaded = LoadedModel::new(&named, &recipe.data.template)?;
        fits::check(dataset, &loaded.model, text.tokenizer.as_ref())?;
        if let (Some(its), Some(ours)) = (&loaded.text.tokenizer, &text.tokenizer)
            && its.hash() != ours.hash()
        {
            eprintln!(
                "warning: {model} has another tokenizer than the recipe's model, which made the tokens that are scored"
            );
        }
        let bar = bars::rows_bar();
        bar.set_length(dataset.len() as u64);
        let measured = measure(&loaded.model, dataset, recipe.data.max_length, |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let (rows, all) = measured?;
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        // A loss that is NaN sorts first, a row without a loss last.
        let badness = |row: &u32| rows[*row as usize].map_or(-1.0, |score| score.loss.abs());
        order.sort_by(|left, right| badness(right).total_cmp(&badness(left)));
        Ok(Self { rows, all, order })
    }

    fn say(&self, dataset: &Dataset) -> Result<(), Error> {
        if self.all.tokens == 0 {
            return say!("no row has a labelled token, so there is no loss\n");
        }
        let loss = self.all.mean_loss();
        let accuracy = self.all.accuracy() * 100.0;
        say!("mean loss {loss:.6}, perplexity {:.4}, token accuracy {accuracy:.2} %\n", loss.exp())?;
        say!("highest loss:\n")?;
        for (row, score) in self.worst() {
            say!("  {:<10.6} {}\n", score.loss, dataset.location(row))?;
        }
        Ok(())
    }

    /// Adds the sums over all rows to a JSON object.
    fn add_to(&self, summary: &mut Value, dataset: &Dataset) {
        if self.all.tokens > 0 {
            let loss = self.all.mean_loss();
            summary["loss"] = json!(loss);
            summary["perplexity"] = json!(loss.exp());
            summary["token_accuracy"] = json!(self.all.accuracy());
        }
        let named = |(row, score): (usize, RowScore)| {
            let location = dataset.location(row);
            json!({ "file": location.path.as_ref(), "line": location.line, "loss": score.loss })
        };
        summary["highest_loss"] = self.worst().map(named).collect();
    }

    /// The rows with the highest loss.
    fn worst(&self) -> impl Iterator<Item = (usize, RowScore)> {
        self.order.iter().filter_map(|row| Some((*row as usize, self.rows[*row as usize]?))).take(WORST)
    }
}
