//! [`AccountingError`]: the tensors of files and model that do not match one to one.

use std::fmt;
use std::path::PathBuf;

use crate::wording::nearest_note;

/// The tensors of files and model do not match one to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct AccountingError {
    pub path: PathBuf,
    pub missing: Vec<Missing>,
    pub unused: Vec<Unused>,
    pub doubled: Vec<Doubled>,
    pub misshapen: Vec<Misshapen>,
}

/// A tensor that the model needs and the files do not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The name that it would have in a file.
    pub theirs: String,
    /// The most similar unused tensor.
    pub nearest: Option<String>,
}

/// A tensor that the files hold and the model does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    pub theirs: String,
    /// The most similar missing tensor.
    pub nearest: Option<String>,
}

/// A tensor that the files hold under several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubled {
    pub ours: String,
    pub theirs: Vec<String>,
}

/// A tensor whose shape differs from the one in the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    pub theirs: String,
    pub expected: Vec<usize>,
    pub found: Vec<usize>,
}

impl fmt::Display for AccountingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccountingError { path, missing, unused, doubled, misshapen } = self;
        write!(
            f,
            "{}: the tensors are not those of the model ({} missing, {} unused, {} twice, {} of another shape)",
            path.display(),
            missing.len(),
            unused.len(),
            doubled.len(),
            misshapen.len()
        )?;
        let near = |nearest: &Option<String>| nearest_note(nearest.as_deref());
        let missing = missing.iter().map(|it| format!("missing: `{}`{}", it.theirs, near(&it.nearest)));
        let unused = unused.iter().map(|it| format!("unused: `{}`{}", it.theirs, near(&it.nearest)));
        let doubled = doubled.iter().map(|it| format!("twice: `{}`, as `{}`", it.ours, it.theirs.join("` and `")));
        let misshapen = misshapen
            .iter()
            .map(|it| format!("shape: `{}`: expected {:?}, found {:?}", it.theirs, it.expected, it.found));
        list(f, missing)?;
        list(f, unused)?;
        list(f, doubled)?;
        list(f, misshapen)
    }
}

/// The first lines of one kind of problem: a wrong prefix is in every name, so a few are enough.
fn list(f: &mut fmt::Formatter<'_>, lines: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    const SHOWN: usize = 12;
    let more = lines.len().saturating_sub(SHOWN);
    for line in lines.take(SHOWN) {
        write!(f, "\n  {line}")?;
    }
    if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
}
