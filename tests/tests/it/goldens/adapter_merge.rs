//! Adapters combined into one, against PEFT's `add_weighted_adapter`.

use std::path::Path;

use firebrand_adapters::Combination;
use firebrand_models::adapter_folder;
use firebrand_models::adapter_merge::{Weighted, merge};
use firebrand_tests::golden::{self, Forward, at_tokens, logits};
use firebrand_tests::tensors::{self, Tensors, distance, largest_difference};
use tempfile::TempDir;

fn merged(method: Combination) -> (TempDir, usize) {
    let folder = golden::path("adapter-merge");
    let (a, b) = (folder.join("a"), folder.join("b"));
    let adapters = [Weighted { folder: &a, weight: 0.7 }, Weighted { folder: &b, weight: -0.4 }];
    let out = tempfile::tempdir().unwrap();
    let rank = merge(&adapters, method, out.path()).unwrap();
    (out, rank)
}

fn tensors_of(folder: &Path) -> Tensors {
    tensors::read(&folder.join("adapter_model.safetensors"))
}

#[test]
fn factors_equal_pefts_where_they_are_determined() {
    for (name, method, rank) in [
        ("linear", Combination::Linear, 3),
        ("cat", Combination::Cat, 6),
        ("ties", Combination::Ties { density: 0.6 }, 3),
    ] {
        let (out, found) = merged(method);
        assert_eq!(found, rank, "{name}");
        let ours = tensors_of(out.path());
        let theirs = tensors::read(&golden::path("adapter-merge").join(format!("{name}.safetensors")));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        for (key, tensor) in &ours {
            assert_eq!(tensor.shape, theirs[key].shape, "{name}: {key}");
            let apart = distance(&tensor.values, &theirs[key].values);
            assert!(apart < 1e-6, "{name}: {key} is {apart:e} away");
        }
    }
}

/// `B A` of every module: the factors of a decomposition are open in their signs.
fn products(tensors: &Tensors) -> Vec<Vec<f32>> {
    let factors = tensors.iter().filter(|(name, _)| name.contains("lora_A"));
    let product = |(name, a): (&String, &tensors::Values)| {
        let b = &tensors[&name.replace("lora_A", "lora_B")];
        let (rank, columns) = (a.shape[0], a.shape[1]);
        let at = |row: &[f32], column: usize| (0..rank).map(|k| row[k] * a.values[k * columns + column]).sum::<f32>();
        b.values.chunks(rank).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
    };
    factors.map(product).collect()
}

#[test]
fn the_product_of_a_decomposition_equals_pefts() {
    let (out, rank) = merged(Combination::Svd { rank: Some(4) });
    assert_eq!(rank, 4);
    let ours = products(&tensors_of(out.path()));
    let theirs = products(&tensors::read(&golden::path("adapter-merge").join("svd.safetensors")));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let apart = distance(ours, theirs);
        assert!(apart < 1e-5, "{apart:e} away");
    }
}

#[test]
fn folders_on_one_model_compute_what_their_concatenation_does() {
    let folder = golden::path("adapter-merge");
    let folders = [folder.join("a"), folder.join("b")];
    let mut together = golden::load("llama-gqa-tied");
    adapter_folder::load_all(&mut together, &folders).unwrap();
    let out = tempfile::tempdir().unwrap();
    let adapters: Vec<Weighted<'_>> = folders.iter().map(|folder| Weighted { folder, weight: 1.0 }).collect();
    merge(&adapters, Combination::Cat, out.path()).unwrap();
    let mut single = golden::load("llama-gqa-tied");
    adapter_folder::load(&mut single, out.path()).unwrap();
    let batch = Forward::open("llama-gqa-tied").batch("");
    let at = |model| at_tokens(&batch, &logits(model, &batch));
    let apart = largest_difference(&at(&together), &at(&single));
    assert!(apart < 1e-4, "{apart:e} apart");
    assert!(largest_difference(&at(&together), &at(&golden::load("llama-gqa-tied"))) > 0.1, "nothing changed");
}

#[test]
fn what_is_written_is_an_adapter_of_the_base() {
    for method in [Combination::Cat, Combination::DareTies { density: 0.5, seed: 3 }] {
        let (out, _) = merged(method);
        let mut model = golden::load("llama-gqa-tied");
        adapter_folder::load(&mut model, out.path()).unwrap();
        assert!(model.parameter_counts().1 > 0);
    }
}
