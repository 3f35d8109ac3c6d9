//! The `~` of paths: [`expanded`]. Shells expand it only where it begins a word, so not in `--out=~/x`, in quotes, and in a
//! recipe.

use std::path::{Component, Path, PathBuf};

/// The path with a first part `~` replaced by the user's home folder. `~name`, a home folder of somebody else or the name of
/// a file, and environment variables stay as they are.
pub fn expanded(path: &Path) -> PathBuf {
    within(path, std::env::home_dir().as_deref())
}

/// The same for a path in a text; an address or hub id is unchanged.
pub fn expanded_text(text: &str) -> String {
    match text.starts_with('~') {
        true => expanded(Path::new(text)).to_str().map_or_else(|| text.to_owned(), str::to_owned),
        false => text.to_owned(),
    }
}

fn within(path: &Path, home: Option<&Path>) -> PathBuf {
    let mut parts = path.components();
    match (parts.next(), home.filter(|home| !home.as_os_str().is_empty())) {
        (Some(Component::Normal(first)), Some(home)) if first == "~" => home.join(parts.as_path()),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_tilde_is_the_home_folder() {
        let home = Path::new("/home/ada");
        for (text, path) in [
            ("~", "/home/ada"),
            ("~/", "/home/ada"),
            ("~/x/y.jsonl", "/home/ada/x/y.jsonl"),
            ("~/*.jsonl", "/home/ada/*.jsonl"),
            ("~bob/x", "~bob/x"),
            ("~notes.jsonl", "~notes.jsonl"),
            ("./~/x", "./~/x"),
            ("a/~/x", "a/~/x"),
            ("/~/x", "/~/x"),
            ("$HOME/x", "$HOME/x"),
            ("owner/name@main", "owner/name@main"),
        ] {
            assert_eq!(within(Path::new(text), Some(home)), Path::new(path), "{text}");
        }
        assert_eq!(within(Path::new("~/x"), None), Path::new("~/x"));
        assert_eq!(within(Path::new("~/x"), Some(Path::new(""))), Path::new("~/x"));
    }
}
