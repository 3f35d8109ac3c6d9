//! Encodings of text files other than UTF-8: [`TextEncoding`] is the key `encoding` of a source, [`Decoded`] reads such a
//! file as UTF-8, and [`guessed`] names the encoding that a text seems to have.
//!
//! UTF-16 is known by its mark and read. Any other encoding is guessed for messages only: a wrong guess would train on wrong
//! text, so the recipe says it.

use std::io::{self, BufRead, Read};
use std::str::FromStr;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An encoding of text, by a name of the WHATWG's standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextEncoding(&'static Encoding);

impl FromStr for TextEncoding {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // What Windows calls a code page is what the standard calls windows-N.
        let page = name.to_ascii_lowercase().strip_prefix("cp").map(|number| format!("windows-{number}"));
        Encoding::for_label(name.as_bytes()).or_else(|| Encoding::for_label(page?.as_bytes())).map(Self).ok_or_else(
            || format!("unknown encoding `{name}`; names are utf-8, utf-16le, windows-1252, gbk, shift_jis and so on"),
        )
    }
}

impl TryFrom<String> for TextEncoding {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<TextEncoding> for String {
    fn from(encoding: TextEncoding) -> Self {
        encoding.0.name().to_ascii_lowercase()
    }
}

impl JsonSchema for TextEncoding {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextEncoding".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["windows-1252"] })
    }
}

/// How the bytes of a file become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// They are UTF-8, or said to be so where they are not.
    AsUtf8,
    /// They are decoded.
    As(&'static Encoding),
}

/// How a file is read that begins with `start`, where the recipe says `asked`.
///
/// # Errors
/// The file is in an encoding that must be said, or in none that is read.
pub(super) fn reads(start: &[u8], asked: Option<TextEncoding>) -> Result<Reads, String> {
    if start.starts_with(&[0xff, 0xfe, 0, 0]) || start.starts_with(&[0, 0, 0xfe, 0xff]) {
        return Err("the file is in UTF-32, which is not read; convert it: iconv -f UTF-32 -t UTF-8".into());
    }
    // A mark says more than a recipe.
    if let Some((marked, _)) = Encoding::for_bom(start).filter(|(marked, _)| *marked != UTF_8) {
        return Ok(Reads::As(marked));
    }
    match asked {
        Some(TextEncoding(asked)) if asked == UTF_8 => Ok(Reads::AsUtf8),
        Some(TextEncoding(asked)) => Ok(Reads::As(asked)),
        None => match utf16(start) {
            Some(found) => Err(format!(
                "the file seems to be in {} without a mark at its beginning; {}",
                found.name(),
                advice(found)
            )),
            None => Ok(Reads::AsUtf8),
        },
    }
}

/// Text with a zero in every second byte, as UTF-16 has in most languages.
fn utf16(start: &[u8]) -> Option<&'static Encoding> {
    let start = &start[..start.len().min(1 << 10) & !1];
    let zeros = |odd: usize| start.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd, half) = (zeros(0), zeros(1), start.len() / 2);
    // Brackets, quotes and names of columns are ASCII, whatever the language of the rows is.
    if odd * 5 >= half.max(1) && even * 8 <= odd {
        Some(UTF_16LE)
    } else if even * 5 >= half.max(1) && odd * 8 <= even {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// What to do about a file in `encoding`.
pub(super) fn advice(encoding: &'static Encoding) -> String {
    let name = encoding.name();
    format!(
        "say so in the source, encoding = \"{}\", or convert it: iconv -f {name} -t UTF-8",
        name.to_ascii_lowercase()
    )
}

/// A file read as UTF-8. Bytes that the encoding does not have are an error.
pub(super) struct Decoded<R> {
    inner: R,
    decoder: Decoder,
    encoding: &'static Encoding,
    ready: (Vec<u8>, usize),
    /// Number of bytes decoded.
    at: u64,
    ended: bool,
}

impl<R: BufRead> Decoded<R> {
    pub fn new(inner: R, encoding: &'static Encoding) -> Self {
        Self { inner, decoder: encoding.new_decoder(), encoding, ready: (Vec::new(), 0), at: 0, ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let piece = self.inner.fill_buf()?;
        let last = piece.is_empty();
        let room = self.decoder.max_utf8_buffer_length_without_replacement(piece.len());
        let (ready, at) = &mut self.ready;
        ready.clear();
        ready.resize(room.unwrap_or(0).max(16), 0);
        *at = 0;
        let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(piece, ready, last);
        ready.truncate(written);
        self.inner.consume(read);
        self.at += read as u64;
        match result {
            DecoderResult::InputEmpty => {
                self.ended = last;
                Ok(())
            }
            DecoderResult::OutputFull => Ok(()),
            DecoderResult::Malformed(..) => {
                let name = self.encoding.name();
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("no {name} at byte {} of the text", self.at)))
            }
        }
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.1 == self.ready.0.len() && !self.ended {
            self.fill()?;
        }
        let (ready, at) = &mut self.ready;
        let count = (ready.len() - *at).min(buffer.len());
        buffer[..count].copy_from_slice(&ready[*at..*at + count]);
        *at += count;
        Ok(count)
    }
}

