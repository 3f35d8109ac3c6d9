//! Tokenizers of all kinds of folders encode texts as the references do (`tests/goldens/tokenizers`, made by
//! `tokenizers_of_folders.py` beside it).

use super::*;
use crate::testing;

#[derive(serde::Deserialize)]
struct Golden {
    special: std::collections::BTreeMap<String, String>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    decoded: Option<String>,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/tokenizers")
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The number of texts, and those whose tokens differ.
fn compare(folder: &Path) -> (usize, Vec<String>) {
    let golden: Golden = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let mut differing = Vec::new();
    for text in &golden.texts {
        let encoding = tokenizer.encode_with_offsets(&text.text, false).unwrap();
        if encoding.ids != text.ids {
            differing.push(format!("{:?}\n  expected {:?}\n  found    {:?}", text.text, text.ids, encoding.ids));
        }
        for range in &encoding.offsets {
            assert!(text.text.get(range.clone()).is_some(), "{:?}: {range:?} is no part of it", text.text);
        }
        let decoded = tokenizer.decode(&text.ids, false).unwrap();
        if let Some(expected) = text.decoded.as_ref().filter(|expected| **expected != decoded) {
            differing.push(format!("{:?}\n  expected text {expected:?}\n  found text    {decoded:?}", text.text));
        }
    }
    let around = (tokenizer.prefix.clone(), tokenizer.suffix.clone());
    if around != (golden.prefix.clone(), golden.suffix.clone()) {
        differing.push(format!("around text: expected {:?} {:?}, found {around:?}", golden.prefix, golden.suffix));
    }
    for (name, expected) in &golden.special {
        let found = tokenizer.special().text(name);
        // A token that the vocabulary lacks gets a new row of the embedding in transformers.
        if found != Some(expected) && tokenizer.token_to_id(expected).is_some() {
            differing.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    (golden.texts.len(), differing)
}

#[test]
fn ids_and_texts_are_those_of_the_references() {
    let mut folders = cases(&goldens());
    folders.extend(
        std::env::var_os("FIREBRAND_TOKENIZER_GOLDENS").map(|more| cases(Path::new(&more))).unwrap_or_default(),
    );
    let mut all = Vec::new();
    for folder in folders {
        let (count, differing) = compare(&folder);
        println!("{}: {count} texts, {} differences", folder.display(), differing.len());
        all.extend(differing.into_iter().map(|text| format!("{}: {text}", folder.display())));
    }
    assert!(all.is_empty(), "{} differences\n{}", all.len(), all.join("\n"));
}

#[test]
fn offsets_are_bytes_of_the_text() {
    let tokenizer = testing::tokenizer();
    let text = "<|im_start|>user\nGrüße, 世界<|im_end|>";
    let encoding = tokenizer.encode_with_offsets(text, false).unwrap();
    assert_eq!(encoding.offsets[0], 0.."<|im_start|>".len());
    let last = encoding.offsets.last().unwrap().clone();
    assert_eq!(&text[last], "<|im_end|>");
    assert_eq!(tokenizer.decode(&encoding.ids, false).unwrap(), text);
}

/// One `tokenizer.json` beside many configurations (`tokenizer_configs.py`).
#[derive(serde::Deserialize)]
struct Configured {
    tokenizer: serde_json::Map<String, serde_json::Value>,
    texts: Vec<String>,
    cases: Vec<ConfiguredCase>,
}

#[derive(serde::Deserialize)]
struct ConfiguredCase {
    name: String,
    post_processor: serde_json::Value,
    files: serde_json::Map<String, serde_json::Value>,
    ids: Vec<Vec<u32>>,
}

#[test]
fn the_files_beside_a_tokenizer_json_change_what_they_change_in_the_reference() {
    let file = goldens().with_file_name("tokenizer-configs.json");
    let golden: Configured = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut differing = Vec::new();
    for case in &golden.cases {
        let folder = tempfile::tempdir().unwrap();
        let mut tokenizer = golden.tokenizer.clone();
        tokenizer["post_processor"] = case.post_processor.clone();
        std::fs::write(folder.path().join("tokenizer.json"), serde_json::to_vec(&tokenizer).unwrap()).unwrap();
        for (name, content) in &case.files {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        for (text, expected) in golden.texts.iter().zip(&case.ids) {
            let found = tokenizer.encode(text, true).unwrap();
            if found != *expected {
                differing.push(format!("{}: {text:?}\n  expected {expected:?}\n  found    {found:?}", case.name));
            }
        }
    }
    assert!(golden.cases.len() > 30);
    assert!(differing.is_empty(), "{} differences\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn a_text_that_spells_its_bos_gets_no_second_one() {
    let dir = testing::tokenizer_folder_with_bos();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let bos = tokenizer.token_to_id("<s>").unwrap();
    for text in ["hello", "<s>hello"] {
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(ids.iter().filter(|id| **id == bos).count(), 1, "{text}");
        assert_eq!(ids[0], bos);
    }
    assert_ne!(tokenizer.encode("hello", false).unwrap()[0], bos);
}

#[test]
fn truncation_and_padding_of_the_file_are_switched_off() {
    let dir = testing::tokenizer_folder("{}");
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"});
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let ids = tokenizer.encode("one two three", false).unwrap();
    assert!(ids.len() > 2 && ids.len() < 64);
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "one two three");
}

#[test]
fn a_broken_tokenizer_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json"), "{missing}");
    for content in ["", "{}", "[1]", r#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#] {
        std::fs::write(dir.path().join("tokenizer.json"), content).unwrap();
        let broken = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("not a tokenizer"), "{broken}");
    }
}
