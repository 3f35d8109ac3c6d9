//! `inspect` on the reference models, and on what was done to them.

use std::fs;
use std::path::{Path, PathBuf};

use firebrand::inspect::{Architecture, InspectReport, Kind, inspect};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name)
}

/// These files of a golden in a folder of their own.
fn copy(name: &str, files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn model() -> TempDir {
    copy("llama-gqa-tied", &["config.json", "model.safetensors"])
}

fn failure(path: &Path) -> String {
    inspect(path).expect_err("this must fail").to_string()
}

#[test]
fn a_model_folder_tells_family_sizes_and_hashes() {
    let folder = model();
    let report = inspect(folder.path()).unwrap();
    assert_eq!(report.kind, Kind::Model);
    let family = report.family.as_ref().unwrap();
    assert_eq!(family.model_type, "llama");
    let Some(Architecture::Decoder(sizes)) = &family.architecture else { panic!("{:?}", family.architecture) };
    let blocks = &sizes.blocks;
    assert_eq!((blocks.layers, blocks.hidden_size, sizes.vocab_size, blocks.intermediate_size), (2, 30, 97, 34));
    assert_eq!((blocks.heads, blocks.kv_heads, blocks.head_dim, sizes.tied_head), (6, 2, 10, true));
    assert_eq!(report.parameters, 18_780);
    assert_eq!((report.dtypes["F32"].tensors, report.dtypes["F32"].bytes), (20, 4 * 18_780));
    let embedding = report.tensors.iter().find(|tensor| tensor.name == "model.embed_tokens.weight").unwrap();
    assert_eq!(embedding.shape, [97, 30]);
    let names: Vec<_> = report.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    let weights = fs::read(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(report.files[1].sha256, firebrand_tests::hub_server::sha256(&weights));
}

#[test]
fn quantized_weights_count_by_their_numbers() {
    let report = inspect(&golden("quantized/model")).unwrap();
    assert_eq!(report.parameters, 18_780);
    assert_eq!(report.family.as_ref().unwrap().scheme.as_deref(), Some("nf4 in blocks of 64, scales quantized"));
    assert!(report.to_string().contains("quantized   nf4 in blocks of 64"), "{report}");
    let weights = inspect(&golden("quantized/model/model.safetensors")).unwrap();
    assert_eq!((weights.kind, weights.parameters), (Kind::Weights, 18_780));
    let (folder, config) = (copy("quantized/model", &["model.safetensors"]), golden("llama-gqa-tied/config.json"));
    fs::copy(config, folder.path().join("config.json")).unwrap();
    assert!(failure(folder.path()).contains("`quantization_config`"));
}

#[test]
fn the_text_is_a_page_and_the_json_is_whole() {
    let report = inspect(model().path()).unwrap();
    let text = report.to_string();
    for word in ["llama", "18,780", "model.layers.{0..1}.self_attn.q_proj.weight", "[60, 30]  x2", "sha256"] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
    assert!(text.lines().count() < 30, "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["kind"], "model");
    assert_eq!(json["tensors"].as_array().unwrap().len(), 20);
    assert_eq!(json["family"]["architecture"]["head_dim"], 10);
}

#[test]
fn an_adapter_folder_tells_method_base_and_modules() {
    let folder = copy("lora-llama-gqa-tied", &["adapter_config.json", "adapter_model.safetensors"]);
    let report = inspect(folder.path()).unwrap();
    assert_eq!((report.kind, report.parameters), (Kind::Adapter, 3_776));
    let adapter = report.adapter.as_ref().unwrap();
    let lora = adapter.lora.as_ref().unwrap();
    assert_eq!((lora.rank, lora.alpha, adapter.modules), (4, 6.0, 14));
    assert_eq!(adapter.base_model.as_deref(), Some("../llama-gqa-tied"));
    assert!(report.to_string().contains("rank 4, alpha 6"));
}

#[test]
fn a_single_file_needs_no_configuration() {
    let folder = model();
    let InspectReport { kind, parameters, family, files, .. } =
        inspect(&folder.path().join("model.safetensors")).unwrap();
    assert_eq!((kind, parameters, family, files.len()), (Kind::Weights, 18_780, None, 1));
}

#[test]
fn a_configuration_without_weights_is_counted_by_its_shapes() {
    let folder = copy("llama-gqa-tied", &["config.json"]);
    let report = inspect(folder.path()).unwrap();
    assert_eq!((report.kind, report.parameters, report.tensors.len()), (Kind::Model, 18_780, 0));
    assert!(report.to_string().contains("no weights"));
}

#[test]
fn an_unknown_architecture_still_shows_its_tensors() {
    let folder = model();
    fs::write(folder.path().join("config.json"), r#"{"model_type": "abacus"}"#).unwrap();
    let report = inspect(folder.path()).unwrap();
    let family = report.family.as_ref().unwrap();
    assert_eq!((family.model_type.as_str(), family.architecture.is_none()), ("abacus", true));
    assert!(family.unsupported.as_ref().unwrap().contains("abacus"));
    assert_eq!((report.parameters, report.tensors.len()), (18_780, 20));
}

#[test]
fn damaged_and_foreign_weights_give_the_loaders_errors() {
    let folder = model();
    let weights = folder.path().join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    assert!(failure(folder.path()).contains("model.safetensors"));
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, nan).unwrap();
    assert!(failure(folder.path()).contains("NaN"));
    fs::write(&weights, &whole).unwrap();
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    fs::write(
        folder.path().join("config.json"),
        config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    assert!(failure(folder.path()).contains("model.layers.2."));
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(failure(folder.path()).contains("config.json"));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(failure(folder.path()).contains("config.json"));
    fs::remove_file(&weights).unwrap();
    assert!(failure(folder.path()).contains("no weights"));
    assert!(failure(&folder.path().join("nowhere")).contains("nowhere"));
}

#[test]
fn a_checkpoint_must_match_its_manifest() {
    let folder = model();
    fs::write(folder.path().join("manifest.json"), "{}").unwrap();
    assert!(failure(folder.path()).contains("manifest"));
}

#[test]
fn the_output_of_a_run_points_at_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("recipe.toml"), "").unwrap();
    fs::create_dir(folder.path().join("checkpoint-5")).unwrap();
    assert!(failure(folder.path()).contains("output of a run"));
}
