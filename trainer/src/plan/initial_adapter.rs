//! Checks that the adapter a run starts from is the one its recipe describes.

use std::path::Path;

use firebrand_adapters::AdapterConfig;
use firebrand_models::adapter_folder;

use crate::error::Error;
use crate::export::companions;
use crate::recipe::Loaded;

/// Compares the settings of an initial adapter with the recipe, because its tensors alone do not say its scale.
///
/// # Errors
/// The first difference, shown in the recipe.
pub(super) fn check_initial_adapter(loaded: &Loaded, wanted: &AdapterConfig, folder: &Path) -> Result<(), Error> {
    if loaded.recipe.quantization.is_some() && companions::training_init(folder)?.is_some() {
        let message = format!("the adapter in {} started by loftq and is for the original weights", folder.display());
        let help = "remove [quantization], or leave init_from out";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    let (given, wanted) = match (&adapter_folder::read_config(folder)?.method, wanted) {
        (AdapterConfig::Lora(given), AdapterConfig::Lora(wanted))
        | (AdapterConfig::Dora(given), AdapterConfig::Dora(wanted)) => (given.clone(), wanted),
        // The tensors of IA3 say everything.
        (AdapterConfig::Ia3(_), AdapterConfig::Ia3(_)) => return Ok(()),
        (given, _) => {
            let message = format!("the adapter in {} is of another kind than the recipe's", folder.display());
            let help = format!("write kind = \"{}\", or leave init_from out", given.kind());
            return Err(loaded.complain("adapter.kind", message, &help).into());
        }
    };
    let differences = [
        ("adapter.alpha", "alpha", given.alpha != wanted.alpha || given.alpha_pattern != wanted.alpha_pattern),
        ("adapter.rank", "rank", given.rank != wanted.rank || given.rank_pattern != wanted.rank_pattern),
        ("adapter.rslora", "rslora", given.rslora != wanted.rslora),
    ];
    match differences.into_iter().find(|(.., differs)| *differs) {
        None => Ok(()),
        Some((key, name, _)) => {
            let message = format!("the adapter in {} has another {name} than the recipe", folder.display());
            let help = format!(
                "it has rank {}, alpha {}, rslora {}; say the same here, or leave init_from out",
                given.rank, given.alpha, given.rslora
            );
            Err(loaded.complain(key, message, &help).into())
        }
    }
}
