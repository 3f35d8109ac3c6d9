//! What the cache is good for: nothing twice, no network, and never a half or damaged copy.

use std::fs;
use std::net::TcpListener;

use firebrand_hub::{HubError, HubOptions, locate};
use firebrand_tests::hub_server::{Fault, sha256};

use super::{MODEL, World, assert_mentions, bytes, contents, files, message};

/// An address where nobody listens.
fn dead_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_second_run_only_asks_what_the_branch_is() {
    let world = World::new();
    let first = world.locate().unwrap();
    world.server.take_requests();
    assert_eq!(world.locate().unwrap(), first);
    let targets: Vec<_> = world.server.take_requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/api/models/acme/tiny/revision/main"]);
}

#[test]
fn a_cached_commit_needs_no_request() {
    let world = World::new();
    let first = world.locate().unwrap();
    world.server.take_requests();
    assert_eq!(locate(&format!("{MODEL}@{}", world.commit), &world.options).unwrap(), first);
    assert!(world.server.take_requests().is_empty());
}

#[test]
fn offline_makes_no_request_and_says_what_is_not_there() {
    let world = World::new();
    assert_mentions!(message(world.offline()), MODEL, "HF_HUB_OFFLINE");
    let first = world.locate().unwrap();
    world.server.take_requests();
    assert_eq!(world.offline().unwrap(), first);
    assert!(world.server.take_requests().is_empty());
}

#[test]
fn without_a_network_the_message_says_so_or_the_cache_serves() {
    let mut world = World::new();
    let live = std::mem::replace(&mut world.options.endpoint, dead_endpoint());
    assert_mentions!(message(world.locate()), "cannot reach", &world.options.endpoint, "HF_ENDPOINT");
    world.options.endpoint = live;
    let first = world.locate().unwrap();
    world.options.endpoint = dead_endpoint();
    assert_eq!(world.locate().unwrap(), first);
    fs::remove_file(world.blob(&sha256(&world.weights))).unwrap();
    assert_mentions!(message(world.locate()), "cannot reach", &world.options.endpoint);
}

#[test]
fn a_hub_in_trouble_is_asked_again_then_the_cache_serves() {
    let mut world = World::new();
    world.server.fail("revision", Fault::Status(503), 1);
    assert_mentions!(message(world.locate()), "503", "later");
    world.options.retries = 2;
    world.server.fail("revision", Fault::Status(503), 2);
    world.server.fail("model.safetensors", Fault::Status(500), 2);
    let first = world.locate().unwrap();
    world.server.fail("revision", Fault::Status(503), 100);
    assert_eq!(world.locate().unwrap(), first);
}

#[test]
fn a_half_copy_is_refused_offline_and_completed_online() {
    let world = World::new();
    world.locate().unwrap();
    fs::remove_file(world.blob(&sha256(&world.weights))).unwrap();
    assert_mentions!(message(world.offline()), "model.safetensors is missing", "HF_HUB_OFFLINE");
    world.server.take_requests();
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
    assert!(world.offline().is_ok());
}

#[test]
fn a_damaged_copy_is_refused_offline_and_replaced_online() {
    let shorter = |weights: &[u8]| weights[..weights.len() - 1].to_vec();
    let flipped = |weights: &[u8]| {
        let mut weights = weights.to_vec();
        weights[7] ^= 1;
        weights
    };
    for damage in [&shorter as &dyn Fn(&[u8]) -> Vec<u8>, &flipped] {
        let world = World::new();
        world.locate().unwrap();
        assert!(world.offline().is_ok());
        let blob = world.blob(&sha256(&world.weights));
        fs::write(&blob, damage(&world.weights)).unwrap();
        assert_mentions!(message(world.offline()), "model.safetensors is damaged");
        assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
        assert!(world.offline().is_ok());
    }
}

#[test]
fn a_moved_branch_fetches_what_changed_and_keeps_the_old_copy() {
    let world = World::new();
    let old = world.locate().unwrap();
    world.server.take_requests();
    let weights = bytes(9, 200_000);
    world.server.publish(MODEL, &["main"], &files(&weights));
    world.server.fail("model.safetensors", Fault::CutAfter(10), 1);
    message(world.locate());
    assert_eq!(world.offline().unwrap(), old, "until the new copy is whole the old one is the branch");
    let new = world.locate().unwrap();
    assert_ne!(new, old);
    assert_eq!(contents(&new)["model.safetensors"], weights);
    assert_eq!(contents(&old)["model.safetensors"], world.weights);
    assert_eq!(world.offline().unwrap(), new);
    assert!(world.requests_for("tokenizer.json").is_empty(), "an unchanged file was fetched again");
}

#[test]
fn what_an_older_program_cached_serves_if_it_makes_a_model() {
    let world = World::new();
    let first = world.locate().unwrap();
    fs::remove_dir_all(world.root().join("trees")).unwrap();
    fs::remove_dir_all(world.root().join("checked")).unwrap();
    assert_eq!(world.offline().unwrap(), first);
    let blob = world.blob(&sha256(&world.weights));
    fs::write(&blob, bytes(3, 300_000)).unwrap();
    assert_mentions!(message(world.offline()), "model.safetensors is damaged");
    fs::remove_file(first.join("model.safetensors")).unwrap();
    assert_mentions!(message(world.offline()), ".safetensors file or pytorch_model.bin is missing");
    fs::remove_file(first.join("config.json")).unwrap();
    assert_mentions!(message(world.offline()), "config.json is missing");
}

#[test]
fn a_spoilt_listing_is_asked_for_again() {
    let world = World::new();
    let first = world.locate().unwrap();
    let tree = world.root().join("trees").join(format!("{}.json", world.commit));
    for text in ["", "{", r#"{"format_version": 99, "files": {}}"#] {
        fs::write(&tree, text).unwrap();
        assert_eq!(world.locate().unwrap(), first);
        assert!(fs::read_to_string(&tree).unwrap().contains("model.safetensors"));
    }
}

#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_its_path() {
    let world = World::new();
    let file = world.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let options = HubOptions { cache: file.join("hub"), ..world.options.clone() };
    let error = locate(MODEL, &options).unwrap_err();
    assert!(matches!(error, HubError::Io { .. }), "{error}");
    assert_mentions!(error.to_string(), file.to_str().unwrap());
}
