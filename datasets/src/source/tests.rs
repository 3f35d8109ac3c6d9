//! All readers through one interface: the same rows from each kind of table, names of columns, and hostile files.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::*;
use crate::testing;

/// Line and value of each row, or its error message.
pub type Rows = Vec<Result<(usize, Value), String>>;

pub fn read_with(name: &str, content: &[u8], reading: &Reading<'_>) -> Result<Rows, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    read_path(&path, reading)
}

pub fn try_rows(name: &str, content: &[u8]) -> Result<Rows, DataError> {
    read_with(name, content, &Reading::default())
}

pub fn rows(name: &str, content: &[u8]) -> Rows {
    try_rows(name, content).unwrap()
}

fn read_path(path: &Path, reading: &Reading<'_>) -> Result<Rows, DataError> {
    let mut rows = Vec::new();
    let mut receiver = |row: Result<Row, DataError>| {
        rows.push(row.map(|row| (row.location.line, Value::Object(row.object))).map_err(|error| error.to_string()));
        ControlFlow::Continue(())
    };
    read(path, reading, &mut receiver)?;
    Ok(rows)
}

fn table(name: &str) -> std::path::PathBuf {
    testing::data().join("tables").join(name)
}

#[test]
fn tables_of_every_kind_hold_the_same_rows() {
    let expected: Vec<Value> = serde_json::from_slice(&std::fs::read(table("rows.json")).unwrap()).unwrap();
    for name in ["rows.parquet", "rows.feather", "rows.arrow"] {
        let rows: Vec<_> =
            read_path(&table(name), &Reading::default()).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(rows.len(), expected.len(), "{name}");
        for (index, (line, row)) in rows.into_iter().enumerate() {
            assert_eq!((line, &row), (index + 1, &expected[index]), "{name}");
        }
    }
}

#[test]
fn columns_of_rarer_types_are_read_alike() {
    let types = |name: &str| -> Vec<Value> {
        read_path(&table(name), &Reading::default()).unwrap().into_iter().map(|row| row.unwrap().1).collect()
    };
    let expected: Vec<Value> = serde_json::from_slice(&std::fs::read(table("types.json")).unwrap()).unwrap();
    assert_eq!(types("types.parquet"), expected);
    // The reader of Arrow files skips decimals of 256 bits, except where a row uses them.
    let mut without = expected.clone();
    for row in &mut without {
        row.as_object_mut().unwrap().shift_remove("large");
    }
    assert_eq!(types("types.feather"), without);
    let columns = Columns::from([("text", "large")]);
    let error = read_path(&table("types.feather"), &Reading { columns: &columns, ..Reading::default() }).unwrap_err();
    assert!(error.to_string().contains("`large` has the type decimal of 256 bits"), "{error}");
    // Maps from programs that write no Arrow schema.
    for (row, expected) in types("maps.parquet").iter().zip(&expected) {
        assert_eq!((row.get("words"), row.get("numbers")), (expected.get("words"), expected.get("numbers")));
    }
    assert_eq!(types("list_view.parquet")[1], json!({"text": "b", "views": [2]}));
}

#[test]
fn types_that_the_reader_does_not_know_are_named() {
    for (name, said) in [
        ("list_view.arrow", "the column `views` has the type list view"),
        ("run_end.arrow", "the column `runs` has the type run-end encoded"),
        ("duplicate.arrow", "two columns have the name `text`"),
    ] {
        let error = read_path(&table(name), &Reading::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(said), "{error}");
    }
}

#[test]
fn a_value_that_is_no_json_breaks_its_row_where_it_is_used() {
    for name in ["rows.parquet", "rows.feather", "rows.arrow"] {
        let columns = Columns::from([("text", "bytes")]);
        let rows = read_path(&table(name), &Reading { columns: &columns, ..Reading::default() }).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().1["text"], "text");
        let error = rows[1].as_ref().unwrap_err();
        assert!(
            error.contains(":2: expected a value that JSON has in `bytes`, found bytes that are no UTF-8"),
            "{error}"
        );
        assert_eq!(rows.iter().filter(|row| row.is_err()).count(), 1, "{name}");
    }
}

