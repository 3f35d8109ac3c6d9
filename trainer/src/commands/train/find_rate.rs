//! `firebrand train --find-lr`: the learning-rate range test of a recipe, as a table and a picture.
//!
//! The run directory is neither made nor read. The picture is written beside it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use plotters::prelude::*;

use crate::cli::TrainArgs;
use crate::error::Error;
use crate::objective::Objective;
use crate::plan::{CacheNeed, Ready};
use crate::recipe::{Curve, Duration, Loaded, Schedule, Warmup};
use crate::run::write_atomically;
use crate::training::{RateAdvice, RateSweep, RateTest, Trainer};
use crate::ui::verbosity;

/// Fewer steps say nothing of rates.
const FEWEST: u64 = 20;
/// Lines of the table.
const LINES: usize = 25;
/// Width and height of the picture.
const SIZE: (u32, u32) = (900, 520);

pub(super) fn run(arguments: &TrainArgs, mut loaded: Loaded) -> Result<ExitCode, Error> {
    let sweep = sweep(arguments, &loaded)?;
    let recipe = &mut loaded.recipe;
    recipe.train.duration = Duration::Steps(sweep.steps as usize);
    recipe.train.ema = None;
    recipe.log.noise_scale = false;
    recipe.sample = None;
    // The rates of the test take its place.
    recipe.schedule = Schedule { curve: Curve::Constant, warmup: Warmup::Steps(0) };
    let mut ready = Ready::new(loaded, CacheNeed::Required)?;
    if !ready.data.report.warnings.is_empty() {
        eprintln!("{}", ready.data.report);
    }
    let steps = ready.total_steps();
    if steps < FEWEST {
        return Err(Error::Request {
            problem: format!(
                "looking for a learning rate takes at least {FEWEST} steps, and the rows end after {steps}"
            ),
            help: "raise `epochs` of the sources in [[data.train]], or lower train.batch_size".into(),
        });
    }
    let portions = ready.portions();
    if let Some(remark) = portions.remark(ready.recipe()) {
        verbosity::tell(&format!("note     {remark}"));
    }
    let companion = ready.take_companion()?;
    let Ready { opened, data, model, .. } = ready;
    let recipe = opened.recipe();
    let packs = data.train.packs(recipe.seed, 0);
    if let Some(note) = repeats(packs, recipe.train.batch_size, steps) {
        verbosity::tell(&format!("note     {note}"));
    }
    let objective = Objective::new(&recipe.objective_of(model.kind()), portions.recompute, companion)?;
    let trainer = Trainer::new(recipe, objective, recipe.model.to_string(), model, &data.train, None)
        .with_micro_batch(portions.micro_batch);
    let mut done = 0;
    let test = trainer.test_rates(RateSweep { steps, ..sweep }, |trial| {
        done += 1;
        verbosity::tell(&format!("step {done:>4}/{steps}  rate {:.3e}  loss {:.4}", trial.rate, trial.loss));
    })?;
    let picture = picture_path(&recipe.output);
    let advice = test.advice();
    let drawn = draw(&test, advice).map_err(|error| Error::Request {
        problem: format!("the curve cannot be drawn: {error}"),
        help: "the table has its numbers".into(),
    });
    let mut report = table(&test);
    report += &told(&test, advice, recipe.optimizer.learning_rate(0));
    match drawn {
        Ok(svg) => {
            write_atomically(&picture, svg.as_bytes())?;
            let _ = writeln!(report, "curve        {}", picture.display());
        }
        Err(error) => {
            let _ = std::io::stdout().write_all(report.as_bytes());
            return Err(error);
        }
    }
    let _ = std::io::stdout().write_all(report.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn sweep(arguments: &TrainArgs, loaded: &Loaded) -> Result<RateSweep, Error> {
    let base = loaded.recipe.optimizer.learning_rate(0);
    if !loaded.recipe.optimizer.has_fixed_rate() {
        let help = "write a number for the time of the search: --set optimizer.learning_rate=1e-3";
        let problem = "a relative rate is made from the step, and leaves nothing to look for";
        return Err(loaded.complain("optimizer.learning_rate", problem, help).into());
    }
    let (first, last) = (arguments.lr_from.unwrap_or(base / 100.0), arguments.lr_to.unwrap_or(base * 100.0));
    if !(first > 0.0 && first < last && last.is_finite()) {
        return Err(Error::Request {
            problem: format!("the rate cannot grow from {first} to {last}"),
            help: "give --lr-from a number above 0 and --lr-to a larger one".into(),
        });
    }
    Ok(RateSweep { first, last, steps: arguments.lr_steps })
}

/// What to say where the steps visit rows more than once: then losses fall by memory too.
fn repeats(packs: usize, batch_size: usize, steps: u64) -> Option<String> {
    let visits = steps as f64 * batch_size as f64 / packs.max(1) as f64;
    let once = (packs / batch_size) as u64;
    let instead = match once >= FEWEST {
        true => format!("--lr-steps {once} visits each once"),
        false => format!(
            "for {FEWEST} steps without it, train.batch_size may be {} or the rows {} times as many",
            (packs as u64 / FEWEST).max(1),
            (FEWEST * batch_size as u64).div_ceil(packs.max(1) as u64)
        ),
    };
    (visits > 1.0).then(|| {
        format!("{steps} steps visit each row {visits:.1} times, and the loss of a row seen before is lower at any rate; {instead}")
    })
}

/// Beside the run directory, by its name.
fn picture_path(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".find-lr.svg");
    output.with_file_name(name)
}

fn table(test: &RateTest) -> String {
    let every = test.trials.len().div_ceil(LINES).max(1);
    let mut text = format!("{:>6}  {:>10}  {:>10}  {:>10}\n", "step", "rate", "loss", "smoothed");
    for (index, trial) in test.trials.iter().enumerate() {
        if index % every == 0 || index + 1 == test.trials.len() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:>6}  {:>10.3e}  {:>10.4}  {:>10.4}",
                index + 1,
                trial.rate,
                trial.loss,
                trial.smoothed
            );
        }
    }
    text
}

