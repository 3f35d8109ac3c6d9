//! The HTTP client of the hub, [`Client`]: resolves revisions, lists files, opens files, and turns refusals into
//! errors.
//!
//! Redirects are followed here and not by the `ureq` agent, which ignores the port when it compares hosts:
//! large files are on other servers, which must not see the token and need none. Compression is declined,
//! because a byte range must be a range of the file's own bytes.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use hf_hub::Repo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::HubError;
use crate::files;
use crate::id::{HubId, is_commit};
use crate::options::HubOptions;
use crate::tree::{Entry, Tree};

/// The longest answer accepted from a listing address, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The most pages of a listing (the hub gives 1000 entries a page).
const MOST_PAGES: usize = 1000;
/// Few retries, because listings are small and a user should soon be told that the hub is down.
const LISTING_RETRIES: u32 = 2;
const MOST_REDIRECTS: usize = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A client for one model or dataset of one hub.
pub(crate) struct Client<'a> {
    agent: Agent,
    authorization: Option<String>,
    options: &'a HubOptions,
    id: &'a HubId,
}

impl<'a> Client<'a> {
    pub fn new(id: &'a HubId, options: &'a HubOptions) -> Result<Self, HubError> {
        let authorization = match &options.token {
            Some(token) if token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) => {
                Some(format!("Bearer {}", token.reveal()))
            }
            Some(_) => return Err(HubError::MalformedToken),
            None => None,
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("firebrand/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(options.timeout))
            .timeout_per_read(Some(options.timeout));
        if is_loopback(&options.endpoint) {
            // A proxy on another machine cannot reach a hub on this machine.
            config = config.proxy(None);
        }
        if let Some(path) = &options.certificates {
            let pem = std::fs::read(path).map_err(HubError::io("read the certificates", path))?;
            let certificates = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let roots = RootCerts::Specific(Arc::new(certificates.collect()));
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { agent: config.build().into(), authorization, options, id })
    }

    /// The commit that the id's revision currently names.
    pub fn commit(&self) -> Result<String, HubError> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        let address = format!("{}/api/{}", self.options.endpoint, self.repo(self.id.revision()).api_url());
        let (info, _): (Info, _) = self.listing(&address)?;
        match is_commit(&info.sha) {
            true => Ok(info.sha),
            false => Err(HubError::Answer { address, detail: "the commit is no hash".to_string() }),
        }
    }

    /// All files of a commit.
    pub fn tree(&self, commit: &str) -> Result<Tree, HubError> {
        let endpoint = &self.options.endpoint;
        let mut address =
            format!("{endpoint}/api/{}/{}/tree/{commit}?recursive=true", self.id.plural(), self.id.repo());
        let mut entries: Vec<Entry> = Vec::new();
        for _ in 0..MOST_PAGES {
            let (page, next): (Vec<Entry>, _) = self.listing(&address)?;
            entries.extend(page);
            match next {
                // The token is sent with each request, so a next page at another address is not followed.
                Some(next) if next.starts_with(&format!("{endpoint}/")) => address = next,
                Some(next) => {
                    return Err(HubError::Answer { address, detail: format!("the next page is at {next}") });
                }
                None => return Ok(Tree::from_entries(entries)),
            }
        }
        Err(HubError::Answer { address, detail: "the listing does not end".to_string() })
    }

    /// Opens `file` of a commit for reading from byte `start`. The response is a success (200, 206) or an
    /// unsatisfiable range (416); anything else is an error.
    pub fn open(&self, commit: &str, file: &str, start: u64) -> Result<Response<Body>, HubError> {
        let repo = self.repo(commit);
        let address = format!(
            "{}/{}/resolve/{}/{}",
            self.options.endpoint,
            repo.url(),
            repo.url_revision(),
            files::escaped(file)
        );
        let response = self.get(&address, (start > 0).then(|| format!("bytes={start}-")))?;
        match response.status().as_u16() {
            200 | 206 | 416 => Ok(response),
            404 => Err(HubError::MissingFile {
                id: self.id.to_string(),
                file: file.to_string(),
                needed_by: "the hub lists but does not have (HTTP 404)".to_string(),
            }),
            _ => Err(self.refusal(&address, response)),
        }
    }

    /// How long to wait before retry number `retry` (from 0) after `error`; `None` if a retry cannot help.
    pub fn pause(&self, error: &HubError, retry: u32) -> Option<Duration> {
        let helps = match error {
            HubError::Network { .. } | HubError::Cut { .. } => true,
            HubError::Server { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        };
        let doubled = self.options.backoff.saturating_mul(1 << retry.min(10));
        (helps && retry < self.options.retries).then(|| doubled.min(LONGEST_PAUSE))
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.repo(), self.id.repo_type(), revision.to_string())
    }

