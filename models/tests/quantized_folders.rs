//! Folders of quantized weights: hostile ones give an error without a panic, and loading holds no more than what it
//! loads. The allocator of this test counts.

mod common;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use burn::tensor::Device;
use common::{mutate, peak};
use firebrand_kernels::QuantizationScheme;
use firebrand_models::{
    Hold, Model,
    weights::{Checkpoint, CheckpointPlan, Dtype, PlanOptions, TensorSpec},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The folder of 4-bit weights that transformers saved (`tests/goldens/quantized.py`).
const QUANTIZED: [&[u8]; 2] = [
    include_bytes!("../../tests/goldens/quantized/model/config.json"),
    include_bytes!("../../tests/goldens/quantized/model/model.safetensors"),
];

#[test]
fn mutated_folders_of_quantized_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (config, weights) = (folder.path().join("config.json"), folder.path().join("model.safetensors"));
    let header = 8 + u64::from_le_bytes(QUANTIZED[1][..8].try_into().unwrap()) as usize;
    let states: Vec<usize> =
        (header..QUANTIZED[1].len()).filter(|&at| QUANTIZED[1][at..].starts_with(b"{\"quant_type\"")).collect();
    assert_eq!(states.len(), 14);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut accepted = 0;
    for case in 0..3_000 {
        let mut files = QUANTIZED.map(<[u8]>::to_vec);
        match random.random_range(0..4) {
            0 => mutate(&mut files[0], &mut random),
            1 => {
                let mut changed = files[1][8..header].to_vec();
                mutate(&mut changed, &mut random);
                files[1] = [&(changed.len() as u64).to_le_bytes(), &changed[..], &QUANTIZED[1][header..]].concat();
            }
            // A state keeps its length, so that it is read.
            2 => {
                let at = states[random.random_range(0..states.len())] + random.random_range(0..160);
                files[1][at] = *b"0129-.e\"}".get(random.random_range(0..9)).unwrap();
            }
            _ => {
                let at = random.random_range(header..QUANTIZED[1].len());
                files[1][at] = random.random();
            }
        }
        // New files: see `survives`.
        for (path, bytes) in [&config, &weights].into_iter().zip(&files) {
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        }
        let mut outcome = None;
        let allocated = peak(|| {
            let load = || Model::load(folder.path(), Hold::F32, &Device::flex()).map(drop);
            outcome =
                catch_unwind(AssertUnwindSafe(|| load().map_err(|error| assert!(error.to_string().len() > 10)))).ok();
        });
        accepted += usize::from(outcome.unwrap_or_else(|| panic!("case {case} panicked")).is_ok());
        // A model of so small files is mostly names, paths, tables of rotations and handles.
        assert!(allocated < 1 << 20, "case {case}: {allocated} bytes");
    }
    assert!((300..2_700).contains(&accepted), "{accepted} accepted");
}

/// What is quantized while it is read is never there as a whole in another form, and neither are the files, which are mapped.
#[test]
fn loading_holds_the_quantized_model_and_a_few_tensors() {
    const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 128, "num_hidden_layers": 12,
        "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 384, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true}"#;
    let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&source, &folder] {
        fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    }
    let fresh = Model::random(source.path(), 1, &Device::flex()).unwrap();
    fresh.save_weights(source.path(), Some(Dtype::BF16), None).unwrap();
    drop(fresh);
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let spec = |name: &str| {
        let view = checkpoint.get(name).unwrap();
        TensorSpec { name: name.into(), dtype: view.dtype, shape: view.shape.to_vec() }
    };
    let options = PlanOptions { max_shard_bytes: 500_000, ..PlanOptions::default() };
    let plan = CheckpointPlan::new(checkpoint.names().map(spec).collect(), &options).unwrap();
    plan.write(folder.path(), |spec| Ok(checkpoint.get(&spec.name).unwrap().bytes())).unwrap();
    let files = Checkpoint::open(folder.path()).unwrap();
    assert!(files.files().len() > 8);
    let stored: usize = files.tensors().map(|view| view.byte_count()).sum();
    let largest = files.tensors().map(|view| view.elements()).max().unwrap();
    drop(files);

    for (hold, each) in [
        (Hold::Quantized(QuantizationScheme::NF4), 0.52),
        (Hold::Quantized(QuantizationScheme::INT8), 1.07),
        (Hold::Bf16, 2.0),
    ] {
        let mut loaded = None;
        let most = peak(|| loaded = Some(Model::load(folder.path(), hold, &Device::flex()).unwrap()));
        let quantized = (each * stored as f64 / 2.0) as usize;
        // Embedding and norms are f32, names and handles are no more than in the test above, and a tensor in work has two forms in f32.
        let allowed = quantized + (64 + 25) * 128 * 4 + (1 << 18) + 2 * 4 * largest;
        assert!(most < allowed && most > quantized, "{hold:?}: {most} bytes, allowed {allowed}, quantized {quantized}");
        assert_eq!(loaded.unwrap().quantized_weights().is_empty(), hold == Hold::Bf16);
    }
}
