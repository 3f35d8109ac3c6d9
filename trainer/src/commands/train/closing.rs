//! The end of a run: its results on disk, and what it was in a few lines.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;

use firebrand_datasets::source::is_remote;
use firebrand_datasets::{RowKind, SourceConfig, TemplateChoice, TrainOn};
use firebrand_models::Model;

use crate::error::Error;
use crate::export::export;
use crate::host::peak_memory;
use crate::inference::samples;
use crate::observer::{Answer, SampleReport};
use crate::plan::{Data, Opened};
use crate::recipe::{Recipe, Sample};
use crate::run::{RunDirectory, TensorBoard};
use crate::training::{Outcome, Summary};
use crate::ui::{duration, verbosity};

/// The exit code of a program ended by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

/// What the training loop returns.
pub(super) struct Finished {
    pub outcome: Outcome,
    pub steps: u64,
    pub summary: Summary,
    pub model: Model,
    pub data: Data,
}

/// What the end needs of the run.
pub(super) struct Closing<'a> {
    pub recipe: &'a Recipe,
    pub directory: &'a RunDirectory,
    pub opened: &'a Opened,
    pub tensorboard: Option<TensorBoard>,
    /// Bytes of memory that were planned for.
    pub planned: u64,
    /// The questions to answer once more.
    pub sample: Option<&'a Sample>,
}

