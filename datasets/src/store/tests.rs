//! What is written is read back, the same rows give the same bytes, and damage is an error.

mod pictured;

use std::io::{Read, Seek, SeekFrom, Write};

use super::*;
use crate::example::{ExampleContent, Notes, OddOrder, Part};
use crate::label::{Class, Label, RowLabel};
use crate::order::stream;
use crate::record::Role;
use crate::tensor_file::TensorFile;
use crate::tokens::{NOT_TRAINED, Tokens};

/// Labels of every kind.
fn label_of(number: usize) -> Option<Label> {
    let classes = [Class::Name("Grüße".into()), Class::Number(0.1), Class::Name(String::new())];
    match number % 3 {
        0 => None,
        1 => Some(Label::One(classes[number % 2].clone())),
        _ => Some(Label::Several(classes[..number % 4].to_vec())),
    }
}

/// Rows of every kind, drawn from a seed.
fn examples(count: usize) -> Vec<Example> {
    (0..count)
        .map(|row| {
            let draw = |purpose: u64, most: usize| stream(9, row as u64, purpose, most.max(1))[0] as usize;
            let length = draw(1, 40);
            let input_ids: Vec<u32> = (0..length).map(|place| (draw(2, 5000) * (place + 3)) as u32).collect();
            let label = |place: usize| match draw(100 + place as u64, 4) {
                0 => NOT_TRAINED,
                1 if draw(3, 3) == 0 => place as i64 * 7 - 3,
                _ => i64::from(input_ids[place]),
            };
            let labels: Vec<i64> = (0..length).map(label).collect();
            let weight = |place: usize| match (draw(4, 3), labels[place]) {
                (0, _) => place as f32 * 0.25 - 1.0,
                (_, NOT_TRAINED) => 0.0,
                _ => 0.7,
            };
            let role = |place: usize| (!place.is_multiple_of(3)).then_some(Role::ALL[place % 4]);
            let tokens = Tokens {
                text: (draw(5, 2) == 0).then(|| "Grüße 🦀".repeat(row % 3)),
                weights: (0..length).map(weight).collect(),
                roles: (draw(6, 2) == 0).then(|| (0..length).map(role).collect()),
                label: (row % 6 == 0).then(|| RowLabel { label: label_of(row / 6), weight: 0.25 }),
                labels,
                input_ids,
            };
            Example {
                source: Location::new("b.jsonl", row + 1),
                content: ExampleContent::Tokens(tokens),
                part: [Part::Alone, Part::Chosen, Part::Rejected, Part::Good, Part::Bad][row % 5],
                source_index: row % 5,
                notes: Notes {
                    cut_from: (row % 2 == 0).then_some(row + 1),
                    labelled_before: row,
                    end: (row % 3 == 0).then_some(row as u32),
                    empty: (row % 4, row % 5),
                    lossy: row % 7 == 0,
                    control: row % 2 == 0,
                    order: (row % 3 == 0).then_some(OddOrder::Repeated),
                    ..Notes::default()
                },
            }
        })
        .collect()
}

/// Rows of tensors: their files are below the folder of the rows, in it, and elsewhere.
fn tensors(count: usize) -> Vec<Example> {
    let path = |row: usize| match row % 3 {
        0 => format!("folder/row-{row}.safetensors"),
        1 => format!("folder/deep/ümlaut {row}.safetensors"),
        _ => format!("/elsewhere/{row}.safetensors"),
    };
    (0..count)
        .map(|row| Example {
            source: Location::new("folder/b.jsonl", row + 1),
            content: ExampleContent::Tensors(TensorFile {
                path: path(row).into(),
                sha256: crate::hex::hex(&Sha256::digest(row.to_le_bytes())),
                size: row as u64 * 1000,
            }),
            part: Part::Alone,
            source_index: row % 2,
            notes: Notes::default(),
        })
        .collect()
}

fn write(examples: &[Example]) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), tempfile::tempfile().unwrap()).unwrap();
    for example in examples {
        writer.append(Prepared::new(example, 1, 77)).unwrap();
    }
    let meta = Meta { files: vec!["a.jsonl".into(), "b.jsonl".into()], tokens: 5, ..Meta::default() };
    let kind = examples.first().map_or(RowKind::Tokens, Example::kind);
    writer.finish(kind, &meta).unwrap();
    file
}

fn open(file: &File) -> Result<Store, DataError> {
    open_in("", file)
}

/// Opens a store whose data files are now in `folder`.
fn open_in(folder: &str, file: &File) -> Result<Store, DataError> {
    let files = ["a.jsonl", "b.jsonl"].map(|name| format!("{folder}{name}"));
    let files = files.iter().map(|name| Arc::from(Path::new(name))).collect();
    Store::open(file, Path::new("x.rows"), files)
}

