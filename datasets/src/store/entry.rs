//! The index entry of an example: [`Entry`] is what is known without reading the example, in 128 bytes.

use super::bytes::Cursor;
use crate::example::{Example, ExampleContent, Notes, OddOrder, Part};

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 128;

/// No token.
const NONE: u32 = u32::MAX;

/// The entry of an example in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Offset of its bytes from those of the first example, and their number.
    pub(super) place: (u64, u64),
    /// Number of tokens; 1 for a row of tensors.
    pub length: u32,
    /// Number of tokens that are learned to be predicted; see [`Example::labelled_tokens`].
    pub labelled: u32,
    /// The largest id among tokens and labels; absent without tokens.
    pub largest: Option<u32>,
    /// Its first two tokens.
    pub opening: [Option<u32>; 2],
    /// The number of the file it came from, and its line there.
    pub(crate) file: u32,
    pub(crate) line: u64,
    /// The number of the recipe's source that it came from.
    pub source_index: u32,
    /// A hash of the row's content, below 2^64; see `split.rs`.
    pub(crate) share: u64,
    /// SHA-256 of its part, tokens, labels and weights, or of the bytes of its file.
    pub digest: [u8; 32],
    /// Which part of its row it is.
    pub part: Part,
    /// Whether its tokens equal those of the example before it, the better answer of its pair.
    pub equals_chosen: bool,
    /// Whether the example before it comes from the same row: of a pair, or of a text that was split.
    pub goes_on: bool,
    /// What the gate reports.
    pub notes: Notes,
}

/// Orders by their numbers in an entry, from 1; 0 stands for none.
const ORDERS: [OddOrder; 4] =
    [OddOrder::AssistantFirst, OddOrder::LateSystem, OddOrder::Repeated, OddOrder::Unanswered];
/// Parts by their numbers in an entry.
const PARTS: [Part; 5] = [Part::Alone, Part::Chosen, Part::Rejected, Part::Good, Part::Bad];

impl Entry {
    /// The entry of `example`, which has no place yet.
    pub(super) fn new(example: &Example, file: u32, share: u64) -> Self {
        let (ids, labels) = match &example.content {
            ExampleContent::Tokens(tokens) => (&tokens.input_ids[..], &tokens.labels[..]),
            ExampleContent::Tensors(_) | ExampleContent::Pictured(_) => (&[][..], &[][..]),
        };
        let label = labels.iter().copied().max().unwrap_or(0).max(0) as u32;
        let opening = |index: usize| ids.get(index).copied();
        Self {
            place: (0, 0),
            length: number(example.length()),
            labelled: number(example.labelled_tokens()),
            largest: ids.iter().copied().max().map(|id| id.max(label)),
            opening: [opening(0), opening(1)],
            file,
            line: example.source.line as u64,
            source_index: number(example.source_index),
            share,
            digest: example.digest(),
            part: example.part,
            equals_chosen: false,
            goes_on: false,
            notes: example.notes.clone(),
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; ENTRY] {
        let mut bytes = Vec::with_capacity(ENTRY);
        for number in [self.place.0, self.place.1, self.line, self.share] {
            bytes.extend(number.to_le_bytes());
        }
        let id = |id: Option<u32>| id.unwrap_or(NONE);
        let Notes {
            cut_from,
            labelled_before,
            unended,
            end,
            empty,
            straddles,
            rendered,
            lossy,
            control,
            order,
            media,
            ..
        } = &self.notes;
        let Notes { rewritten, opened, lost_thought, header, plain, .. } = &self.notes;
        let flags = [*straddles, *rendered, *lossy, *control, self.equals_chosen, self.goes_on];
        let more = [*rewritten, *opened, *lost_thought, *header, *plain];
        let bits = |flags: &[bool]| flags.iter().enumerate().map(|(bit, flag)| u32::from(*flag) << bit).sum::<u32>();
        let flags = bits(&flags) | bits(&more) << 24;
        let order =
            order.and_then(|order| ORDERS.iter().position(|known| *known == order)).map_or(0, |place| place + 1);
        let part = PARTS.iter().position(|known| *known == self.part).unwrap_or(0);
        let numbers = [
            self.length,
            self.labelled,
            id(self.largest),
            id(self.opening[0]),
            id(self.opening[1]),
            self.file,
            self.source_index,
            cut_from.map_or(0, number),
            number(*labelled_before),
            number(*unended),
            id(*end),
            number(empty.0),
            number(empty.1),
            flags | (order as u32) << 8 | (part as u32) << 16,
        ];
        for number in numbers {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.digest);
        bytes.extend(media.unwrap_or(0).to_le_bytes());
        let mut entry = [0; ENTRY];
        entry[..bytes.len()].copy_from_slice(&bytes);
        entry
    }

    /// Reads an entry; `None` when the bytes are not one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let place = (cursor.u64()?, cursor.u64()?);
        let (line, share) = (cursor.u64()?, cursor.u64()?);
        let mut numbers = [0; 14];
        for number in &mut numbers {
            *number = cursor.u32()?;
        }
        let digest = cursor.array()?;
        let media = Some(cursor.u64()?).filter(|media| *media > 0);
        let [length, labelled, largest, first, second, file, source_index, rest @ ..] = numbers;
        let [cut_from, labelled_before, unended, end, others, empty, flags] = rest;
        let id = |id: u32| (id != NONE).then_some(id);
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let notes = Notes {
            cut_from: (cut_from > 0).then_some(cut_from as usize),
            labelled_before: labelled_before as usize,
            unended: unended as usize,
            end: id(end),
            empty: (others as usize, empty as usize),
            straddles: flag(0),
            rendered: flag(1),
            lossy: flag(2),
            control: flag(3),
            rewritten: flag(24),
            opened: flag(25),
            lost_thought: flag(26),
            header: flag(27),
            plain: flag(28),
            order: (flags >> 8 & 0xff).checked_sub(1).and_then(|place| ORDERS.get(place as usize).copied()),
            media,
        };
        let part = PARTS.get((flags >> 16 & 0xff) as usize).copied()?;
        let (equals_chosen, goes_on) = (flag(4), flag(5));
        let (largest, opening) = (id(largest), [id(first), id(second)]);
        Some(Self {
            place,
            length,
            labelled,
            largest,
            opening,
            file,
            line,
            source_index,
            share,
            digest,
            part,
            equals_chosen,
            goes_on,
            notes,
        })
    }
}

/// A count in 32 bits. Examples have fewer tokens than that; counts that are only reported may be clipped.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
