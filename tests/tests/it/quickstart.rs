//! The quickstart writes the same bytes from version to version. A change of the order in which sums are taken changes them, and the
//! hashes here with them; the norm below has held since the program was first published.

use std::fs;

use firebrand_tests::{repository, tensors};
use sha2::{Digest, Sha256};

use crate::workshop::Workshop;

/// What six steps leave on a processor with AVX-512: path and SHA-256.
const FILES: [(&str, &str); 4] = [
    ("adapter/adapter_config.json", "b950537401589e0c5a2a375b20ad234fd360342b40bf112be994592172eb0c00"),
    ("adapter/adapter_model.safetensors", "e2c4bc8372bbfcf53516daf95f1d7e8a2edafe66207c52ea2b431f5b52ca9827"),
    ("adapter/firebrand.json", "4966c48c56fd303bfe6fb2907816b016fa244cacd0c786fc0e2b3b24623c6d24"),
    ("model/model.safetensors", "9c4e20903ff7c1d13789d9991ef2d899ab1080edc932cdc2041af884beb9bc87"),
];

/// The norm of all of the adapter's values there. Other instruction sets add up in another order.
const NORM: f64 = 15.333_602;

#[test]
fn the_quickstart_writes_the_bytes_it_always_wrote() {
    let workshop = Workshop::new();
    let recipe = repository().join("recipes/quickstart.toml");
    let run = workshop.path("run").display().to_string();
    let mut command = workshop.command(&["train", &recipe.display().to_string(), "--output", &run]);
    command.current_dir(repository()).args(["--set", "train.steps=6"]);
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));

    let adapter = tensors::read(&workshop.path("run/adapter/adapter_model.safetensors"));
    let squares = adapter.values().flat_map(|tensor| &tensor.values).map(|value| f64::from(*value).powi(2));
    let norm = squares.sum::<f64>().sqrt();
    assert!((norm - NORM).abs() < 1e-4 * NORM, "the adapter's norm is {norm}, not {NORM}");
    if !is_of_the_hashes() {
        return;
    }
    for (file, expected) in FILES {
        let hash = Sha256::digest(fs::read(workshop.path(&format!("run/{file}"))).unwrap());
        assert_eq!(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected, "{file}");
    }
}

#[cfg(target_arch = "x86_64")]
fn is_of_the_hashes() -> bool {
    is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_of_the_hashes() -> bool {
    false
}
