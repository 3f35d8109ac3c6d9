//! Rows with pictures are read back as they were written.

use super::*;
use crate::medium::{Medium, Place};
use crate::pictured::{Caption, Pictured};

/// Pictures in files and in rows, with captions and labels.
fn pictured() -> Vec<Example> {
    let caption = |text: &str, ids: &[u32]| Some(Caption { text: text.into(), ids: vec![ids.to_vec(), vec![]] });
    let label = |class| Some(RowLabel { label: Some(Label::One(class)), weight: 0.5 });
    let in_row = Place::Row { bytes: vec![0, 255, 7].into(), name: "b.png".into() };
    let one = |place, caption, label, line| Example {
        source: Location::new("folder/b.jsonl", line),
        content: ExampleContent::Pictured(Pictured {
            image: Medium { place, sha256: "ab".repeat(32), size: 1 << 33 },
            size: (480, 640),
            pixels: [line as u8; 32],
            caption,
            label,
        }),
        part: Part::Alone,
        source_index: 0,
        notes: Notes { cut_from: Some(80), ..Notes::default() },
    };
    vec![
        one(Place::File("folder/cats/a.jpg".into()), caption("a cat", &[5, 900_000]), None, 1),
        one(in_row, None, label(Class::Name("dog".into())), 2),
        one(Place::File("folder/c.jpg".into()), caption("", &[]), label(Class::Number(3.0)), 3),
    ]
}

#[test]
fn pictures_come_back_as_they_were_and_damage_is_an_error() {
    let examples = pictured();
    let file = write(&examples);
    let store = open_in("folder/", &file).unwrap();
    for (number, example) in examples.iter().enumerate() {
        assert_eq!(&store.read(number).unwrap(), example);
    }
    let whole = bytes(&file);
    for place in (HEADER..HEADER + 200).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        let mut copy = tempfile::tempfile().unwrap();
        copy.write_all(&damaged).unwrap();
        let store = open_in("folder/", &copy).unwrap();
        let read: Vec<_> = (0..store.len()).map(|number| store.read(number)).collect();
        assert!(read.iter().any(Result::is_err), "byte {place}");
        for (read, example) in
            read.iter().zip(&examples).filter_map(|(read, example)| Some((read.as_ref().ok()?, example)))
        {
            assert_eq!(read, example);
        }
    }
}