/// The encoding of a text that is no UTF-8 as a whole; absent where most of it is UTF-8.
pub(super) fn guessed(head: &[u8]) -> Option<&'static Encoding> {
    let text = String::from_utf8_lossy(head);
    let lost = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    let foreign = text.chars().filter(|c| !c.is_ascii()).count();
    if lost == 0 || lost * 2 < foreign {
        return None;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(head, true);
    Some(detector.guess(None, Utf8Detection::Deny))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], encoding: &'static Encoding) -> io::Result<String> {
        let mut text = String::new();
        // Pieces that cut characters in two.
        let small = io::BufReader::with_capacity(3, bytes);
        Decoded::new(small, encoding).read_to_string(&mut text).map(|_| text)
    }

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn what_a_mark_says_is_read_and_the_rest_must_be_said() {
        let text = "{\"text\": \"\u{4f60}\u{662f}\u{8c01}\u{1f600}\"}\n";
        for (mark, big, encoding) in [(&[0xff, 0xfe][..], false, UTF_16LE), (&[0xfe, 0xff], true, UTF_16BE)] {
            let bytes = [mark, &utf16(text, big)].concat();
            assert_eq!(reads(&bytes, None), Ok(Reads::As(encoding)));
            assert_eq!(reads(&bytes, Some("gbk".parse().unwrap())), Ok(Reads::As(encoding)));
            assert_eq!(read(&bytes, encoding).unwrap(), text);
            let refused = reads(&bytes[2..], None).unwrap_err();
            let name = encoding.name();
            assert!(refused.contains(name) && refused.contains("encoding = \"utf-16"), "{refused}");
            assert!(refused.contains(&format!("iconv -f {name} -t UTF-8")), "{refused}");
            assert_eq!(reads(&bytes[2..], Some(name.parse().unwrap())), Ok(Reads::As(encoding)));
        }
        for utf8 in [&b"\xef\xbb\xbf{}"[..], b"{}", b"", b"a", b"\xff"] {
            assert_eq!(reads(utf8, None), Ok(Reads::AsUtf8), "{utf8:?}");
        }
        assert!(reads(&[0xff, 0xfe, 0, 0, 65, 0, 0, 0], None).unwrap_err().contains("UTF-32"));
        assert!(read(b"ab\x81", encoding_rs::GBK).unwrap_err().to_string().contains("no GBK at byte 3"));
    }

    #[test]
    fn names_of_encodings_are_those_that_programs_use() {
        let name = |text: &str| text.parse::<TextEncoding>().map(String::from);
        for (given, expected) in [
            ("UTF8", "utf-8"),
            ("latin1", "windows-1252"),
            ("cp1251", "windows-1251"),
            ("GB2312", "gbk"),
            ("sjis", "shift_jis"),
        ] {
            assert_eq!(name(given).unwrap(), expected);
        }
        assert!(name("utf-9").unwrap_err().contains("`utf-9`"));
    }

    #[test]
    fn encodings_are_guessed_for_messages() {
        let (chinese, _, _) = encoding_rs::GBK.encode("你是谁？我是一只猫，住在河边的房子里。");
        assert!(matches!(guessed(&chinese).unwrap().name(), "GBK" | "gb18030"));
        let (french, _, _) = encoding_rs::WINDOWS_1252.encode("{\"text\": \"Où est le café près de la forêt ?\"}");
        assert_eq!(guessed(&french).unwrap().name(), "windows-1252");
        let (japanese, _, _) = encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。ねこがいます。");
        assert_eq!(guessed(&japanese).unwrap().name(), "Shift_JIS");
        // A broken byte in a text of UTF-8.
        assert_eq!(guessed("é à ü ö \u{4f60}".as_bytes()), None);
        assert_eq!(guessed(&["é à ü ö ".as_bytes(), &[0xff]].concat()), None);
    }
}
