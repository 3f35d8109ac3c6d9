//! `firebrand adapter`.

use std::process::ExitCode;

use firebrand_adapters::Combination;
use firebrand_models::adapter_merge::{self, Weighted};

use crate::cli::{AdapterCommand, AdapterMergeArgs, AdapterMethod};
use crate::error::Error;
use crate::export::write_folder;
use crate::say;

pub fn run(command: &AdapterCommand) -> Result<ExitCode, Error> {
    match command {
        AdapterCommand::Merge(arguments) => merge(arguments),
    }
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
    if std::fs::read_dir(&arguments.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return refuse(format!("{} is not empty", arguments.out.display()), "name a new folder with --out");
    }
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
