//! Downloads one file into the cache, [`Job::run`]: it resumes a partial file and checks the hash.
//!
//! Bytes are written to `<hash>.incomplete` and hashed as they arrive. When all are there and the hash is the
//! one the hub stated, the file is synced and renamed; otherwise it is deleted. A partial file from an
//! earlier run is not trusted: if the final hash is wrong, the file is fetched once more from its
//! beginning.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use firebrand_files::keep;
use ureq::Body;
use ureq::http::{Response, header};

use crate::cache::create_parent;
use crate::client::Client;
use crate::digest::{Digest, Hasher, PIECE};
use crate::error::HubError;
use crate::progress::Progress;

/// After this many bytes the retries are counted from 0 again, so that a long download on a poor line can finish.
const WORTHWHILE: u64 = 1 << 20;

/// A file to fetch, and its expected size and hash.
pub(crate) struct Job<'a> {
    pub name: &'a str,
    /// In bytes.
    pub size: u64,
    pub digest: Digest,
}

impl Job<'_> {
    /// Fetches the file of `commit` to `blob`.
    ///
    /// # Errors
    /// See [`HubError`]. After [`HubError::Cut`] and errors of the disk the partial file stays and the next
    /// call resumes from it; after a wrong size or hash it is deleted.
    pub fn run(&self, client: &Client, commit: &str, blob: &Path, progress: &mut Progress) -> Result<(), HubError> {
        create_parent(blob)?;
        let mut partial = Partial::open(self, blob.with_extension("incomplete"))?;
        progress.start(self.name, partial.length);
        let mut inherited = partial.length > 0;
        loop {
            if let Err(error) = self.fill(client, commit, &mut partial, progress) {
                if matches!(error, HubError::Size { .. }) {
                    partial.remove()?;
                }
                return Err(error);
            }
            let found = partial.hex();
            if found == self.digest.hex() {
                return partial.keep_as(blob);
            }
            if !inherited {
                partial.remove()?;
                return Err(HubError::Checksum {
                    file: self.name.to_string(),
                    kind: self.digest.name(),
                    expected: self.digest.hex().to_string(),
                    found,
                });
            }
            inherited = false;
            partial.restart(self)?;
            progress.restart();
        }
    }

    /// Sends requests until every byte is there, over as many connections as it takes.
    fn fill(
        &self,
        client: &Client,
        commit: &str,
        partial: &mut Partial,
        progress: &mut Progress,
    ) -> Result<(), HubError> {
        let mut retry = 0;
        while partial.length < self.size {
            let before = partial.length;
            let Err(error) = self.request(client, commit, partial, progress) else {
                continue;
            };
            if partial.length >= before + WORTHWHILE {
                retry = 0;
            }
            match client.pause(&error, retry) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(error),
            }
            retry += 1;
        }
        Ok(())
    }

    /// Sends one request for the bytes that are missing.
    fn request(
        &self,
        client: &Client,
        commit: &str,
        partial: &mut Partial,
        progress: &mut Progress,
    ) -> Result<(), HubError> {
        let response = client.open(commit, self.name, partial.length)?;
        if !self.continues(&response, partial.length)? {
            partial.restart(self)?;
            progress.restart();
            if response.status() == 416 {
                return Ok(());
            }
        }
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        while partial.length < self.size {
            let detail = match body.read(&mut piece) {
                Ok(0) => "the connection was closed".to_string(),
                Ok(read) if partial.length + read as u64 > self.size => {
                    return Err(self.wrong_size(partial.length + read as u64));
                }
                Ok(read) => {
                    partial.append(&piece[..read])?;
                    progress.advance(read as u64);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            return Err(HubError::Cut {
                file: self.name.to_string(),
                received: partial.length,
                expected: self.size,
                detail,
            });
        }
        Ok(())
    }

    /// Whether the response body starts at byte `start`. Otherwise it is the file from its beginning (a server
    /// that ignores ranges), or there is no body (the server finds the range unsatisfiable).
    fn continues(&self, response: &Response<Body>, start: u64) -> Result<bool, HubError> {
        match response.status().as_u16() {
            206 => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match range.and_then(content_range) {
                    Some((_, total)) if total != self.size => Err(self.wrong_size(total)),
                    Some((first, _)) if first == start => Ok(true),
                    _ => Err(HubError::Answer {
                        address: self.name.to_string(),
                        detail: format!("asked for bytes from {start} on, got {}", range.unwrap_or("no range")),
                    }),
                }
            }
            416 if start > 0 => Ok(false),
            416 => Err(self.wrong_size(0)),
            _ => match response.body().content_length() {
                Some(length) if length != self.size => Err(self.wrong_size(length)),
                _ => Ok(start == 0),
            },
        }
    }

    fn wrong_size(&self, found: u64) -> HubError {
        HubError::Size { file: self.name.to_string(), expected: self.size, found }
    }
}

/// First byte and total size from a header `bytes first-last/total`.
fn content_range(value: &str) -> Option<(u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// The partial file, and the hash of its content so far.
struct Partial {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    length: u64,
    hasher: Hasher,
}

impl Partial {
    /// Opens the partial file of an earlier attempt, or an empty one.
    fn open(job: &Job, path: PathBuf) -> Result<Self, HubError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(HubError::io("create", &path))?;
        let mut partial = Self { path, file, length: 0, hasher: job.digest.hasher(job.size) };
        let found = partial.file.metadata().map_err(HubError::io("read", &partial.path))?.len();
        if found > job.size {
            partial.restart(job)?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            match partial.file.read(&mut piece).map_err(HubError::io("read", &partial.path))? {
                0 => return Ok(partial),
                read => {
                    partial.hasher.update(&piece[..read]);
                    partial.length += read as u64;
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, job: &Job) -> Result<(), HubError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(HubError::io("empty", &self.path))?;
        self.length = 0;
        self.hasher = job.digest.hasher(job.size);
        Ok(())
    }

    fn hex(&self) -> String {
        self.hasher.clone().hex()
    }

    fn keep_as(self, blob: &Path) -> Result<(), HubError> {
        keep(self.file, &self.path, blob).map_err(HubError::io("create", blob))
    }

    fn remove(self) -> Result<(), HubError> {
        fs::remove_file(&self.path).map_err(HubError::io("delete", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_range_is_read_strictly() {
        assert_eq!(content_range("bytes 10-99/100"), Some((10, 100)));
        for value in ["bytes 10-99/*", "bytes */100", "10-99/100", "bytes 10/100", ""] {
            assert_eq!(content_range(value), None, "{value}");
        }
    }
}
