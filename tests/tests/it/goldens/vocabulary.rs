//! Models with more or fewer tokens than their base had: adapters that were trained so elsewhere, and new rows.

use burn::tensor::Device;
use firebrand::recipe::{FourBitRecipe, Quantization};
use firebrand_models::decoder::Decoder;
use firebrand_models::parameters::visit;
use firebrand_models::{Hold, Model, VocabularyRows, WriteAs, adapter_folder};
use firebrand_tests::golden::{self, Forward, host, logits};
use firebrand_tests::tensors::{self, Tensors, Values, largest_difference};

fn cases() -> Vec<String> {
    let cases = golden::folders_in("vocabulary", "");
    assert!(cases.len() >= 10);
    cases.into_iter().map(|case| format!("vocabulary/{case}")).collect()
}

fn base_of(case: &str) -> String {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string()
}

#[test]
fn adapters_that_were_trained_with_another_number_of_tokens_compute_what_pefts_do() {
    golden::each(&cases(), |case| {
        let mut model = golden::load(&base_of(case));
        let before = model.vocabulary().unwrap();
        adapter_folder::load_all(&mut model, &[golden::path(case)]).unwrap();
        let (forward, rows) = (Forward::open(case), model.vocabulary().unwrap());
        let batch = forward.batch("");
        let expected = forward.floats("logits");
        assert_eq!(expected.len(), batch.input_ids.len() * rows, "{case}");
        assert_ne!(rows, before, "{case}");
        let apart = largest_difference(&logits(&model, &batch), &expected);
        assert!(apart < 5e-5, "{case}: logits differ by {apart:e}");
        // Merged, written and read again, by a reader that knows only the folder.
        let folder = tempfile::tempdir().unwrap();
        model.merge();
        model.save_weights(folder.path(), WriteAs::Stored, None).unwrap();
        std::fs::write(folder.path().join("config.json"), model.config_json(WriteAs::Stored)).unwrap();
        let merged = Model::load(folder.path(), Hold::F32, &model.device()).unwrap();
        assert_eq!(merged.vocabulary(), Some(rows), "{case}");
        let apart = largest_difference(&logits(&merged, &batch), &expected);
        assert!(apart < 5e-5, "{case}: merged logits differ by {apart:e}");
    });
}

/// On a base in 4 bits, whose embedding and head stay dense, the adapter changes as much as on the dense one, but for what
/// quantizing costs the base alone.
#[test]
fn a_quantized_base_takes_them_too() {
    let scheme = Quantization::Nf4(FourBitRecipe::default()).scheme();
    let case = "vocabulary/saved-untied";
    let folder = golden::path(&base_of(case));
    let model = || Model::load(&folder, Hold::Quantized(scheme), &Device::flex()).unwrap();
    let forward = Forward::open(case);
    let mut adapted = model();
    adapter_folder::load(&mut adapted, &golden::path(case)).unwrap();
    let cost = largest_difference(&logits(&adapted, &forward.batch("")), &forward.floats("logits"));
    let batch = Forward::open(&base_of(case)).batch("");
    let of_base = largest_difference(&logits(&model(), &batch), &logits(&golden::load(&base_of(case)), &batch));
    assert!(cost > 1e-3 && cost < 2.0 * of_base, "{cost}, and {of_base} for the base alone");
}

#[test]
fn new_rows_are_the_mean_of_the_old_ones_or_of_those_named() {
    golden::each(&["llama-gqa-tied".into(), "llama-untied-biases".into(), "gptj".into()], |case| {
        let before = golden::load(case);
        let mut model = golden::load(case);
        let old = model.vocabulary().unwrap();
        let initial = vec![(old + 1, vec![3, 5, 5])];
        model.resize_vocabulary(&VocabularyRows { rows: old + 3, initial }).unwrap();
        let ends = |model: &Model| {
            let decoder = golden::decoder(model);
            let width = decoder.head_weight().dims()[1];
            let bias = decoder.head().bias.map(host).unwrap_or_default();
            let mut embedding = vec![];
            visit(model.network(), &mut |parameter| {
                if parameter.path == Decoder::EMBEDDING {
                    embedding = (parameter.value)().values();
                }
            });
            [(embedding, width), (host(decoder.head_weight()), width), (bias, 1)]
        };
        for ((was, width), (is, _)) in ends(&before).into_iter().zip(ends(&model)) {
            if was.is_empty() {
                continue;
            }
            assert_eq!(is[..old * width], was[..], "{case}");
            let row = |index: usize| &is[index * width..(index + 1) * width];
            for column in 0..width {
                let mean = (0..old).map(|at| f64::from(was[at * width + column])).sum::<f64>() / old as f64;
                assert_eq!(row(old)[column], mean as f32, "{case}");
                let [three, five] = [3, 5].map(|at| f64::from(was[at * width + column]));
                assert_eq!(row(old + 1)[column], ((three + five + five) / 3.0) as f32, "{case}");
            }
            assert_eq!(row(old), row(old + 2), "{case}");
        }
        assert_eq!(model.config().map()["vocab_size"], old + 3);
        assert!(model.base_parameters().iter().any(|info| info.shape[0] == old + 3));
        let problem = model.resize_vocabulary(&VocabularyRows { rows: old, initial: vec![(old, vec![])] });
        assert!(problem.unwrap_err().to_string().contains("vocabulary"), "{case}");
    });
}

#[test]
fn a_larger_vocabulary_without_its_rows_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let case = golden::path("vocabulary/factors-untied");
    let file = firebrand_models::weights::SafetensorsFile::open(case.join("adapter_model.safetensors")).unwrap();
    let mut kept = Tensors::new();
    for view in file.tensors().filter(|view| !view.name.contains("base_layer")) {
        let values = Values { shape: view.shape.to_vec(), values: view.to_f32().unwrap() };
        kept.insert(view.name.to_string(), values);
    }
    tensors::write(folder.path(), "adapter_model", &kept);
    std::fs::copy(case.join("adapter_config.json"), folder.path().join("adapter_config.json")).unwrap();
    let said = adapter_folder::load(&mut golden::load("llama-untied-biases"), folder.path()).unwrap_err().to_string();
    for word in ["103 tokens", "firebrand enlarge", "embed_tokens"] {
        assert!(said.contains(word), "{said}");
    }
}
