//! What is wrong with a file of Arrow IPC.

/// What is wrong with a file.
pub(super) enum Problem {
    Refused(String),
    Unreadable(std::io::Error),
}

impl From<std::io::Error> for Problem {
    fn from(problem: std::io::Error) -> Self {
        Self::Unreadable(problem)
    }
}
