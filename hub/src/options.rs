//! [`HubOptions`]: the hub settings of the user's environment. The variables are those of the Python tools and
//! mean the same; they are read once, and no other module looks at the environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The addresses of the hub and its cache, and the settings of requests.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Address of the hub, without a slash at the end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Folder that holds `models--owner--name` (`HF_HUB_CACHE`, else `HF_HOME/hub`).
    pub cache: PathBuf,
    /// Access token, sent to the endpoint only, never to where it redirects (`HF_TOKEN`, else the token file).
    pub token: Option<Token>,
    /// Make no request and use only what is cached (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`).
    pub offline: bool,
    /// Certificates to trust in place of the built-in ones, as PEM (`SSL_CERT_FILE`,
    /// `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`).
    pub certificates: Option<PathBuf>,
    /// How often a failed request is repeated.
    pub retries: u32,
    /// Pause before the first retry; it doubles with each one, up to 30 seconds.
    pub backoff: Duration,
    /// How long to wait for a connection and for the next bytes (`HF_HUB_DOWNLOAD_TIMEOUT`, in seconds).
    pub timeout: Duration,
    /// Show progress on stderr (off with `HF_HUB_DISABLE_PROGRESS_BARS`). Warnings are always shown.
    pub progress: bool,
}

impl HubOptions {
    /// The public hub with this cache folder, without a token, online.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_string(),
            cache: cache.into(),
            token: None,
            offline: false,
            certificates: None,
            retries: 5,
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            progress: true,
        }
    }

    /// The options of this process's environment.
    ///
    /// # Errors
    /// [`HubError::Setting`] for a variable whose value is not valid.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`HubOptions::from_env`], but from any source of variables. An empty variable counts as unset.
    ///
    /// # Errors
    /// As [`HubOptions::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let user_home = set("HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let folder = |name: &str| set(name).map(|value| expand_home(&value, &user_home));
        let home = folder("HF_HOME").unwrap_or_else(|| {
            folder("XDG_CACHE_HOME").unwrap_or_else(|| user_home.join(".cache")).join("huggingface")
        });
        let cache =
            folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file).ok())
            .map(|text| text.trim().to_string())
            .filter(|text| !text.is_empty());
        let is_true = |name: &str| set(name).is_some_and(|value| is_true(&value));
        let mut options = Self::new(cache);
        let wrong =
            |variable, value: &str, expected| HubError::Setting { variable, value: value.to_string(), expected };
        if let Some(endpoint) = set("HF_ENDPOINT") {
            let endpoint = endpoint.trim().trim_end_matches('/');
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(wrong("HF_ENDPOINT", endpoint, "an address such as https://huggingface.co"));
            }
            options.endpoint = endpoint.to_string();
        }
        if let Some(seconds) = set("HF_HUB_DOWNLOAD_TIMEOUT") {
            match seconds.trim().parse() {
                Ok(number @ 1..) => options.timeout = Duration::from_secs(number),
                _ => return Err(wrong("HF_HUB_DOWNLOAD_TIMEOUT", &seconds, "a whole number of seconds, at least 1")),
            }
        }
        options.token = token.map(Token::new);
        options.offline = is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE");
        options.certificates = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].into_iter().find_map(folder);
        options.progress = !is_true("HF_HUB_DISABLE_PROGRESS_BARS");
        Ok(options)
    }
}

/// An access token. Its text never appears in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token as the hub's settings page displays it (`hf_...`).
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn expand_home(value: &str, home: &Path) -> PathBuf {
    match value.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        })
        .unwrap()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables| options(variables).cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
    }

    #[test]
    fn the_token_variable_wins_over_the_token_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", home)]).token, Some(Token::new("from_file")));
        let both = options(&[("HF_HOME", home), ("HF_TOKEN", " from_variable ")]);
        assert_eq!(both.token, Some(Token::new("from_variable")));
        assert!(!format!("{both:?}").contains("from_variable"));
    }

    #[test]
    fn a_value_that_means_nothing_is_an_error_with_its_variable() {
        for (variable, value) in [("HF_ENDPOINT", "huggingface.co"), ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")] {
            let options = HubOptions::from_variables(|name| (name == variable).then(|| value.to_string()));
            let error = options.unwrap_err().to_string();
            assert!(error.contains(variable) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn switches_read_as_python_reads_them() {
        assert!(!options(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(!options(&[("HF_HUB_OFFLINE", "")]).offline);
        assert!(options(&[("HF_HUB_OFFLINE", "1")]).offline);
        assert!(options(&[("TRANSFORMERS_OFFLINE", "true")]).offline);
        assert_eq!(options(&[("HF_ENDPOINT", "http://127.0.0.1:9/")]).endpoint, "http://127.0.0.1:9");
    }
}
