//! `firebrand adapter`: merges, inspects and extracts adapters.

use std::path::Path;
use std::process::ExitCode;

use firebrand_adapters::{Combination, ModulePattern, Targets};
use firebrand_hub::{HubOptions, locate};
use firebrand_models::adapter_extract::{self, Extracted, Extraction};
use firebrand_models::adapter_merge::{self, Weighted};

use crate::cli::{AdapterCommand, AdapterExtractArgs, AdapterInspectArgs, AdapterMergeArgs, AdapterMethod};
use crate::error::Error;
use crate::export::write_folder;
use crate::inspect::inspect_adapter;
use crate::say;
use crate::ui::bars::tensors_bar;

pub fn run(command: &AdapterCommand) -> Result<ExitCode, Error> {
    match command {
        AdapterCommand::Merge(arguments) => merge(arguments),
        AdapterCommand::Inspect(arguments) => inspect(arguments),
        AdapterCommand::Extract(arguments) => extract(arguments),
    }
}

fn inspect(arguments: &AdapterInspectArgs) -> Result<ExitCode, Error> {
    let report = inspect_adapter(&arguments.path)?;
    if arguments.json {
        say!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())?;
    } else {
        say!("{report}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn merge(arguments: &AdapterMergeArgs) -> Result<ExitCode, Error> {
    let refuse = |problem: String, help: &str| Err(Error::Request { problem, help: help.into() });
    let (adapters, weights) = (&arguments.adapters, &arguments.weights);
    if !weights.is_empty() && weights.len() != adapters.len() {
        let problem = format!("{} weights for {} adapters", weights.len(), adapters.len());
        return refuse(problem, "give one number for each adapter, in their order, after --weights");
    }
    if !(arguments.density > 0.0 && arguments.density <= 1.0) {
        return refuse(format!("a density of {}", arguments.density), "give a share above 0 and at most 1");
    }
    check_new(&arguments.out)?;
    let (density, seed) = (arguments.density, arguments.seed);
    let method = match arguments.method {
        AdapterMethod::Linear => Combination::Linear,
        AdapterMethod::Cat => Combination::Cat,
        AdapterMethod::Svd => Combination::Svd { rank: arguments.rank.map(usize::from) },
        AdapterMethod::Ties => Combination::Ties { density },
        AdapterMethod::DareLinear => Combination::DareLinear { density, seed },
        AdapterMethod::DareTies => Combination::DareTies { density, seed },
    };
    let weight = |index: usize| weights.get(index).copied().unwrap_or(1.0);
    let parts: Vec<Weighted<'_>> =
        adapters.iter().enumerate().map(|(index, folder)| Weighted { folder, weight: weight(index) }).collect();
    let mut rank = 0;
    write_folder(&arguments.out, |folder| {
        rank = adapter_merge::merge(&parts, method, folder)?;
        Ok(())
    })?;
    say!("adapter  {}, rank {rank}\n", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn extract(arguments: &AdapterExtractArgs) -> Result<ExitCode, Error> {
    check_new(&arguments.out)?;
    let options = HubOptions::from_env()?;
    let (base, tuned) = (locate(&arguments.base, &options)?, locate(&arguments.tuned, &options)?);
    let targets = match arguments.targets.as_slice() {
        [all] if all == "all-linear" => Targets::AllLinear,
        names => Targets::Pattern(ModulePattern::Suffixes(names.to_vec())),
    };
    let request = Extraction {
        base: &base,
        tuned: &tuned,
        base_model: &arguments.base,
        rank: arguments.rank.into(),
        targets: &targets,
        seed: arguments.seed,
    };
    let bar = tensors_bar();
    let progress = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let mut found = None;
    write_folder(&arguments.out, |folder| {
        found = Some(adapter_extract::extract(&request, folder, &progress)?);
        Ok(())
    })?;
    bar.finish_and_clear();
    let Some(found) = found else { return Ok(ExitCode::FAILURE) };
    if arguments.json {
        say!("{}\n", serde_json::to_string_pretty(&found).unwrap_or_default())?;
    } else {
        tell(&found, &arguments.out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the result in a few lines, with the name of every tensor that the adapter cannot hold.
fn tell(found: &Extracted, out: &Path) -> Result<(), Error> {
    let percent = |share: f64| share * 100.0;
    let (count, rank) = (found.modules.len(), found.rank);
    say!("adapter  {}, rank {rank}, on {count} linear layers that differ\n", out.display())?;
    let (error, kept) = (found.relative_error, percent(found.energy_kept));
    say!("error    {error:.2e} of the difference is left out; {kept:.3} % of its energy is kept\n")?;
    if let Some(worst) = found.modules.iter().max_by(|left, right| left.relative_error.total_cmp(&right.relative_error))
    {
        say!("worst    {}: {:.2e}, {:.3} %\n", worst.module, worst.relative_error, percent(worst.energy_kept))?;
    }
    if !found.left_out.is_empty() {
        say!(
            "warning: these differ too, and the adapter has no place for them (difference, by the size of the base's):\n"
        )?;
    }
    for tensor in &found.left_out {
        let relative = tensor.relative_difference.map_or("new".into(), |share| format!("{share:.2e}"));
        say!("  {}  {:.3e}  {relative}\n", tensor.tensor, tensor.difference)?;
    }
    if !found.config.is_empty() {
        say!("warning: config.json makes the tuned model compute something else: {}\n", found.config.join(", "))?;
    }
    Ok(())
}

fn check_new(out: &Path) -> Result<(), Error> {
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        let problem = format!("{} is not empty", out.display());
        return Err(Error::Request { problem, help: "name a new folder with --out".into() });
    }
    Ok(())
}
