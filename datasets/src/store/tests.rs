//! What is written is read back, the same rows are the same bytes, and damage is an error.

use std::io::{Read, Seek, SeekFrom, Write};

use super::*;
use crate::batch::NOT_TRAINED;
use crate::example::{Notes, OddOrder, Part};
use crate::order::stream;
use crate::record::Role;

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
            Example {
                source: Location::new("b.jsonl", row + 1),
                text: (draw(5, 2) == 0).then(|| "Grüße 🦀".repeat(row % 3)),
                weights: (0..length).map(weight).collect(),
                roles: (draw(6, 2) == 0).then(|| (0..length).map(role).collect()),
                labels,
                input_ids,
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

fn write(examples: &[Example]) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), tempfile::tempfile().unwrap()).unwrap();
    for example in examples {
        writer.append(Packed::new(example, 1, 77)).unwrap();
    }
    let meta = Meta { files: vec!["a.jsonl".into(), "b.jsonl".into()], tokens: 5, ..Meta::default() };
    writer.finish(&meta).unwrap();
    file
}

fn open(file: &File) -> Result<Store, DataError> {
    let files = ["a.jsonl", "b.jsonl"].map(|name| Arc::from(Path::new(name))).to_vec();
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
    assert_eq!(store.rows(), 300);
    for (row, example) in examples.iter().enumerate() {
        assert_eq!(store.read(row).unwrap(), *example);
    }
    assert!(store.read(300).is_err() && store.entry(300).is_none());
    let mut seen = 0;
    store.entries(|row, entry| {
        let example = &examples[row];
        assert_eq!(
            (entry.length as usize, entry.labelled as usize),
            (example.input_ids.len(), example.labelled_tokens())
        );
        assert_eq!((&entry.notes, entry.share, entry.digest), (&example.notes, 77, example.digest()));
        assert_eq!(store.location(&entry), example.source);
        seen += 1;
    });
    assert_eq!(seen, 300);
}

#[test]
fn a_usual_row_takes_little_more_than_its_tokens() {
    let mut example = examples(1).remove(0);
    example.input_ids = (0..1000).collect();
    example.labels = (0..1000).map(|place| if place < 400 { NOT_TRAINED } else { place }).collect();
    example.weights = example.labels.iter().map(|label| f32::from(u8::from(*label >= 0))).collect();
    (example.text, example.roles) = (None, None);
    assert!(row::encode(&example).len() <= 4000 + 16, "{}", row::encode(&example).len());
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let examples = examples(50);
    assert_eq!(bytes(&write(&examples)), bytes(&write(&examples)));
    assert_eq!(open(&write(&[])).unwrap().rows(), 0);
}

#[test]
fn a_damaged_store_is_an_error_wherever_it_is_damaged() {
    let examples = examples(20);
    let good = bytes(&write(&examples));
    for length in (0..good.len()).step_by(41).chain([HEADER - 1, HEADER, good.len() - 1]) {
        assert!(open(&file(&good[..length])).is_err(), "cut to {length} bytes");
    }
    let (mut refused, mut rows) = (0, 0);
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        let Ok(store) = open(&file(&bad)) else {
            refused += 1;
            continue;
        };
        let damaged: Vec<usize> = (0..20).filter(|row| store.read(*row).is_err()).collect();
        let wrong = (0..20).any(|row| {
            store.read(row).is_ok_and(|read| {
                // Text and roles are for looking at, and only in files that go with the program.
                (&read.input_ids, &read.labels) != (&examples[row].input_ids, &examples[row].labels)
                    || read
                        .weights
                        .iter()
                        .zip(&examples[row].weights)
                        .any(|(left, right)| left.to_bits() != right.to_bits())
            })
        });
        assert!(damaged.len() <= 1 && !wrong, "byte {place}: {damaged:?}");
        rows += 1;
    }
    assert!(refused > 20 * ENTRY && rows > 100, "{refused} {rows}");
}

#[test]
fn a_header_that_lies_about_lengths_makes_no_room_for_them() {
    let good = bytes(&write(&examples(3)));
    for (rows, data, meta) in [(u64::MAX, 0, 0), (1 << 57, 1, 1), (0, u64::MAX, 1), (3, 0, u64::MAX)] {
        let header = Header { rows, data, meta, index_hash: [0; 32] };
        let lie = [&header.to_bytes()[..], &good[HEADER..]].concat();
        let error = open(&file(&lie)).unwrap_err().to_string();
        assert!(error.contains("x.rows") && error.contains("cache clear"), "{error}");
    }
}
