//! LoRA adapters on the experts of a mixture: [`check`] refuses the sets of adapters that PEFT would misread.
//!
//! Adapter files hold a pair of factors for each expert's matrix, as PEFT wrote them before transformers stacked
//! experts. PEFT 0.21 stacks the factors when it reads them. It does so correctly only for whole sets: gate, up and
//! down together or down alone, of every expert of a layer, at one rank and one alpha, without rank stabilisation. Of
//! other sets it silently reads nothing, or scales them wrongly; so they are refused before they are trained.

use std::collections::BTreeMap;

use firebrand_adapters::{AdapterConfig, AdapterError};

use crate::error::ModelError;
use crate::model::Model;

/// Error: `selected` (paths in files) holds experts in a combination that PEFT would not read correctly.
pub(crate) fn check(model: &Model, config: &AdapterConfig, selected: &[String]) -> Result<(), ModelError> {
    let refuse = |problem: String| Err(ModelError::from(AdapterError::Unreadable { problem }));
    let mut layers: BTreeMap<String, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    let maps = model.expert_maps()?;
    for map in &maps {
        let parts = layers.entry(map.layer.clone()).or_default().entry(map.expert.clone()).or_default();
        if selected.contains(&map.path) {
            parts.push(&map.part);
        }
    }
    let touched: Vec<&String> = maps.iter().map(|map| &map.path).filter(|path| selected.contains(path)).collect();
    let Some(first) = touched.first() else { return Ok(()) };
    let AdapterConfig::Lora(lora) = config else {
        return refuse(format!("another method than LoRA on experts (`{first}`)"));
    };
    if lora.rslora {
        return refuse(format!("rslora with adapters on experts (`{first}`): it applies another scale to them"));
    }
    for path in &touched {
        if lora.rank_at(path)? != lora.rank || lora.scale_at(path)? != lora.alpha / lora.rank as f64 {
            return refuse(format!("a rank or alpha of its own for `{path}`: it takes one of each for all experts"));
        }
    }
    for (layer, experts) in &layers {
        for parts in experts.values() {
            let same = experts.values().all(|others| others == parts);
            let whole = matches!(parts.as_slice(), [] | ["down"] | ["gate", "up", "down"]);
            if !same || !whole {
                return refuse(format!(
                    "adapters on some matrices of the experts of `{layer}`: choose all three of every expert, or the last alone"
                ));
            }
        }
    }
    Ok(())
}
