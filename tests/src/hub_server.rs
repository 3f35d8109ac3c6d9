//! A small hub on 127.0.0.1, for tests: the addresses that fetching a model uses, ranges, tokens, gated
//! models, and faults on demand.
//!
//! It does as the real one does where that matters: `.safetensors` and `.parquet` files go by their sha256 and are
//! redirected to a second address (a storage server, which must never see the token), other files go by
//! their git blob id; listings come in pages; refusals carry the hub's error codes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Few, so that every listing has several pages.
const ENTRIES_PER_PAGE: usize = 4;

/// What goes wrong with the contents of one file.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection closes after this many bytes of the body.
    CutAfter(usize),
    /// The byte at this position is another one.
    Flip(usize),
    /// The body is shorter by so many bytes, and the headers agree with it.
    Short(usize),
    /// The whole file is sent whatever range was asked for.
    IgnoreRange,
    /// This status, and no body.
    Status(u16),
    /// A pause after every 16 KiB.
    Slow(Duration),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Whether it went to the storage server.
    pub storage: bool,
}

#[derive(Default)]
struct State {
    hub: String,
    storage: String,
    /// Repository (`owner/name`, or `datasets/owner/name`), then commit, then path, to content.
    repositories: BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    /// Repository and revision, to commit.
    revisions: BTreeMap<(String, String), String>,
    /// Repository, to the token it wants and whether it is gated (else private).
    guarded: BTreeMap<String, (String, bool)>,
    /// Path in the repository (or `revision`, the first listing), with how often the fault still occurs.
    faults: Vec<(String, Fault, usize)>,
    /// Entries for the listing that no repository has.
    extra_entries: Vec<Value>,
    requests: Vec<Request>,
}

/// A running server; it ends with the process.
pub struct HubServer {
    state: Arc<Mutex<State>>,
}

