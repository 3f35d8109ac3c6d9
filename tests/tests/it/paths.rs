//! Paths of parameters: those of a bare decoder stay, and all who name parameters name the same ones.

use std::collections::{BTreeMap, BTreeSet};

use firebrand_models::families::Family;
use firebrand_models::parameters::{Listing, Random, visit};
use firebrand_models::{Kind, Network};
use firebrand_tests::golden;

use burn::tensor::Device;

/// A path with `{}` for every number.
fn template(path: &str) -> String {
    let part = |part: &str| if part.parse::<usize>().is_ok() { "{}".to_string() } else { part.to_string() };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn every_case() -> Vec<String> {
    Family::ALL.iter().flat_map(|family| golden::models_of(*family)).collect()
}

/// Checkpoints, optimiser states and random streams are kept by these names, so none may change or go. The list is what version
/// 0.1.0 wrote into the optimiser states of full runs of all families.
#[test]
fn the_paths_of_a_bare_decoder_are_those_they_always_were() {
    let expected: BTreeSet<&str> = include_str!("paths/decoder.txt").lines().collect();
    let mut found = BTreeSet::new();
    for case in every_case() {
        let model = golden::load(&case);
        if model.kind() == Kind::Decoder {
            visit(model.network(), &mut |parameter| {
                found.insert(template(parameter.path));
            });
        }
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let gone: Vec<_> = expected.difference(&found).collect();
    let new: Vec<_> = found.difference(&expected).collect();
    assert!(gone.is_empty(), "no model has these any more: {gone:?}");
    assert!(new.is_empty(), "add these to paths/decoder.txt, if they are of a new part: {new:?}");
}

#[test]
fn what_is_asked_for_is_what_is_walked_and_only_linear_maps_are_called_so() {
    let cases = every_case();
    golden::each(&cases, |case| {
        let config = golden::load(case).network().config();
        let mut source = Random { seed: 1, deviation: 0.02, device: Device::flex() };
        let mut listing = Listing::of(&mut source);
        let network = Network::new(&config, &mut listing);
        let asked: BTreeMap<String, Vec<usize>> =
            listing.parameters.iter().map(|info| (info.path.clone(), info.shape.clone())).collect();
        assert_eq!(asked.len(), listing.parameters.len(), "{case}: a path is asked for twice");
        let mut walked = BTreeMap::new();
        visit(&network, &mut |parameter| {
            walked.insert(parameter.path.to_string(), parameter.shape.to_vec());
        });
        assert_eq!(asked, walked, "{case}");

        let maps: BTreeSet<String> = network.linears().iter().map(|(path, _)| format!("{path}.weight")).collect();
        for info in &listing.parameters {
            let is_map = maps.contains(&info.path);
            let called = info.role.is_map();
            assert_eq!(is_map, called, "{case}: {} is {:?}", info.path, info.role);
        }
        let model = golden::load(case);
        let listed: BTreeMap<String, Vec<usize>> =
            model.base_parameters().iter().map(|info| (info.path.clone(), info.shape.clone())).collect();
        assert_eq!(listed, asked, "{case}: what the model lists");
    });
}
