//! The bytes of an example of tokens: [`encode`] writes token ids in full, labels and weights in a short form.
//!
//! A label is nearly always its token or "not trained", so runs of the two are written, and exceptions one by one.
//! Weights are nearly always the row's weight at labels and 0 elsewhere, which is one number; otherwise runs of equal
//! weights are written. Text and roles are only stored where rows were prepared for display.

use super::bytes::{Cursor, put, unzigzag, zigzag};
use super::labels;
use crate::record::Role;
use crate::tokens::{NOT_TRAINED, Tokens};

/// How weights are written.
const SAME: u8 = 0;
const RUNS: u8 = 1;
/// Flags of the optional fields.
const TEXT: u8 = 1;
const ROLES: u8 = 2;
const LABEL: u8 = 4;

/// The bytes of an example.
pub(super) fn encode(tokens: &Tokens) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(tokens.input_ids.len() * 4 + 32);
    for id in &tokens.input_ids {
        bytes.extend(id.to_le_bytes());
    }
    token_labels(&mut bytes, tokens);
    weights(&mut bytes, tokens);
    let text = tokens.text.as_ref().map_or(0, |_| TEXT);
    let roles = tokens.roles.as_ref().map_or(0, |_| ROLES);
    let label = tokens.label.as_ref().map_or(0, |_| LABEL);
    bytes.push(text | roles | label);
    if let Some(text) = &tokens.text {
        put(&mut bytes, text.len() as u64);
        bytes.extend(text.as_bytes());
    }
    for role in tokens.roles.iter().flatten() {
        let number = role.and_then(|role| Role::ALL.iter().position(|known| *known == role));
        bytes.push(number.map_or(0, |number| number as u8 + 1));
    }
    if let Some(label) = &tokens.label {
        labels::encode(&mut bytes, label);
    }
    bytes
}

fn token_labels(bytes: &mut Vec<u8>, tokens: &Tokens) {
    let mut runs: Vec<u64> = Vec::new();
    let mut trained = false;
    let mut length = 0;
    for label in &tokens.labels {
        if (*label != NOT_TRAINED) != trained {
            runs.push(length);
            (trained, length) = (!trained, 0);
        }
        length += 1;
    }
    runs.push(length);
    put(bytes, runs.len() as u64);
    runs.iter().for_each(|run| put(bytes, *run));
    let others = |(label, id): &(&i64, &u32)| **label != NOT_TRAINED && **label != i64::from(**id);
    let pairs = || tokens.labels.iter().zip(&tokens.input_ids).enumerate().filter(|(_, pair)| others(pair));
    put(bytes, pairs().count() as u64);
    for (place, (label, _)) in pairs() {
        put(bytes, place as u64);
        put(bytes, zigzag(*label));
    }
}

fn weights(bytes: &mut Vec<u8>, tokens: &Tokens) {
    let pairs = || tokens.weights.iter().zip(&tokens.labels);
    let first = pairs().find(|(_, label)| **label != NOT_TRAINED).map_or(0.0, |(weight, _)| *weight);
    // Compared by bits: what is read back must be exactly what was written, also for the hash.
    let expected = |label: i64| if label == NOT_TRAINED { 0.0_f32.to_bits() } else { first.to_bits() };
    if pairs().all(|(weight, label)| weight.to_bits() == expected(*label)) {
        bytes.push(SAME);
        bytes.extend(first.to_le_bytes());
        return;
    }
    bytes.push(RUNS);
    for run in tokens.weights.chunk_by(|left, right| left.to_bits() == right.to_bits()) {
        put(bytes, run.len() as u64);
        bytes.extend(run[0].to_le_bytes());
    }
}

/// The example of `length` tokens in these bytes; `None` when they hold none.
pub(super) fn decode(bytes: &[u8], length: usize) -> Option<Tokens> {
    let mut cursor = Cursor(bytes);
    let ids = cursor.take(length.checked_mul(4)?)?;
    let input_ids: Vec<u32> = ids.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])).collect();
    let labels = read_labels(&mut cursor, &input_ids)?;
    let weights = read_weights(&mut cursor, &labels)?;
    let kinds = cursor.byte()?;
    let text = match kinds & TEXT {
        0 => None,
        _ => {
            let size = cursor.count(cursor.0.len())?;
            Some(String::from_utf8(cursor.take(size)?.to_vec()).ok()?)
        }
    };
    let role = |number: &u8| match usize::from(*number).checked_sub(1) {
        None => Some(None),
        Some(number) => Role::ALL.get(number).copied().map(Some),
    };
    let roles = match kinds & ROLES {
        0 => None,
        _ => Some(cursor.take(length)?.iter().map(role).collect::<Option<Vec<_>>>()?),
    };
    let label = match kinds & LABEL {
        0 => None,
        _ => Some(labels::decode(&mut cursor)?),
    };
    let whole = cursor.0.is_empty() && kinds & !(TEXT | ROLES | LABEL) == 0;
    whole.then_some(Tokens { text, input_ids, labels, weights, roles, label })
}

fn read_labels(cursor: &mut Cursor<'_>, ids: &[u32]) -> Option<Vec<i64>> {
    let mut labels = Vec::with_capacity(ids.len());
    let mut trained = false;
    for _ in 0..cursor.count(ids.len() + 1)? {
        let run = cursor.count(ids.len() - labels.len())?;
        let from = &ids[labels.len()..][..run];
        match trained {
            true => labels.extend(from.iter().map(|id| i64::from(*id))),
            false => labels.extend(from.iter().map(|_| NOT_TRAINED)),
        }
        trained = !trained;
    }
    for _ in 0..cursor.count(ids.len())? {
        let place = usize::try_from(cursor.number()?).ok()?;
        *labels.get_mut(place)? = unzigzag(cursor.number()?);
    }
    (labels.len() == ids.len()).then_some(labels)
}

fn read_weights(cursor: &mut Cursor<'_>, labels: &[i64]) -> Option<Vec<f32>> {
    let kind = cursor.byte()?;
    let number = |cursor: &mut Cursor<'_>| cursor.array().map(f32::from_le_bytes);
    if kind == SAME {
        let weight = number(cursor)?;
        return Some(labels.iter().map(|label| if *label == NOT_TRAINED { 0.0 } else { weight }).collect());
    }
    let mut weights = Vec::with_capacity(labels.len());
    while kind == RUNS && weights.len() < labels.len() {
        let run = cursor.count(labels.len() - weights.len()).filter(|run| *run > 0)?;
        let weight = number(cursor)?;
        weights.resize(weights.len() + run, weight);
    }
    (kind == RUNS).then_some(weights)
}