impl Closing<'_> {
    /// Writes the results, and says how the run ended.
    ///
    /// # Errors
    /// Those of writing.
    pub fn conclude(mut self, finished: Finished, before: &[Answer]) -> Result<ExitCode, Error> {
        match &finished.outcome {
            Outcome::Interrupted { checkpoint } => {
                eprintln!(
                    "stopped after step {}; continue with: firebrand train {} --resume",
                    finished.steps,
                    self.directory.path().join("recipe.toml").display()
                );
                eprintln!("checkpoint {}", checkpoint.path.display());
                return Ok(ExitCode::from(INTERRUPTED));
            }
            Outcome::StoppedEarly { best } => {
                eprintln!("stopped early: the evaluation loss was lowest ({:.4}) at step {}", best.value, best.step);
            }
            Outcome::Finished => {}
        }
        let Finished { summary, model, data, .. } = finished;
        let exported = export(&model, self.recipe, self.directory, &self.opened.folder, &self.opened.text, &data)?;
        let after = samples::answer(
            &model.for_inference(),
            &self.opened.text,
            self.recipe.data.system.as_deref(),
            self.sample,
        )?;
        if let Some(board) = &mut self.tensorboard {
            if !after.is_empty() {
                board.write_samples(&SampleReport { step: summary.steps, answers: after.clone() })?;
            }
            board.end(summary.steps)?;
        }
        let mut report = samples::comparison(before, &after, std::io::stdout().is_terminal());
        if !verbosity::is_quiet() {
            report += &told(&summary, data.train.kind(), self.planned);
        }
        report += &format!("weights      {}\n{exported}", which(&summary));
        if self.recipe.log.tensorboard {
            report += &format!("tensorboard  {}\n", self.directory.tensorboard_path().display());
        }
        if !verbosity::is_quiet() {
            let talks = model.network().predictor().is_some() && data.rendered();
            report += &next(self.recipe, self.directory, talks);
        }
        // The run is complete and on disk, so a closed stdout is not an error.
        let _ = std::io::stdout().write_all(report.as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

/// The step whose weights were written.
fn which(summary: &Summary) -> String {
    let step = summary.weights_of;
    let best = summary.evaluations.filter(|evaluations| evaluations.best.0 == step);
    let of = if summary.averaged { "the moving average at" } else { "of" };
    match (step == summary.steps, best) {
        (true, None) => format!("{of} step {step}, the last"),
        (true, Some(_)) => format!("{of} step {step}, the last and of the lowest evaluation loss"),
        (false, Some(evaluations)) => {
            format!("{of} step {step}, of the lowest evaluation loss ({:.4})", evaluations.best.1)
        }
        (false, None) => format!("{of} step {step}"),
    }
}

fn told(summary: &Summary, rows: RowKind, planned: u64) -> String {
    let mut text = String::new();
    let rate = summary.input_tokens as f64 / summary.elapsed.as_secs_f64().max(1e-9);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "time         {} for {} steps, {:.2} epochs",
        duration(summary.elapsed),
        summary.steps,
        summary.epochs
    );
    let (tokens, labelled) = (summary.input_tokens, summary.labelled_tokens);
    let _ = match rows {
        RowKind::Tokens => writeln!(text, "tokens       {tokens}, of which {labelled} labelled; {rate:.0} a second"),
        RowKind::Tensors => writeln!(text, "rows         {tokens}; {rate:.0} a second"),
    };
    if let Some(evaluations) = &summary.evaluations {
        let one = |(step, loss): (u64, f64)| format!("{loss:.4} (step {step})");
        let _ = writeln!(
            text,
            "evaluation   first {}, last {}, best {}",
            one(evaluations.first),
            one(evaluations.last),
            one(evaluations.best)
        );
    }
    if let Some(bytes) = peak_memory() {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let _ = writeln!(text, "memory       {:.2} GiB at most, planned {:.2}", gib(bytes), gib(planned));
    }
    text
}

/// Commands that go on from here.
fn next(recipe: &Recipe, directory: &RunDirectory, talks: bool) -> String {
    let (base, adapter, model) = (recipe.model.to_string(), directory.adapter_path(), directory.model_path());
    let adapted = recipe.method.adapter().is_some();
    let used = if adapted {
        format!("--model {} --adapter {}", quoted(&base), quoted(&adapter.display().to_string()))
    } else {
        format!("--model {}", quoted(&model.display().to_string()))
    };
    let mut commands = vec![];
    if talks {
        commands.push(format!("firebrand generate {used} --chat"));
    }
    // Only where the command reads the files as the recipe does.
    let plain = |source: &SourceConfig| !is_remote(&source.path) && *source == SourceConfig::new(&source.path);
    let as_usual = recipe.data.template == TemplateChoice::Model && recipe.data.train_on == TrainOn::Assistant;
    let files: Vec<String> = recipe.data.eval.iter().map(|source| quoted(&source.path)).collect();
    if !files.is_empty() && as_usual && recipe.data.eval.iter().all(plain) {
        commands.push(format!("firebrand eval {used} --data {}", files.join(" ")));
    }
    if adapted && !recipe.export.merge {
        let out = directory.path().join("merged");
        commands.push(format!("firebrand merge {used} --out {}", quoted(&out.display().to_string())));
    }
    if recipe.log.tensorboard {
        let runs = directory.path().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        commands.push(format!("tensorboard --logdir {}", quoted(&runs.display().to_string())));
    }
    let lines = commands
        .iter()
        .enumerate()
        .map(|(index, command)| format!("{:13}{command}\n", if index == 0 { "next" } else { "" }));
    lines.collect()
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+:@=,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::training::Evaluations;

    #[test]
    fn the_step_of_the_written_weights_is_named() {
        let summary = |weights_of, evaluations| Summary {
            steps: 9,
            epochs: 1.5,
            elapsed: Duration::from_secs(4),
            input_tokens: 80,
            labelled_tokens: 5,
            evaluations,
            weights_of,
            averaged: false,
        };
        let evaluations = Evaluations { first: (3, 2.0), last: (9, 1.5), best: (6, 1.0) };
        assert_eq!(which(&summary(9, None)), "of step 9, the last");
        assert_eq!(which(&summary(9, Some(evaluations))), "of step 9, the last");
        assert_eq!(which(&summary(6, Some(evaluations))), "of step 6, of the lowest evaluation loss (1.0000)");
        let text = told(&summary(6, Some(evaluations)), RowKind::Tokens, 1 << 29);
        assert!(
            text.starts_with(
                "time         4s for 9 steps, 1.50 epochs\ntokens       80, of which 5 labelled; 20 a second\n"
            ),
            "{text}"
        );
        assert!(text.contains("first 2.0000 (step 3), last 1.5000 (step 9), best 1.0000 (step 6)\n"), "{text}");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("runs/a-1/model"), "runs/a-1/model");
        assert_eq!(quoted("my runs/it's"), "'my runs/it'\\''s'");
    }
}
