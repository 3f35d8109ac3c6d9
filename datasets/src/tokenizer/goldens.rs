//! Tokenizers of all kinds of folders against the references (`tests/goldens/tokenizers`, made by
//! `tokenizers_of_folders.py` beside it).

use std::path::{Path, PathBuf};

use super::Tokenizer;

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

/// How many texts there are, and how the others differ.
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
        // transformers gives a token that the vocabulary does not have a new row of the model.
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
