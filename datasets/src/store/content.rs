//! The bytes of an example of any kind: [`encode`] and [`decode`].

use std::path::Path;

use super::{pictured, tensors, tokens};
use crate::example::ExampleContent;
use crate::kind::RowKind;

/// What a row of tensors is made of, as its first byte.
const FILE: u8 = 0;
const PICTURE: u8 = 1;

/// The bytes of an example whose row stands in a file of `folder`.
pub(super) fn encode(content: &ExampleContent, folder: &Path) -> Vec<u8> {
    let tagged = |tag: u8, bytes: Vec<u8>| [&[tag][..], &bytes].concat();
    match content {
        ExampleContent::Tokens(content) => tokens::encode(content),
        ExampleContent::Tensors(file) => tagged(FILE, tensors::encode(file, folder)),
        ExampleContent::Pictured(content) => tagged(PICTURE, pictured::encode(content, folder)),
    }
}

/// The example in these bytes, which has `length` tokens; `None` when they hold none.
pub(super) fn decode(kind: RowKind, bytes: &[u8], length: usize, folder: &Path) -> Option<ExampleContent> {
    match kind {
        RowKind::Tokens => tokens::decode(bytes, length).map(ExampleContent::Tokens),
        RowKind::Tensors => match bytes.split_first()? {
            (&FILE, bytes) => tensors::decode(bytes, folder).map(ExampleContent::Tensors),
            (&PICTURE, bytes) => pictured::decode(bytes, folder).map(ExampleContent::Pictured),
            _ => None,
        },
    }
}