impl HubServer {
    /// Starts on two free ports.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start() -> std::io::Result<Self> {
        let hub = TcpListener::bind("127.0.0.1:0")?;
        let storage = TcpListener::bind("127.0.0.1:0")?;
        let state = State {
            hub: format!("http://{}", hub.local_addr()?),
            storage: format!("http://{}", storage.local_addr()?),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that hangs up is its own test's business.
                    std::thread::spawn(move || answer(stream, &state, is_storage).ok());
                }
            });
        }
        Ok(Self { state })
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.lock().hub.clone()
    }

    /// A new commit of `repository` with exactly these files, which `revisions` now mean; its hash.
    pub fn publish(&self, repository: &str, revisions: &[&str], files: &[(&str, &[u8])]) -> String {
        let mut state = self.lock();
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, content)| (path.to_string(), content.to_vec())).collect();
        let mut hasher = Sha1::new();
        for (path, content) in &files {
            hasher.update(path);
            hasher.update(content);
        }
        let commit = hex(&hasher.finalize());
        state.repositories.entry(repository.to_string()).or_default().insert(commit.clone(), files);
        for revision in revisions {
            state.revisions.insert((repository.to_string(), revision.to_string()), commit.clone());
        }
        commit
    }

    /// Lets only `token` see `repository`, which is gated or else private.
    pub fn guard(&self, repository: &str, token: &str, gated: bool) {
        self.lock().guarded.insert(repository.to_string(), (token.to_string(), gated));
    }

    /// The next `times` requests for `path` go wrong.
    pub fn fail(&self, path: &str, fault: Fault, times: usize) {
        self.lock().faults.push((path.to_string(), fault, times));
    }

    /// Listings also hold this entry, which no repository has.
    pub fn list_also(&self, entry: Value) {
        self.lock().extra_entries.push(entry);
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fault(&mut self, path: &str) -> Option<Fault> {
        let (_, fault, times) = self.faults.iter_mut().find(|(name, _, times)| name == path && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
    }

    fn commit_of(&self, repository: &str, revision: &str) -> Option<String> {
        if self.repositories.get(repository)?.contains_key(revision) {
            return Some(revision.to_string());
        }
        self.revisions.get(&(repository.to_string(), revision.to_string())).cloned()
    }

    /// What the hub answers instead if this request may not see the repository.
    fn refusal(&self, repository: &str, request: &Request) -> Option<Reply> {
        let token = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match (self.repositories.contains_key(repository), self.guarded.get(repository), token) {
            (true, None, _) => None,
            (true, Some((wanted, _)), Some(token)) if wanted == token => None,
            (true, Some((_, true)), None) => Some(Reply::refuse(401, "GatedRepo")),
            (true, Some((_, true)), Some(_)) => Some(Reply::refuse(403, "GatedRepo")),
            (_, _, Some("expired")) => Some(Reply::refuse(401, "")),
            // The hub does not tell a private model from none.
            (_, _, None) => Some(Reply::refuse(401, "RepoNotFound")),
            (_, _, Some(_)) => Some(Reply::refuse(404, "RepoNotFound")),
        }
    }

    fn hub_reply(&mut self, request: &Request) -> Reply {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (repository, verb, revision, file) = match parts[..] {
            ["api", "models", owner, name, verb, revision] => {
                (format!("{owner}/{name}"), verb, revision, String::new())
            }
            ["api", "datasets", owner, name, verb, revision] => {
                (format!("datasets/{owner}/{name}"), verb, revision, String::new())
            }
            ["datasets", owner, name, "resolve", revision, ref file @ ..] => {
                (format!("datasets/{owner}/{name}"), "resolve", revision, file.join("/"))
            }
            [owner, name, "resolve", revision, ref file @ ..] => {
                (format!("{owner}/{name}"), "resolve", revision, file.join("/"))
            }
            _ => return Reply::refuse(404, ""),
        };
        let file = unescaped(&file);
        let file = file.as_str();
        if let Some(refusal) = self.refusal(&repository, request) {
            return refusal;
        }
        let Some(commit) = self.commit_of(&repository, &revision.replace("%2F", "/")) else {
            return Reply::refuse(404, "RevisionNotFound");
        };
        match verb {
            "revision" => match self.fault("revision") {
                Some(Fault::Status(status)) => Reply::refuse(status, ""),
                _ => Reply::json(&json!({"id": repository, "sha": commit})),
            },
            "tree" => self.tree_reply(&repository, &commit, path, query),
            "resolve" => self.file_reply(&repository, &commit, file, request),
            _ => Reply::refuse(404, ""),
        }
    }

    fn tree_reply(&self, repository: &str, commit: &str, path: &str, query: &str) -> Reply {
        let entry = |(path, content): (&String, &Vec<u8>)| match is_large(path) {
            true => json!({"type": "file", "path": path, "size": content.len(), "oid": git_blob_id(b"pointer"),
                "lfs": {"oid": sha256(content), "size": content.len(), "pointerSize": 130}}),
            false => json!({"type": "file", "path": path, "size": content.len(), "oid": git_blob_id(content)}),
        };
        let mut entries: Vec<Value> = self.repositories[repository][commit].iter().map(entry).collect();
        entries.extend(self.extra_entries.iter().cloned());
        let start = query.split("cursor=").nth(1).and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let rest = entries.get(start..).unwrap_or_default();
        let page = rest.get(..ENTRIES_PER_PAGE).unwrap_or(rest);
        let mut reply = Reply::json(&json!(page));
        let next = start + page.len();
        if next < entries.len() {
            let link = format!("<{}{path}?recursive=true&cursor={next}>; rel=\"next\"", self.hub);
            reply.headers.push(("Link", link));
        }
        reply
    }

    fn file_reply(&mut self, repository: &str, commit: &str, file: &str, request: &Request) -> Reply {
        let Some(content) = self.repositories[repository][commit].get(file).cloned() else {
            return Reply::refuse(404, "EntryNotFound");
        };
        if is_large(file) {
            let mut reply = Reply::refuse(302, "");
            let address = format!("{}/{repository}/{commit}/{file}", self.storage);
            reply.headers.push(("Location", address));
            return reply;
        }
        self.content_reply(file, content, request)
    }

    fn storage_reply(&mut self, request: &Request) -> Reply {
        let parts: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
        let (repository, commit, file) = match parts[..] {
            ["datasets", owner, name, commit, ref file @ ..] => {
                (format!("datasets/{owner}/{name}"), commit, file.join("/"))
            }
            [owner, name, commit, file] => (format!("{owner}/{name}"), commit, file.to_string()),
            _ => return Reply::refuse(404, ""),
        };
        let file = file.as_str();
        let commits = self.repositories.get(&repository);
        match commits.and_then(|commits| commits.get(commit)?.get(file)).cloned() {
            Some(content) => self.content_reply(file, content, request),
            None => Reply::refuse(404, ""),
        }
    }

    fn content_reply(&mut self, file: &str, mut content: Vec<u8>, request: &Request) -> Reply {
        let fault = self.fault(file);
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let mut start = range.and_then(|start| start.parse().ok());
        match fault {
            Some(Fault::Status(status)) => return Reply::refuse(status, ""),
            Some(Fault::Flip(position)) => content[position] ^= 1,
            Some(Fault::Short(bytes)) => content.truncate(content.len() - bytes),
            Some(Fault::IgnoreRange) => start = None,
            Some(Fault::CutAfter(_) | Fault::Slow(_)) | None => {}
        }
        let total = content.len();
        let mut reply = match start {
            None => Reply { status: 200, headers: Vec::new(), body: content, fault: None },
            Some(start) if start < total => {
                let range = format!("bytes {start}-{}/{total}", total - 1);
                Reply {
                    status: 206,
                    headers: vec![("Content-Range", range)],
                    body: content.split_off(start),
                    fault: None,
                }
            }
            Some(_) => Reply::refuse(416, ""),
        };
        reply.fault = fault;
        reply
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Reply {
    fn json(value: &Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: value.to_string().into_bytes(), fault: None }
    }

    /// A status without a body; `code` is the hub's word for the reason.
    fn refuse(status: u16, code: &str) -> Self {
        let headers = match code {
            "" => Vec::new(),
            code => vec![("X-Error-Code", code.to_string())],
        };
        Self { status, headers, body: Vec::new(), fault: None }
    }
}

/// Reads one request, answers it, and closes the connection.
fn answer(stream: TcpStream, state: &Mutex<State>, storage: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_string()),
            None => break,
        };
    }
    let request = Request { target, headers, storage };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(request.clone());
        match storage {
            true => state.storage_reply(&request),
            false => state.hub_reply(&request),
        }
    };
    send(stream, &reply)
}

fn send(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.body.len()));
    stream.write_all(head.as_bytes())?;
    match reply.fault {
        Some(Fault::CutAfter(bytes)) => stream.write_all(&reply.body[..bytes.min(reply.body.len())]),
        Some(Fault::Slow(pause)) => reply.body.chunks(16 << 10).try_for_each(|piece| {
            std::thread::sleep(pause);
            stream.write_all(piece)
        }),
        _ => stream.write_all(&reply.body),
    }
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".parquet")
}

/// In lower-case hexadecimal.
pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// As `git hash-object` computes it.
pub fn git_blob_id(content: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path of an address, its escapes read.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2.min(part.len()));
        bytes.push(u8::from_str_radix(code, 16).unwrap_or(b'?'));
        bytes.extend(rest.bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
