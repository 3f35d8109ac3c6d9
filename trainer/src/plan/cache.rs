//! The folder in which prepared rows are cached: [`folder`].

use std::path::PathBuf;

/// The cache folder: `FIREBRAND_CACHE`, else `firebrand` in the platform's cache folder (`XDG_CACHE_HOME` or
/// `~/.cache`; `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows). `None` if the user has no home folder.
pub fn folder() -> Option<PathBuf> {
    from_variables(|name| std::env::var_os(name).map(PathBuf::from), std::env::home_dir())
}

/// An empty variable counts as unset.
fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let platform = || {
        let home = home.filter(|home| !home.as_os_str().is_empty());
        if cfg!(target_os = "macos") {
            home.map(|home| home.join("Library/Caches"))
        } else if cfg!(windows) {
            set("LOCALAPPDATA")
        } else {
            home.map(|home| home.join(".cache"))
        }
    };
    set("FIREBRAND_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(platform)?.join("firebrand")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let folder = |variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            from_variables(variable, None)
        };
        assert_eq!(folder(&[("FIREBRAND_CACHE", "c")]).as_deref(), Some(Path::new("c")));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/x")]).as_deref(), Some(Path::new("/x/firebrand")));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/x"), ("FIREBRAND_CACHE", "/c")]).as_deref(), Some(Path::new("/c")));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "relative"), ("FIREBRAND_CACHE", "")]), None);
    }
}
