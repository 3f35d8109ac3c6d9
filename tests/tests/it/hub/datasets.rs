//! Datasets of a hub: the files of a split, and nothing else, with a network and without.

use std::path::PathBuf;

use firebrand_datasets::Split;
use firebrand_datasets::source::Repository;
use firebrand_hub::{HubError, HubOptions, data_files};

use super::World;

const TRAIN: &[u8] = b"{\"text\": \"one\"}\n";

fn world() -> World {
    let world = World::new();
    world.server.publish(
        "datasets/acme/rows",
        &["main"],
        &[
            ("README.md", b"# Rows"),
            ("data/train-00000-of-00002.jsonl", TRAIN),
            ("data/train-00001-of-00002.jsonl", b"{\"text\": \"two\"}\n"),
            ("data/test.jsonl", b"{\"text\": \"three\"}\n"),
            ("extra/rows.parquet", b"PAR1"),
        ],
    );
    world.server.take_requests();
    world
}

fn files(path: Option<&str>, split: Split, options: &HubOptions) -> Result<Vec<PathBuf>, HubError> {
    let repository = Repository { name: "acme/rows".into(), revision: None, path: path.map(str::to_string) };
    data_files(&repository, &|names| repository.choose(names, split), options)
}

#[test]
fn the_files_of_a_split_are_fetched_into_the_shared_cache() {
    let world = world();
    let found = files(Some("data"), Split::Train, &world.options).unwrap();
    let root = world.folder.path().join("hub/datasets--acme--rows/snapshots");
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with(&root) && found[0].ends_with("data/train-00000-of-00002.jsonl"), "{found:?}");
    // A link that leads out of the folder `data` to the blob.
    assert_eq!(std::fs::read(&found[0]).unwrap(), TRAIN);
    let asked: Vec<_> = world.server.take_requests().into_iter().map(|request| request.target).collect();
    assert!(asked.iter().all(|target| !target.ends_with("test.jsonl") && !target.ends_with("README.md")), "{asked:?}");
    assert!(asked.iter().any(|target| target.starts_with("/api/datasets/acme/rows/tree/")), "{asked:?}");
    // What is whole is not fetched again, and needs no network.
    assert_eq!(files(Some("data"), Split::Train, &world.options).unwrap(), found);
    let asked = world.server.take_requests();
    assert!(asked.iter().all(|request| request.target.starts_with("/api/")), "{asked:?}");
    let offline = HubOptions { offline: true, ..world.options.clone() };
    assert_eq!(files(Some("data"), Split::Train, &offline).unwrap(), found);
    assert!(world.server.take_requests().is_empty());
    // The other split was never fetched.
    let error = files(Some("data"), Split::Eval, &offline).unwrap_err();
    assert!(matches!(error, HubError::NotWhole { .. }) && error.to_string().contains("test.jsonl"), "{error}");
}

#[test]
fn names_that_people_give_are_names() {
    let world = World::new();
    let named: [(&'static str, &'static [u8]); 3] =
        [("train 2 (new).jsonl", b"{}"), ("train1.jsonl", TRAIN), ("train_\u{e9}%.jsonl", b"[]")];
    world.server.publish("datasets/acme/rows", &["main"], &named);
    let found = files(Some("*.jsonl"), Split::Train, &world.options).unwrap();
    let contents: Vec<_> = found.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(contents, named.map(|(_, content)| content.to_vec()));
    let offline = HubOptions { offline: true, ..world.options.clone() };
    assert_eq!(files(Some("*.jsonl"), Split::Train, &offline).unwrap(), found);
}

#[test]
fn large_files_come_from_the_storage_server() {
    let world = world();
    let found = files(Some("extra"), Split::Train, &world.options).unwrap();
    assert_eq!(std::fs::read(&found[0]).unwrap(), b"PAR1");
}

#[test]
fn what_is_not_there_is_named() {
    let world = world();
    let error = files(Some("gone"), Split::Train, &world.options).unwrap_err().to_string();
    assert!(error.contains("datasets/acme/rows") && error.contains("data/test.jsonl"), "{error}");
    let nobody = Repository { name: "acme/nobody".into(), revision: None, path: None };
    let error = data_files(&nobody, &|names| nobody.choose(names, Split::Train), &world.options).unwrap_err();
    assert!(matches!(error, HubError::UnknownModel { .. }), "{error}");
    let offline = HubOptions { offline: true, ..world.options.clone() };
    assert!(matches!(files(None, Split::Train, &offline).unwrap_err(), HubError::NotCached { .. }));
}
