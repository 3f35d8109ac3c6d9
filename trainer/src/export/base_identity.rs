//! Which base an adapter was trained on: [`fingerprint`] is written beside it, [`check_base`] compares it with a model.
//!
//! The fingerprint is over every tensor's name, dtype and shape, and over bytes at even distances in it. So it does not
//! depend on how a model is divided into files, it costs no more than opening them, and any training or merging that
//! changes a matrix changes it. A few changed rows of a large table may escape it.

use std::path::{Path, PathBuf};

use firebrand_models::adapter_folder::read_config;
use firebrand_models::weights::Checkpoint;

use super::companions;
use crate::error::Error;
use crate::run::sha256_bytes;

/// The number of pieces read of a tensor.
const PIECES: usize = 64;
/// Their length in bytes.
const PIECE: usize = 64;

/// Whether adapters may be put on another base than they were trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherBase {
    /// It is an error.
    Refused,
    /// It is what the user asks for.
    Allowed,
}

/// The fingerprint of the weights in a model folder, in lower-case hexadecimal.
///
/// # Errors
/// Weights that are missing or damaged.
pub fn fingerprint(folder: &Path) -> Result<String, Error> {
    let checkpoint = Checkpoint::open(folder)?;
    let mut names: Vec<&str> = checkpoint.names().collect();
    names.sort_unstable();
    let mut seen: Vec<u8> = vec![];
    for name in names {
        let view = checkpoint.get(name)?;
        let bytes = view.bytes();
        let mut summary = format!("{name} {} {:?}\n", view.dtype.name(), view.shape).into_bytes();
        let last = bytes.len().saturating_sub(PIECE);
        for piece in 0..PIECES {
            let start = last / (PIECES - 1) * piece;
            summary.extend(&bytes[start..(start + PIECE).min(bytes.len())]);
        }
        summary.extend(&bytes[last..]);
        drop(bytes);
        checkpoint.release(&view);
        seen.extend(sha256_bytes(&summary).into_bytes());
    }
    Ok(sha256_bytes(&seen))
}

/// Compares the base that each adapter was trained on with the model in `folder`, which the user calls `model`. Returns
/// notes about adapters that only name their base, and name another.
///
/// # Errors
/// An adapter of another base, unless that is allowed; files that cannot be read.
pub fn check_base(folder: &Path, model: &str, adapters: &[PathBuf], other: OtherBase) -> Result<Vec<String>, Error> {
    let mut notes = vec![];
    let mut found = None;
    for adapter in adapters {
        let named = read_config(adapter)?.base_model;
        match companions::training_base(adapter)? {
            Some(trained) => {
                let found = match &found {
                    Some(found) => found,
                    None => found.insert(fingerprint(folder)?),
                };
                if trained == *found {
                    continue;
                }
                let (adapter, folder) = (adapter.display(), folder.display());
                let named = named.map_or_else(String::new, |named| format!(" (`{named}`)"));
                let problem = format!(
                    "the adapter in {adapter} was trained on another base{named}: the weights in {folder} are not those"
                );
                match other {
                    OtherBase::Refused => {
                        let help = "name the model that it was trained on, or go on with this one by --other-base";
                        return Err(Error::Request { problem, help: help.into() });
                    }
                    OtherBase::Allowed => notes.push(problem),
                }
            }
            None => {
                if let Some(named) = named.filter(|named| last_name(named) != last_name(model)) {
                    let adapter = adapter.display();
                    notes.push(format!(
                        "the adapter in {adapter} names `{named}` as its base, and the model is {model}"
                    ));
                }
            }
        }
    }
    Ok(notes)
}

/// The last part of a path or hub id, without a revision.
fn last_name(name: &str) -> String {
    let name = name.trim_end_matches(['/', '\\']);
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    last.split('@').next().unwrap_or(last).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_model_agree_however_they_are_written() {
        for same in ["a/Base-7b", "/models/base-7b/", "Base-7B@main", r"C:\models\Base-7b"] {
            assert_eq!(last_name(same), "base-7b");
        }
    }
}