fn told(test: &RateTest, advice: Option<RateAdvice>, base: f64) -> String {
    let end = match (test.diverged, test.trials.last()) {
        (true, Some(last)) => format!("ended        at {:.1e}: the loss grew beyond bounds\n", last.rate),
        (true, None) => "ended        at the first step: its loss or gradient is not finite\n".into(),
        (false, _) => String::new(),
    };
    let advice = match advice {
        Some(RateAdvice { steepest, lowest }) => format!(
            "steepest     {steepest:.1e}\nlowest       {lowest:.1e}\nsuggested    learning_rate = {steepest:.1e} (the recipe has {base:.1e})\n"
        ),
        None => {
            "suggested    nothing: the loss never fell; try lower rates with --lr-from, or more steps with --lr-steps\n"
                .into()
        }
    };
    end + &advice
}

/// The losses over the logarithm of the rate, as SVG.
fn draw(test: &RateTest, advice: Option<RateAdvice>) -> Result<String, Box<dyn std::error::Error>> {
    let points = |value: fn(&crate::training::RateTrial) -> f64| {
        test.trials.iter().map(move |trial| (trial.rate, value(trial))).filter(|(_, value)| value.is_finite())
    };
    let (first, last) = match (test.trials.first(), test.trials.last()) {
        (Some(first), Some(last)) if last.rate > first.rate => (first.rate, last.rate),
        _ => return Err("there are fewer than two steps".into()),
    };
    let smoothed: Vec<f64> = points(|trial| trial.smoothed).map(|(_, value)| value).collect();
    let (least, most) = smoothed.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    let room = (most - least).max(1e-6) * 0.1;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("loss by learning rate", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((first..last).log_scale(), (least - room)..(most + room))?;
        chart
            .configure_mesh()
            .x_desc("learning rate")
            .y_desc("loss")
            .x_label_formatter(&|rate| format!("{rate:.0e}"))
            .draw()?;
        chart.draw_series(LineSeries::new(points(|trial| trial.loss), RGBColor(200, 200, 200)))?;
        chart.draw_series(LineSeries::new(points(|trial| trial.smoothed), BLUE.stroke_width(2)))?;
        if let Some(RateAdvice { steepest, .. }) = advice {
            let line = [(steepest, least - room), (steepest, most + room)];
            chart.draw_series(LineSeries::new(line, RED.stroke_width(1)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_visited_again_are_told() {
        assert_eq!(repeats(1600, 16, 100), None);
        assert!(repeats(480, 16, 100).unwrap().ends_with("--lr-steps 30 visits each once"));
        let few = repeats(40, 16, 100).unwrap();
        assert!(few.contains("40.0 times") && few.contains("batch_size may be 2 or the rows 8 times as many"), "{few}");
    }

    #[test]
    fn the_picture_stands_beside_the_run() {
        assert_eq!(picture_path(Path::new("runs/bot")), Path::new("runs/bot.find-lr.svg"));
        assert_eq!(picture_path(Path::new("bot")), Path::new("bot.find-lr.svg"));
    }
}
