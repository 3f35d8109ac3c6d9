//! WebDataset shards (<https://github.com/webdataset/webdataset>): [`read`] reads a `.tar` of files that belong together by
//! their names. `000.jpg`, `000.txt` and `000.json` are one row: its picture, its caption, and other columns; `000.cls` is
//! the number of its class.
//!
//! Files of a row follow each other. The archive streams, and a file in it is read up to a limit.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tar::{Archive, Entry};

use super::layout::is_picture;
use super::object;
use super::reader::{Reader, Reading};
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// The most bytes of a file in an archive.
const LONGEST: u64 = 256 << 20;

/// The reader of `.tar` files.
pub(super) struct Shards;

/// A row whose files are being read.
struct Open {
    key: String,
    object: Map<String, Value>,
    bytes: u64,
}

impl Reader for Shards {
    fn extensions(&self) -> &'static [&'static str] {
        &["tar"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn read(&self, path: &Path, _: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let refused = |why: String| DataError::Table { path: path.to_path_buf(), why };
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let damaged = |problem: std::io::Error| refused(format!("a damaged archive: {problem}"));
        let shared: Arc<Path> = Arc::from(path);
        let mut archive = Archive::new(BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?));
        let (mut rows, mut open) = (0, None::<Open>);
        let mut pass = |row: Result<Open, DataError>, receiver: &mut Receiver<'_>| {
            rows += 1;
            let location = Location::at(&shared, rows);
            receiver(row.map(|Open { object, bytes, .. }| Row::new(location, object, bytes)))
        };
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let Some((key, ending)) = name_of(&entry) else { continue };
            if open.as_ref().is_some_and(|row| row.key != key)
                && let Some(row) = open.take()
                && pass(Ok(row), receiver).is_break()
            {
                return Ok(());
            }
            let row = open.get_or_insert_with(|| Open { key: key.clone(), object: Map::new(), bytes: 0 });
            let bytes = content(&mut entry).map_err(|why| refused(format!("{key}.{ending}: {why}")))?;
            row.bytes += bytes.len() as u64;
            add(row, &ending, bytes).map_err(|why| refused(format!("{key}.{ending}: {why}")))?;
        }
        if let Some(row) = open {
            let _ = pass(Ok(row), receiver);
        }
        Ok(())
    }
}

/// The name of a file without its endings, and these in lower case; absent for what is no file of a row.
fn name_of<R: Read>(entry: &Entry<'_, R>) -> Option<(String, String)> {
    if !entry.header().entry_type().is_file() {
        return None;
    }
    let path = entry.path().ok()?;
    let path = path.to_str()?.trim_start_matches("./").to_string();
    let start = path.rfind('/').map_or(0, |slash| slash + 1);
    if path[start..].starts_with('.') {
        return None;
    }
    let dot = start + path[start..].find('.')?;
    Some((path[..dot].to_string(), path[dot + 1..].to_ascii_lowercase()))
}

/// The bytes of a file. Its header is not trusted: memory grows as bytes come.
fn content<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, String> {
    let size = entry.size();
    if size > LONGEST {
        return Err(format!("{size} bytes, more than {} MiB", LONGEST >> 20));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|problem| format!("cannot be read: {problem}"))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(format!("{size} bytes by its header, and {} before the archive ends", bytes.len())),
    }
}

/// Adds a file to its row.
fn add(row: &mut Open, ending: &str, bytes: Vec<u8>) -> Result<(), String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "it must be UTF-8".to_string());
    let name = format!("{}.{ending}", row.key);
    match ending {
        _ if is_picture(Path::new(&name)) => {
            row.object.insert("image".into(), json!({ "bytes": STANDARD.encode(bytes), "path": name }));
        }
        "txt" | "caption" => {
            row.object.insert("text".into(), text(bytes)?.trim_end_matches(['\n', '\r']).into());
        }
        "cls" => {
            let said = text(bytes)?;
            let number = said.trim().parse::<u64>().map_err(|_| format!("the number of a class, found {said:?}"))?;
            row.object.insert("label".into(), number.into());
        }
        "json" => {
            let columns = object::value(&bytes)?;
            // What files of their own say leads.
            for (key, value) in columns {
                row.object.entry(key).or_insert(value);
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn shard(files: &[(&str, &[u8])]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard-000000.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap();
        (dir, path)
    }

    fn rows(path: &Path) -> Result<Vec<Row>, String> {
        let mut rows = vec![];
        let read = Shards.read(path, &Reading::default(), &mut |row| {
            rows.push(row.unwrap());
            ControlFlow::Continue(())
        });
        read.map_err(|error| error.to_string())?;
        Ok(rows)
    }

    #[test]
    fn files_of_one_name_are_one_row() {
        let (_dir, path) = shard(&[
            ("./a/000.jpg", b"\xff\xd8"),
            ("./a/000.txt", b"a cat\n"),
            ("./a/000.json", br#"{"text": "other", "width": 3}"#),
            ("a/001.png", b"\x89PNG"),
            ("a/001.cls", b"7\n"),
            ("a/.hidden", b"x"),
            ("a/002.mp3", b"x"),
        ]);
        let rows = rows(&path).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].object["image"], json!({"bytes": "/9g=", "path": "a/000.jpg"}));
        assert_eq!((&rows[0].object["text"], &rows[0].object["width"]), (&json!("a cat"), &json!(3)));
        assert_eq!((&rows[1].object["label"], rows[1].location.line), (&json!(7), 2));
        assert!(rows[2].object.is_empty());
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let (_dir, path) = shard(&[("000.jpg", &[7; 2000]), ("000.txt", b"a")]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..900]).unwrap();
        assert!(rows(&path).unwrap_err().contains("000.jpg"));
        std::fs::write(&path, [9; 3000]).unwrap();
        assert!(rows(&path).unwrap_err().contains("damaged archive"));
        for (name, content, said) in
            [("0.cls", &b"x"[..], "class"), ("0.txt", b"\xff", "UTF-8"), ("0.json", b"[1]", "object")]
        {
            let (_dir, path) = shard(&[(name, content)]);
            let error = rows(&path).unwrap_err();
            assert!(error.contains(name) && error.contains(said), "{error}");
        }
    }
}
