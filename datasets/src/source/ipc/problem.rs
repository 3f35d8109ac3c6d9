//! The problems of an Arrow IPC file: [`Problem`].

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