#[test]
fn reading_stops_where_the_receiver_breaks_off() {
    for name in ["rows.parquet", "rows.feather", "rows.arrow", "rows.json"] {
        let mut count = 0;
        let mut receiver = |_: Result<Row, DataError>| {
            count += 1;
            if count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        read(&table(name), &Reading::default(), &mut receiver).unwrap();
        assert_eq!(count, 2, "{name}");
    }
}

#[test]
fn a_damaged_table_is_an_error_that_names_the_file() {
    for name in ["rows.parquet", "rows.feather", "rows.arrow"] {
        let whole = std::fs::read(table(name)).unwrap();
        let cases =
            [b"no table at all, whatever its name".to_vec(), whole[..whole.len() / 2].to_vec(), whole[..3].to_vec()];
        for content in cases {
            let error = try_rows(name, &content).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_never_a_shorter_one() {
    let whole = std::fs::read(table("rows.feather")).unwrap();
    for length in (0..whole.len()).step_by(7).chain(whole.len() - 12..whole.len()) {
        assert!(try_rows("rows.feather", &whole[..length]).is_err(), "cut after {length} bytes");
    }
    // After the marker that ends the batches.
    let mark = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let end = whole.windows(8).rposition(|window| window == mark).unwrap() + 8;
    for length in [end - 8, end, whole.len() - 6, whole.len() - 1] {
        let error = try_rows("rows.feather", &whole[..length]).unwrap_err().to_string();
        assert!(
            error.contains("rows.feather") && error.contains("cut off: the file ends without its footer"),
            "{error}"
        );
    }
    // A marker that ends the batches before the second of two.
    let second = whole[..end - 8].windows(4).rposition(|window| window == [0xff; 4]).unwrap();
    let mut content = whole.clone();
    content[second..second + 8].copy_from_slice(&mark);
    let error = try_rows("rows.feather", &content).unwrap_err().to_string();
    assert!(error.contains("names 2 batches, and 1 are there"), "{error}");
    let tail = whole.len() - 10;
    content.copy_from_slice(&whole);
    content[tail..tail + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    let error = try_rows("rows.feather", &content).unwrap_err().to_string();
    assert!(error.contains("a length that it cannot have"), "{error}");
}

#[test]
fn a_flipped_byte_never_ends_the_program() {
    for name in ["rows.parquet", "rows.feather", "rows.arrow"] {
        let whole = std::fs::read(table(name)).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 150) {
            let mut content = whole.clone();
            content[at] ^= 0xff;
            // Rows or an error, but never a panic.
            let _ = try_rows(name, &content);
        }
    }
}

#[test]
fn lengths_that_a_stream_cannot_have_are_refused_before_they_are_believed() {
    let whole = std::fs::read(table("rows.feather")).unwrap();
    // A compressed part of a batch states its size in eight bytes before a zstd frame.
    let frame = whole.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let mut content = whole.clone();
    content[frame - 8..frame].copy_from_slice(&(1i64 << 50).to_le_bytes());
    let error = try_rows("rows.feather", &content).unwrap_err().to_string();
    assert!(error.contains("more than 1 GiB"), "{error}");
    let stream = [&[0xff; 4][..], &i32::MAX.to_le_bytes()].concat();
    assert!(try_rows("rows.arrow", &stream).is_err());
}

#[test]
fn compressed_text_of_every_kind_is_read() {
    let expected = json!({"text": "a b"});
    for (name, content) in [
        ("a.jsonl", "{\"text\":\"a b\"}"),
        ("a.json", "[{\"text\":\"a b\"}]"),
        ("a.csv", "text\na b\n"),
        ("a.txt", "a b"),
    ] {
        let zst = zstd::stream::encode_all(content.as_bytes(), 1).unwrap();
        let mut gz = Vec::new();
        let mut encoder = flate2::bufread::GzEncoder::new(content.as_bytes(), flate2::Compression::fast());
        std::io::Read::read_to_end(&mut encoder, &mut gz).unwrap();
        for (name, content) in
            [(name.to_string(), content.as_bytes()), (format!("{name}.gz"), &gz), (format!("{name}.zst"), &zst)]
        {
            let found = rows(&name, content);
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].as_ref().unwrap().1, expected, "{name}");
        }
    }
    assert!(try_rows("a.parquet.gz", b"").unwrap_err().to_string().contains(".parquet"));
    assert!(try_rows("a.gz", b"").is_err() && try_rows("a.md", b"").is_err());
}

#[test]
fn text_of_every_kind_is_read_from_utf16_and_from_an_encoding_that_is_told() {
    let expected = json!({"text": "\u{4f60}\u{597d} caf\u{e9}"});
    let told = |name: &str| Reading { encoding: Some(name.parse().unwrap()), ..Reading::default() };
    for (name, content) in [
        ("a.jsonl", "{\"text\":\"\u{4f60}\u{597d} caf\u{e9}\"}\r\n"),
        ("a.json", "[{\"text\":\"\u{4f60}\u{597d} caf\u{e9}\"}]"),
        ("a.csv", "text\r\n\u{4f60}\u{597d} caf\u{e9}\r\n"),
        ("a.tsv", "text\r\n\u{4f60}\u{597d} caf\u{e9}\r\n"),
        ("a.txt", "\u{4f60}\u{597d} caf\u{e9}\r\n"),
    ] {
        let units = || format!("\u{feff}{content}").encode_utf16().collect::<Vec<u16>>();
        let little: Vec<u8> = units().iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units().iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let gb = encoding_rs::GB18030.encode(content).0.into_owned();
        let compressed = zstd::stream::encode_all(&little[..], 1).unwrap();
        for (name, bytes, reading) in [
            (name.to_string(), &little, Reading::default()),
            (name.to_string(), &big, Reading::default()),
            (format!("{name}.zst"), &compressed, Reading::default()),
            (name.to_string(), &gb, told("gb18030")),
            (name.to_string(), &content.as_bytes().to_vec(), told("utf-8")),
            (name.to_string(), &big[2..].to_vec(), told("utf-16be")),
        ] {
            let rows = read_with(&name, bytes, &reading).unwrap();
            assert_eq!(rows.len(), 1, "{name}");
            assert_eq!(rows[0].as_ref().unwrap().1, expected, "{name}");
        }
        let unmarked = try_rows(name, &little[2..]);
        if name != "a.txt" {
            let error = unmarked.unwrap_err().to_string();
            assert!(error.contains("UTF-16LE without a mark") && error.contains("encoding = \"utf-16le\""), "{error}");
        }
    }
}

#[test]
fn a_code_page_is_named_with_how_to_read_it() {
    let text = "\u{4f60}\u{662f}\u{8c01}\u{ff1f}\u{6211}\u{662f}\u{4e00}\u{53ea}\u{732b}\u{3002}";
    for (name, content) in [
        ("a.jsonl", format!("{{\"text\":\"{text}\"}}\n")),
        ("a.json", format!("[{{\"text\":\"{text}\"}}]")),
        ("a.csv", format!("text\n{text}\n")),
        ("b.csv", format!("{text}\n1\n")),
        ("a.txt", text.to_string()),
    ] {
        let bytes = encoding_rs::GBK.encode(&content).0;
        let error = match try_rows(name, &bytes) {
            Ok(mut rows) => rows.remove(0).unwrap_err(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("the file seems to be in GBK: say so in the source, encoding = \"gbk\""), "{error}");
        assert!(error.contains("iconv -f GBK -t UTF-8"), "{error}");
    }
}

#[test]
fn columns_get_our_names() {
    let columns = Columns::from([("prompt", "question"), ("completion", "answer.text"), ("weight", "w")]);
    let reading = Reading { columns: &columns, ..Reading::default() };
    let content = "{\"question\":\"q\",\"answer\":{\"text\":\"a\",\"n\":1},\"id\":3}\n\
        {\"question\":\"r\",\"answer\":{\"text\":\"b\"},\"w\":2}\n{\"questoin\":\"r\"}\n{\"question\":\"r\",\"answer\":5}\n";
    let rows = read_with("rows.jsonl", content.as_bytes(), &reading).unwrap();
    assert_eq!(rows[0], Ok((1, json!({"answer": {"text": "a", "n": 1}, "id": 3, "prompt": "q", "completion": "a"}))));
    assert_eq!(rows[1].as_ref().unwrap().1["weight"], 2);
    let near = rows[2].as_ref().unwrap_err();
    assert!(
        near.contains("rows.jsonl:3") && near.contains("answer.text") | near.contains("`questoin` is there"),
        "{near}"
    );
    assert!(rows[3].as_ref().unwrap_err().contains("`answer.text` (for `completion`)"));
    let never = read_with("rows.jsonl", content.lines().next().unwrap().as_bytes(), &reading).unwrap_err();
    assert!(never.to_string().contains("no row has the column `w`"), "{never}");
}

#[test]
fn a_column_that_rows_may_lack_is_missed_only_when_all_of_a_source_was_read() {
    let columns = Columns::from([("text", "t"), ("weight", "w")]);
    let reading = Reading { columns: &columns, ..Reading::default() };
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| dir.path().join(name));
    let contents = ["{\"t\":\"a\"}\n{\"t\":\"b\"}\n", "{\"t\":\"c\",\"w\":2}\n", "{\"t\":\"d\"}\n"];
    for (path, content) in paths.iter().zip(contents) {
        std::fs::write(path, content).unwrap();
    }
    let read_up_to = |paths: &[std::path::PathBuf], most: usize| {
        let mut names = Names::new(&columns);
        let mut left = most;
        for path in paths {
            let mut receiver = |_: Result<Row, DataError>| {
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            read_one(path, &reading, &mut names, &mut receiver).unwrap();
            if left == 0 {
                break;
            }
        }
        names.finish("data/*.jsonl").map_err(|error| error.to_string())
    };
    assert_eq!(read_up_to(&paths, 10), Ok(()));
    assert_eq!(read_up_to(&paths, 1), Ok(()));
    let never = read_up_to(&paths[..1], 10).unwrap_err();
    assert_eq!(never, "data/*.jsonl: no row has the column `w` (for `weight`)");
}

#[test]
fn an_empty_cell_is_not_a_missing_column() {
    let columns = Columns::from([("instruction", "task"), ("input", "context")]);
    let reading = Reading { columns: &columns, ..Reading::default() };
    let rows = read_with("rows.csv", b"task,context,output\ndo,,done\n", &reading).unwrap();
    assert_eq!(rows[0], Ok((2, json!({"output": "done", "instruction": "do"}))));
}

#[test]
fn names_that_no_format_knows_are_refused() {
    assert!(Columns::from([("prompt", "question"), ("input", "x")]).check().is_ok());
    let error = Columns::from([("promt", "question")]).check().unwrap_err().to_string();
    assert!(error.contains("`promt` (`prompt` is there)"), "{error}");
}