fn bytes(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn rows_of_every_kind_come_back_as_they_were() {
    let examples = examples(300);
    let store = open(&write(&examples)).unwrap();
    assert_eq!(store.len(), 300);
    for (row, example) in examples.iter().enumerate() {
        assert_eq!(store.read(row).unwrap(), *example);
    }
    assert!(store.read(300).is_err() && store.entry(300).is_none());
    let mut seen = 0;
    store.entries(|row, entry| {
        let example = &examples[row];
        assert_eq!((entry.length as usize, entry.labelled as usize), (example.length(), example.labelled_tokens()));
        assert_eq!((&entry.notes, entry.share, entry.digest), (&example.notes, 77, example.digest()));
        assert_eq!(store.location(&entry), example.source);
        seen += 1;
    });
    assert_eq!(seen, 300);
}

#[test]
fn rows_of_tensors_come_back_and_lie_where_the_data_lies_now() {
    let examples = tensors(100);
    let file = write(&examples);
    let store = open_in("folder/", &file).unwrap();
    assert_eq!((store.kind, store.len()), (RowKind::Tensors, 100));
    let moved = open_in("other/", &file).unwrap();
    for (row, example) in examples.iter().enumerate() {
        let entry = store.entry(row).unwrap();
        assert_eq!((entry.length, entry.labelled, entry.largest, entry.opening), (1, 1, None, [None, None]));
        assert_eq!(store.read(row).unwrap(), *example);
        let ExampleContent::Tensors(found) = moved.read(row).unwrap().content else { panic!("tensors") };
        assert!(found.path.starts_with(if row % 3 == 2 { "/elsewhere" } else { "other" }), "{}", found.path.display());
    }
    assert_eq!(bytes(&file), bytes(&write(&examples)));
}

#[test]
fn a_store_of_another_version_is_refused_in_one_sentence() {
    let mut old = bytes(&write(&examples(3)));
    old[8..12].copy_from_slice(&(STORE_VERSION - 1).to_le_bytes());
    let error = open(&file(&old)).unwrap_err().to_string();
    assert!(error.contains("x.rows") && error.contains("written by another version"), "{error}");
}

#[test]
fn a_usual_row_takes_little_more_than_its_tokens() {
    let labels: Vec<i64> = (0..1000).map(|place| if place < 400 { NOT_TRAINED } else { place }).collect();
    let weights = labels.iter().map(|label| f32::from(u8::from(*label >= 0))).collect();
    let tokens = Tokens { input_ids: (0..1000).collect(), labels, weights, ..Tokens::default() };
    let bytes = super::tokens::encode(&tokens).len();
    assert!(bytes <= 4000 + 16, "{bytes}");
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let examples = examples(50);
    assert_eq!(bytes(&write(&examples)), bytes(&write(&examples)));
    assert_eq!(open(&write(&[])).unwrap().len(), 0);
}

/// The fields that must never differ from what was written. Text and roles are for display, and only in temporary
/// files.
type Taught = (Vec<u32>, Vec<i64>, Vec<u32>, Option<RowLabel>, Option<TensorFile>);

fn taught(example: &Example) -> Taught {
    match &example.content {
        ExampleContent::Tokens(tokens) => {
            let weights = tokens.weights.iter().map(|weight| weight.to_bits()).collect();
            (tokens.input_ids.clone(), tokens.labels.clone(), weights, tokens.label.clone(), None)
        }
        ExampleContent::Tensors(file) => (Vec::new(), Vec::new(), Vec::new(), None, Some(file.clone())),
        ExampleContent::Pictured(_) => panic!("pictures are compared whole"),
    }
}

#[test]
fn a_damaged_store_is_an_error_wherever_it_is_damaged() {
    for (examples, folder) in [(examples(20), ""), (tensors(20), "folder/")] {
        let good = bytes(&write(&examples));
        for length in (0..good.len()).step_by(41).chain([HEADER - 1, HEADER, good.len() - 1]) {
            assert!(open(&file(&good[..length])).is_err(), "cut to {length} bytes");
        }
        let (mut refused, mut rows) = (0, 0);
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1 << (place % 8);
            let Ok(store) = open_in(folder, &file(&bad)) else {
                refused += 1;
                continue;
            };
            let damaged: Vec<usize> = (0..20).filter(|row| store.read(*row).is_err()).collect();
            let wrong = |row: usize| store.read(row).is_ok_and(|read| taught(&read) != taught(&examples[row]));
            assert!(damaged.len() <= 1 && !(0..20).any(wrong), "byte {place}: {damaged:?}");
            rows += 1;
        }
        assert!(refused > 20 * ENTRY && rows > 100, "{refused} {rows}");
    }
}

#[test]
fn a_header_that_lies_about_lengths_makes_no_room_for_them() {
    let good = bytes(&write(&examples(3)));
    for (rows, data, meta) in [(u64::MAX, 0, 0), (1 << 57, 1, 1), (0, u64::MAX, 1), (3, 0, u64::MAX)] {
        let header = Header { kind: RowKind::Tokens, examples: rows, data, meta, index_hash: [0; 32] };
        let lie = [&header.to_bytes()[..], &good[HEADER..]].concat();
        let error = open(&file(&lie)).unwrap_err().to_string();
        assert!(error.contains("x.rows") && error.contains("cache clear"), "{error}");
    }
}
