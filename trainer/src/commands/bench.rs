//! `firebrand bench`: trains a few steps of a recipe, writes nothing, and reports speed, memory and where the time goes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use firebrand_kernels::{count_launches, multiplications, peak_multiplications};
use indicatif::BinaryBytes;
use serde::Serialize;
use serde_json::json;

use crate::cli::BenchArgs;
use crate::device::{Hardware, decided, hardware, is_cpu};
use crate::error::Error;
use crate::host::{Host, peak_memory};
use crate::objective::{Objective, Recompute};
use crate::plan::{CacheNeed, Portions, Ready};
use crate::profile::{Profile, chrome_trace, record};
use crate::recipe::{self, Recipe};
use crate::run::write_atomically;
use crate::say;
use crate::training::{MeasuredStep, Trainer};
use crate::ui::bars;

/// Operations below this share of a step are shown together.
const SMALL: f64 = 0.005;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Report {
    device: String,
    /// Behind the device, where it is not the processor.
    hardware: Option<Hardware>,
    host: Host,
    dtype: recipe::ComputeDtype,
    steps: Vec<f64>,
    tokens_per_step: f64,
    tokens_per_second: f64,
    /// Seconds of each phase a step, the longest first.
    phases: Vec<Part>,
    /// Seconds of each operation a step, without those inside of it, and of each phase outside of operations.
    operations: Vec<Part>,
    /// The share of the steps' time that lies in phases.
    accounted: f64,
    products: Option<Products>,
    /// Kernels that the device was given; absent on the CPU.
    launches_per_step: Option<f64>,
    peak_memory: Option<u64>,
    planned_memory: u64,
    /// The most rows at once, and what was recomputed.
    micro_batch_size: usize,
    recompute: Recompute,
}

/// Time of a phase or an operation.
#[derive(Debug, Clone, Serialize)]
struct Part {
    name: String,
    seconds: f64,
    share: f64,
}

/// Matrix products of the fused operations; their multiplications each have an addition.
#[derive(Debug, Clone, Serialize)]
struct Products {
    multiplications_per_step: f64,
    /// The rate over the whole step.
    multiplications_per_second: f64,
    /// The rate at which the machine multiplies numbers in registers.
    peak_multiplications_per_second: f64,
    share_of_peak: f64,
}

