//! What is wrong where the tensors of files and model do not match one to one.

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

/// The model needs it, the files do not hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The name it would have in a file.
    pub theirs: String,
    /// The most similar unused tensor.
    pub nearest: Option<String>,
}

/// The files hold it, nothing needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    pub theirs: String,
    /// The most similar missing tensor.
    pub nearest: Option<String>,
}

/// The files hold it under several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubled {
    pub ours: String,
    pub theirs: Vec<String>,
}

/// It is there in another shape than the config says.
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

/// The first lines of one kind: one wrong prefix is in every tensor's name, and says so in a few.
fn list(f: &mut fmt::Formatter<'_>, lines: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    const SHOWN: usize = 12;
    let more = lines.len().saturating_sub(SHOWN);
    for line in lines.take(SHOWN) {
        write!(f, "\n  {line}")?;
    }
    if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
}
