//! SentencePiece model files: [`ModelProto`] holds the fields that decide which ids a text gets.
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`). The `protobuf` crate reads tags and numbers; the
//! messages are parsed here, because there are only three and most of their fields matter only to training. The file is
//! untrusted: a length is compared with the bytes that are left before anything is allocated.

use std::collections::HashSet;

use protobuf::CodedInputStream;
use protobuf::wire_format::WireType;

/// The longest piece in bytes. No known tokenizer has longer ones, and the work of deriving merges grows with the
/// square.
const LONGEST_PIECE: usize = 1024;

/// A SentencePiece model.
#[derive(Debug)]
pub(super) struct ModelProto {
    /// The vocabulary; the index of a piece is its id.
    pub pieces: Vec<Piece>,
    /// How a text is split into pieces.
    pub algorithm: Algorithm,
    /// Text of the unknown token.
    pub unknown: String,
    /// Text of the BOS token.
    pub bos: String,
    /// Text of the EOS token.
    pub eos: String,
    /// Characters without a piece are encoded as their UTF-8 bytes.
    pub byte_fallback: bool,
    /// Normalisation rules, compiled by SentencePiece; empty for none.
    pub charsmap: Vec<u8>,
    /// A space is added before the text.
    pub add_dummy_prefix: bool,
    /// Spaces at both ends are removed, and runs of spaces become one space.
    pub remove_extra_whitespaces: bool,
    /// A space is written `▁`.
    pub escape_whitespaces: bool,
    /// Spaces belong to the word before them, not to the word after.
    pub whitespace_is_suffix: bool,
}

/// An entry of the vocabulary.
#[derive(Debug)]
pub(super) struct Piece {
    pub text: String,
    /// Log probability (unigram) or minus the rank of the merge (BPE).
    pub score: f32,
    pub kind: Kind,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The trainer's `model_type`; language models do not use the other two values (word, char).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

/// The value of one field.
enum Field<'b> {
    Number(u64),
    Float(f32),
    Bytes(&'b [u8]),
    Other,
}

impl ModelProto {
    /// Parses a file; the error is the reason without the path.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The defaults of missing fields are those of the .proto file.
        let mut model = Self {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            unknown: "<unk>".into(),
            bos: "<s>".into(),
            eos: "</s>".into(),
            byte_fallback: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            whitespace_is_suffix: false,
        };
        walk(bytes, |number, field| match (number, field) {
            (1, Field::Bytes(message)) => {
                model.pieces.push(Piece::parse(message)?);
                Ok(())
            }
            (2, Field::Bytes(message)) => model.trainer_spec(message),
            (3, Field::Bytes(message)) => model.normalizer_spec(message),
            _ => Ok(()),
        })?;
        if model.pieces.is_empty() {
            return Err("it has no pieces".into());
        }
        let mut seen = HashSet::new();
        match model.pieces.iter().find(|piece| !seen.insert(piece.text.as_str())) {
            Some(twice) => Err(format!("the piece {:?} is there twice", twice.text)),
            None => Ok(model),
        }
    }

    fn trainer_spec(&mut self, message: &[u8]) -> Result<(), String> {
        walk(message, |number, field| {
            match (number, field) {
                (3, Field::Number(1)) => self.algorithm = Algorithm::Unigram,
                (3, Field::Number(2)) => self.algorithm = Algorithm::Bpe,
                (3, Field::Number(other)) => {
                    return Err(format!("its model_type is {other}; read are 1 (unigram) and 2 (bpe)"));
                }
                (24, Field::Number(flag)) => self.whitespace_is_suffix = flag != 0,
                (35, Field::Number(flag)) => self.byte_fallback = flag != 0,
                (45, Field::Bytes(bytes)) => self.unknown = text(bytes)?,
                (46, Field::Bytes(bytes)) => self.bos = text(bytes)?,
                (47, Field::Bytes(bytes)) => self.eos = text(bytes)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn normalizer_spec(&mut self, message: &[u8]) -> Result<(), String> {
        walk(message, |number, field| {
            match (number, field) {
                (2, Field::Bytes(bytes)) => self.charsmap = bytes.to_vec(),
                (3, Field::Number(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Number(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Number(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
            Ok(())
        })
    }
}

impl Piece {
    fn parse(message: &[u8]) -> Result<Self, String> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: Kind::Normal };
        walk(message, |number, field| {
            match (number, field) {
                (1, Field::Bytes(bytes)) => piece.text = text(bytes)?,
                (2, Field::Float(score)) => piece.score = score,
                (3, Field::Number(kind)) => {
                    piece.kind = match kind {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        other => return Err(format!("a piece has the unknown type {other}")),
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        if piece.text.is_empty() {
            return Err("a piece has no text".into());
        }
        if !piece.score.is_finite() {
            return Err(format!("the piece {:?} has the score {}", piece.text, piece.score));
        }
        Ok(piece)
    }
}

/// Calls `visit` with the number and value of every field of a message.
fn walk<'b>(bytes: &'b [u8], mut visit: impl FnMut(u32, Field<'b>) -> Result<(), String>) -> Result<(), String> {
    let broken = |problem: protobuf::ProtobufError| problem.to_string();
    let mut stream = CodedInputStream::from_bytes(bytes);
    while !stream.eof().map_err(broken)? {
        let (number, wire_type) = stream.read_tag_unpack().map_err(broken)?;
        let field = match wire_type {
            WireType::WireTypeVarint => Field::Number(stream.read_raw_varint64().map_err(broken)?),
            WireType::WireTypeFixed32 => Field::Float(stream.read_float().map_err(broken)?),
            WireType::WireTypeLengthDelimited => {
                let length = stream.read_raw_varint32().map_err(broken)?;
                let rest = usize::try_from(stream.pos()).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
                let value = usize::try_from(length)
                    .ok()
                    .and_then(|length| rest.get(..length))
                    .ok_or_else(|| format!("a field of {length} bytes where {} are left", rest.len()))?;
                stream.skip_raw_bytes(length).map_err(broken)?;
                Field::Bytes(value)
            }
            WireType::WireTypeFixed64 | WireType::WireTypeStartGroup | WireType::WireTypeEndGroup => {
                stream.skip_field(wire_type).map_err(broken)?;
                Field::Other
            }
        };
        visit(number, field)?;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > LONGEST_PIECE {
        return Err(format!("a piece of {} bytes; read are up to {LONGEST_PIECE}", bytes.len()));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| "a piece is no UTF-8".into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A length-delimited field.
    pub fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(content);
        bytes
    }

    /// A piece as a field of the model.
    pub fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut message = field(1, text.as_bytes());
        message.push(2 << 3 | 5);
        message.extend(score.to_le_bytes());
        message.extend([3 << 3, kind]);
        field(1, &message)
    }

    fn small() -> Vec<u8> {
        let mut bytes = [piece("<unk>", 0.0, 2), piece("a", -1.0, 1), piece("<0x0A>", 0.0, 6)].concat();
        bytes.extend(field(2, &[3 << 3, 2]));
        bytes.extend(field(3, &[3 << 3, 0, 4 << 3, 0]));
        bytes
    }

    #[test]
    fn fields_are_read_and_missing_ones_have_the_defaults_of_the_format() {
        let model = ModelProto::parse(&small()).unwrap();
        assert_eq!(model.algorithm, Algorithm::Bpe);
        assert!(!model.add_dummy_prefix && !model.remove_extra_whitespaces && model.escape_whitespaces);
        assert_eq!((model.bos.as_str(), model.eos.as_str()), ("<s>", "</s>"));
        assert_eq!(model.pieces[1].score, -1.0);
        assert_eq!(model.pieces[2].kind, Kind::Byte);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = small();
        for cut in 1..whole.len() {
            let _ = ModelProto::parse(&whole[..cut]);
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0x80, 0xff] {
                let mut bent = whole.clone();
                bent[at] = value;
                let _ = ModelProto::parse(&bent);
            }
        }
        for (bytes, why) in [
            (vec![], "no pieces"),
            (vec![1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f], "are left"),
            (vec![0xff; 40], ""),
            (piece("", 0.0, 1), "no text"),
            (piece("a", f32::NAN, 1), "score"),
            (piece("a", 0.0, 9), "type 9"),
            (piece(&"a".repeat(LONGEST_PIECE + 1), 0.0, 1), "bytes"),
            (field(1, &field(1, &[0xff, 0xfe])), "UTF-8"),
            ([piece("a", 0.0, 1), piece("a", 0.0, 1)].concat(), "twice"),
            ([piece("a", 0.0, 1), field(2, &[3 << 3, 4])].concat(), "model_type"),
        ] {
            let error = ModelProto::parse(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
