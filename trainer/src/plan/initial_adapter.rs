//! Checks that the adapter a run starts from is the one its recipe describes.

use std::path::Path;

use firebrand_adapters::AdapterConfig;
use firebrand_models::{Model, adapter_folder};

use crate::error::Error;
use crate::export::{companions, fingerprint};
use crate::recipe::{Init, Loaded};

/// Compares the settings of an initial adapter with the recipe, because its tensors alone do not say its scale.
///
/// # Errors
/// The first difference, shown in the recipe.
pub(super) fn check_initial_adapter(
    loaded: &Loaded,
    wanted: &AdapterConfig,
    folder: &Path,
    model: &Model,
    base: &Path,
) -> Result<(), Error> {
    check_base(loaded, folder, model, base)?;
    if loaded.recipe.quantization.is_some() && companions::training_init(folder)?.is_some() {
        let message = format!("the adapter in {} started by loftq and is for the original weights", folder.display());
        let help = "remove [quantization], or leave init_from out";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    let read = adapter_folder::read_config(folder)?;
    let problem = match (&read.restart, read.rows.is_empty()) {
        (Some(_), _) => Some("began at a part of the base's weights and is not converted (init_lora_weights)"),
        (None, false) => Some("holds rows of the token table (trainable_token_indices)"),
        (None, true) => None,
    };
    if let Some(problem) = problem {
        let message = format!("the adapter in {} {problem}, which training does not go on with", folder.display());
        let help = "merge it into its base with `firebrand merge`, and start a new adapter on the merged model";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    let (given, wanted) = match (&read.method, wanted) {
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

/// Checks that the adapter in `folder` was trained on the model in `base`, quantized alike.
fn check_base(loaded: &Loaded, folder: &Path, model: &Model, base: &Path) -> Result<(), Error> {
    let trained = companions::training_quantization(folder)?;
    let held = loaded.recipe.quantization.or(model.stored_scheme().map(|(scheme, _)| scheme.into()));
    // An adapter that started by LoftQ is written for the original weights.
    let for_original = companions::training_init(folder)?.is_some();
    if let Some(trained) = trained.filter(|_| !for_original)
        && held.is_none_or(|held| held.scheme() != trained.scheme())
    {
        let here = held.map_or("not quantized here".into(), |held| format!("{} here", held.scheme()));
        let message = format!(
            "the adapter in {} was trained on a base in {}, which is {here}",
            folder.display(),
            trained.scheme()
        );
        let help =
            "quantize it alike in [quantization], or merge the adapter into the base and start on the merged model";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    if let (Some(trained), Init::Pretrained) = (companions::training_base(folder)?, loaded.recipe.init)
        && trained != fingerprint(base)?
    {
        let message = format!(
            "the adapter in {} was trained on another base: the weights in {} are not those",
            folder.display(),
            base.display()
        );
        let help = "name the model that it was trained on; if this one is meant, remove firebrand_base.json from the adapter's folder";
        return Err(loaded.complain("adapter.init_from", message, help).into());
    }
    Ok(())
}
