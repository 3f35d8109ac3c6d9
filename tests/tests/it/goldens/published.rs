//! Real models by their `config.json` alone: sizes, names, and that a family knows every key of them.

use firebrand_models::Network;
use firebrand_models::families::Family;
use firebrand_models::hf_config::HfConfig;
use firebrand_models::network::NetworkConfig;
use firebrand_models::parameters::{Listing, ParameterInfo, Shapes};
use firebrand_tests::golden;
use serde_json::Value;

fn network(name: &str, entry: &Value) -> (Family, NetworkConfig, Vec<ParameterInfo>) {
    let config = HfConfig::from_map(format!("{name}/config.json"), entry["config"].as_object().unwrap().clone());
    let family = Family::of(&config).unwrap();
    let network = family.config(&config).unwrap();
    let mut shapes = Shapes;
    let mut listing = Listing::of(&mut shapes);
    Network::new(&network, &mut listing);
    (family, network, listing.parameters)
}

fn entries() -> Vec<(String, Value)> {
    let all = golden::json("published.json");
    all.as_object().unwrap().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
}

#[test]
fn published_models_have_their_published_sizes() {
    let entries = entries();
    let names: Vec<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    golden::each(&names, |name| {
        let entry = &entries.iter().find(|(other, _)| other == name).unwrap().1;
        let (_, _, parameters) = network(name, entry);
        let found: u64 = parameters.iter().map(|info| info.elements() as u64).sum();
        assert_eq!(found, entry["parameters"].as_u64().unwrap(), "{name}");
    });
}

#[test]
fn every_family_is_among_the_published_models() {
    let entries = entries();
    for family in Family::ALL {
        let found = entries.iter().any(|(name, entry)| network(name, entry).0 == *family);
        assert!(found, "{} is not", family.name());
    }
}

#[test]
fn every_parameter_of_a_published_model_has_a_name_of_its_own() {
    for (name, entry) in entries() {
        let (family, network, ours) = network(&name, &entry);
        let rules = family.rules(&network).unwrap();
        let mut theirs: Vec<String> = ours.iter().filter_map(|info| rules.to_theirs(&info.path)).collect();
        theirs.sort();
        theirs.dedup();
        assert_eq!(theirs.len(), ours.len(), "{name}");
    }
}
