//! The project's own source files, as its tests of structure read them.

use std::fs;
use std::path::PathBuf;

use crate::repository;

/// A source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// All Rust files under a folder of the repository, by path.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = repository();
    let mut found = vec![];
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().components();
                let path = path.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(!found.is_empty(), "{folder} holds Rust files");
    found
}

impl Source {
    /// Whether the whole file is only there for tests.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || name == "tests.rs" || name == "testing.rs"
    }

    /// The lines that are part of the program, with their numbers: no comments, no test modules.
    pub fn code(&self) -> Vec<(usize, &str)> {
        if self.is_test() {
            return vec![];
        }
        let mut code = vec![];
        let mut lines = self.text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let is_test =
                line.trim_start().starts_with("#[cfg(") && line.contains("test") && !line.contains("not(test");
            if is_test {
                // The item under the attribute goes to the line that closes it, at the same depth.
                let depth = line.len() - line.trim_start().len();
                for (_, line) in lines.by_ref() {
                    let starts_here = line.len() - line.trim_start().len() == depth;
                    let ends = line.trim_end().ends_with([';', '}']) && !line.trim_start().starts_with("#[");
                    if starts_here && ends {
                        break;
                    }
                }
                continue;
            }
            if !line.trim_start().starts_with("//") {
                code.push((index + 1, line));
            }
        }
        code
    }
}