pub fn run(arguments: &BenchArgs) -> Result<ExitCode, Error> {
    let mut loaded = Recipe::load(&arguments.recipe, &arguments.overrides)?;
    loaded.recipe.train.duration = recipe::Duration::Steps(arguments.steps as usize + 1);
    loaded.recipe.sample = None;
    let mut ready = Ready::new(loaded, CacheNeed::Required)?;
    let portions = ready.portions();
    let companion = ready.take_companion()?;
    let Ready { opened, data, model, .. } = ready;
    let recipe = opened.recipe();
    let objective = Objective::new(&recipe.objective_of(model.kind()), portions.recompute, companion)?;
    let trainer = Trainer::new(recipe, objective, recipe.model.to_string(), model, &data.train, None)
        .with_micro_batch(portions.micro_batch);

    let bar = bars::steps_bar(arguments.steps + 1);
    // The first step pays for page faults and what is set up once.
    let (trainer, first) = trainer.measure(1, || bar.inc(1))?;
    let before = multiplications();
    let ((measured, profile), launches) = count_launches(|| record(|| trainer.measure(arguments.steps, || bar.inc(1))));
    let (_, steps) = measured?;
    bar.finish_and_clear();
    if steps.is_empty() {
        let rows = first.len();
        return Err(Error::Request {
            problem: format!("the rows end after {rows} step, and the first is not measured"),
            help: "add rows, or lower train.batch_size".into(),
        });
    }
    let products = is_cpu(&recipe.device).then(|| multiplications() - before);
    if let Some(path) = &arguments.trace {
        write_trace(path, &profile)?;
    }
    let launches = (!is_cpu(&recipe.device)).then(|| launches as f64 / steps.len() as f64);
    let report = Report { launches_per_step: launches, ..Report::new(recipe, &steps, &profile, products, portions) };
    match arguments.json {
        true => say!("{}\n", json!(report))?,
        false => report.show()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_trace(path: &Path, profile: &Profile) -> Result<(), Error> {
    Ok(write_atomically(path, chrome_trace(profile).to_string().as_bytes())?)
}

impl Report {
    fn new(
        recipe: &Recipe,
        steps: &[MeasuredStep],
        profile: &Profile,
        products: Option<u64>,
        portions: Portions,
    ) -> Self {
        let count = steps.len() as f64;
        let total: f64 = steps.iter().map(|step| step.seconds).sum();
        let parts = |all: Vec<(&str, f64)>, of: &dyn Fn(&str) -> String| -> Vec<Part> {
            let part = |(name, seconds): (&str, f64)| Part {
                name: of(name),
                seconds: seconds / count,
                share: seconds / total,
            };
            all.into_iter().map(part).collect()
        };
        let phases = parts(profile.phases(), &str::to_owned);
        let mut operations = parts(profile.operations(), &str::to_owned);
        operations.extend(parts(profile.outside_operations(), &|phase| format!("{phase}, outside of operations")));
        operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let accounted = phases.iter().map(|phase| phase.share).sum();
        let tokens: u64 = steps.iter().map(|step| step.tokens).sum();
        let mut rates: Vec<f64> = steps.iter().map(|step| step.tokens as f64 / step.seconds).collect();
        rates.sort_by(f64::total_cmp);
        Self {
            device: decided(&recipe.device).to_string(),
            hardware: hardware(&recipe.device),
            host: Host::here(),
            dtype: recipe.dtype,
            steps: steps.iter().map(|step| step.seconds).collect(),
            tokens_per_step: tokens as f64 / count,
            tokens_per_second: rates[rates.len() / 2],
            phases,
            operations,
            accounted,
            products: products.map(|all| {
                let (a_step, a_second) = (all as f64 / count, all as f64 / total);
                let peak = peak_multiplications(recipe.dtype.precision());
                Products {
                    multiplications_per_step: a_step,
                    multiplications_per_second: a_second,
                    peak_multiplications_per_second: peak,
                    share_of_peak: a_second / peak,
                }
            }),
            launches_per_step: None,
            peak_memory: peak_memory(),
            planned_memory: portions.needed(),
            micro_batch_size: portions.micro_batch,
            recompute: portions.recompute,
        }
    }

    fn show(&self) -> Result<(), Error> {
        let shortest = self.steps.iter().fold(f64::INFINITY, |least, step| least.min(*step));
        let longest = self.steps.iter().fold(0.0, |most: f64, step| most.max(*step));
        let seconds = |seconds: f64| format!("{:.3} s", Duration::from_secs_f64(seconds).as_secs_f64());
        match &self.hardware {
            Some(hardware) => say!("machine  {} ({hardware}), {}\n", self.device, self.host)?,
            None => say!("machine  {}, {}\n", self.device, self.host)?,
        }
        say!(
            "speed    {:.1} tokens/s: {:.0} tokens a step, {} steps of {} to {}\n",
            self.tokens_per_second,
            self.tokens_per_step,
            self.steps.len(),
            seconds(shortest),
            seconds(longest)
        )?;
        let line =
            |part: &Part| format!("{:>5.1} %  {:>9}  {}\n", part.share * 100.0, seconds(part.seconds), part.name);
        say!("phases   of a step; {:.1} % of it are in these\n", self.accounted * 100.0)?;
        for phase in &self.phases {
            say!("  {}", line(phase))?;
        }
        say!("operations\n")?;
        let (shown, small): (Vec<_>, Vec<_>) = self.operations.iter().partition(|part| part.share >= SMALL);
        for part in shown {
            say!("  {}", line(part))?;
        }
        if !small.is_empty() {
            let sum = |of: fn(&Part) -> f64| small.iter().map(|part| of(part)).sum::<f64>();
            let rest = Part {
                name: format!("{} smaller ones", small.len()),
                seconds: sum(|part| part.seconds),
                share: sum(|part| part.share),
            };
            say!("  {}", line(&rest))?;
        }
        if let Some(products) = &self.products {
            say!(
                "products {:.1} GFLOP a step: {:.0} GFLOP/s over the step, {:.0} % of the {:.0} that registers give\n",
                products.multiplications_per_step * 2e-9,
                products.multiplications_per_second * 2e-9,
                products.share_of_peak * 100.0,
                products.peak_multiplications_per_second * 2e-9
            )?;
        }
        if let Some(launches) = self.launches_per_step {
            say!("launches {launches:.0} kernels a step\n")?;
        }
        if let Some(peak) = self.peak_memory {
            let again = match self.recompute {
                Recompute::Off => "",
                Recompute::Blocks => ", blocks recomputed",
            };
            say!(
                "memory   {} at most, planned {}; micro-batches of at most {}{again}\n",
                BinaryBytes(peak),
                BinaryBytes(self.planned_memory),
                self.micro_batch_size
            )?;
        }
        Ok(())
    }
}