    /// A JSON response, and the address of its next page if there is one.
    fn listing<T: DeserializeOwned>(&self, address: &str) -> Result<(T, Option<String>), HubError> {
        let mut retry = 0;
        loop {
            let error = match self.get(address, None) {
                Ok(response) if response.status().is_success() => {
                    return read_json(address, response);
                }
                Ok(response) => self.refusal(address, response),
                // A hub that cannot be connected to is reported without a retry.
                Err(error) => return Err(error),
            };
            match self.pause(&error, retry).filter(|_| retry < LISTING_RETRIES) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(error),
            }
            retry += 1;
        }
    }

    /// Requests `address` and follows redirects. The token is sent only to the endpoint's own origin, also
    /// after a redirect; another port is another origin.
    fn get(&self, address: &str, range: Option<String>) -> Result<Response<Body>, HubError> {
        let mut target = address.to_string();
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.get(&target);
            if let Some(authorization) = &self.authorization
                && origin(&target) == origin(&self.options.endpoint)
            {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            if let Some(range) = &range {
                request = request.header(header::RANGE, range);
            }
            let response = request.call().map_err(|error| HubError::Network {
                // Without the query, which may contain a signature.
                address: target.split('?').next().unwrap_or(&target).to_string(),
                detail: error.to_string(),
            })?;
            let location = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                .then(|| response.headers().get(header::LOCATION)?.to_str().ok())
                .flatten();
            match location {
                Some(path) if path.starts_with('/') => target = format!("{}{path}", origin(&target)),
                Some(location) => target = location.to_string(),
                None => return Ok(response),
            }
        }
        Err(HubError::Answer { address: address.to_string(), detail: "too many redirects".to_string() })
    }

    /// The error that an unsuccessful response stands for. The hub answers 401 for models whose existence it
    /// hides, so the error code in its headers is looked at first.
    fn refusal(&self, address: &str, mut response: Response<Body>) -> HubError {
        let status = response.status().as_u16();
        let code = text_header(response.headers(), "x-error-code").unwrap_or_default();
        let message = text_header(response.headers(), "x-error-message").unwrap_or_default();
        // The short body is read so that the connection can be used again.
        let _ = response.body_mut().with_config().limit(64 << 10).read_to_vec();
        let (repo, endpoint) = (self.id.place(), self.options.endpoint.clone());
        let who = match self.options.token {
            Some(_) => "your token",
            None => "an anonymous user (no HF_TOKEN is set)",
        };
        let message = if message.is_empty() { message } else { format!(", {message}") };
        match (code.as_str(), status) {
            ("GatedRepo", _) => HubError::Gated { repo, endpoint, who, status },
            ("RevisionNotFound", _) => {
                HubError::UnknownRevision { repo, revision: self.id.revision().to_string(), endpoint }
            }
            ("RepoNotFound", _) | (_, 404) => HubError::UnknownModel { repo, endpoint, who, status },
            (_, 401) if self.options.token.is_none() => HubError::UnknownModel { repo, endpoint, who, status },
            (_, 401 | 403) => HubError::Refused { repo, endpoint, who, status, message },
            (_, 429 | 500..) => HubError::Server { address: endpoint, status, message },
            _ => HubError::Answer { address: address.to_string(), detail: format!("HTTP {status}{message}") },
        }
    }
}

fn read_json<T: DeserializeOwned>(address: &str, response: Response<Body>) -> Result<(T, Option<String>), HubError> {
    let next = text_header(response.headers(), "link").and_then(|link| next_page(&link));
    let mut text = Vec::new();
    let mut body = response.into_body().into_with_config().limit(LONGEST_ANSWER).reader();
    body.read_to_end(&mut text)
        .map_err(|error| HubError::Network { address: address.to_string(), detail: error.to_string() })?;
    let value = serde_json::from_slice(&text)
        .map_err(|error| HubError::Answer { address: address.to_string(), detail: error.to_string() })?;
    Ok((value, next))
}

/// A header as printable text, cut to a length that fits into a message.
fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().filter(|c| !c.is_control()).take(2000).collect())
}

/// Scheme, host and port of an address.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |scheme| scheme + 3);
    let end = address[host..].find(['/', '?', '#']).map_or(address.len(), |length| host + length);
    &address[..end]
}

/// The address marked `rel="next"` in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    rest.split_once('>').map(|(address, _)| address.to_string())
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    ["127.0.0.1", "localhost", "[::1]"]
        .into_iter()
        .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_the_link_header() {
        let link = r#"<https://h/api?cursor=a%3D>; rel="next", <https://h/>; rel="first""#;
        assert_eq!(next_page(link).as_deref(), Some("https://h/api?cursor=a%3D"));
        assert_eq!(next_page(r#"<https://h/>; rel="first""#), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://h:1/a/b?c=http://x/"), "https://h:1");
        assert_eq!(origin("https://h"), "https://h");
        assert_ne!(origin("https://h.evil.org/"), origin("https://h/"));
        assert_ne!(origin("https://h:2/"), origin("https://h:1/"));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        assert!(is_loopback("http://127.0.0.1:80") && is_loopback("http://localhost/hf"));
        assert!(!is_loopback("http://127.0.0.1.example.org") && !is_loopback("https://huggingface.co"));
    }
}
