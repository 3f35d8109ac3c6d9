//! `firebrand cache`: lists and removes prepared rows that are kept for the next start.

use std::process::ExitCode;
use std::time::Duration;

use firebrand_datasets::Cache;
use firebrand_datasets::cache::Entry;
use indicatif::{HumanBytes, HumanDuration};
use serde_json::json;

use crate::cli::{CacheClearArgs, CacheCommand, CacheListArgs};
use crate::error::Error;
use crate::say;

/// Number of characters of a key that are shown: enough to tell the keys of a cache apart.
const SHOWN: usize = 12;

pub fn run(command: &CacheCommand) -> Result<ExitCode, Error> {
    let folder = crate::plan::cache::folder().ok_or_else(|| Error::Request {
        problem: "there is no folder for a cache".into(),
        help: "name one by the variable FIREBRAND_CACHE".into(),
    })?;
    let cache = Cache::new(&folder);
    match command {
        CacheCommand::List(arguments) => list(&cache, arguments),
        CacheCommand::Clear(arguments) => clear(&cache, arguments),
    }
}

fn list(cache: &Cache, arguments: &CacheListArgs) -> Result<ExitCode, Error> {
    let entries = cache.entries()?;
    if arguments.json {
        say!("{}\n", json!({ "folder": cache.folder(), "entries": entries }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for entry in &entries {
        let rows = entry.rows.map_or("of another version".into(), |rows| format!("{rows} rows"));
        let tokens = entry.tokens.map_or(String::new(), |tokens| format!(", {tokens} tokens"));
        let age = HumanDuration(Duration::from_secs(entry.unused_seconds));
        let key = entry.key.get(..SHOWN).unwrap_or(&entry.key);
        let size = HumanBytes(entry.bytes);
        say!("{key}  {size}, {rows}{tokens}, used {age} ago: {}\n", files(&entry.files))?;
    }
    let total = entries.iter().map(|entry| entry.bytes).sum();
    say!("{} in {}\n", HumanBytes(total), cache.folder().display())?;
    Ok(ExitCode::SUCCESS)
}

fn files(files: &[String]) -> String {
    match files {
        [] => "?".into(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}

fn clear(cache: &Cache, arguments: &CacheClearArgs) -> Result<ExitCode, Error> {
    let entries = cache.entries()?;
    let is_named = |entry: &Entry, key: &String| !key.is_empty() && entry.key.starts_with(key);
    if let Some(key) = arguments.keys.iter().find(|key| !entries.iter().any(|entry| is_named(entry, key))) {
        return Err(Error::Request {
            problem: format!("nothing in the cache has a key that begins with `{key}`"),
            help: "`firebrand cache list` shows the keys".into(),
        });
    }
    let old = |entry: &Entry| arguments.older_than.is_none_or(|days| entry.unused_seconds >= days * 86_400);
    let named = |entry: &Entry| arguments.keys.is_empty() || arguments.keys.iter().any(|key| is_named(entry, key));
    let removed: Vec<Entry> = entries.into_iter().filter(|entry| old(entry) && named(entry)).collect();
    for entry in &removed {
        cache.remove(&entry.key)?;
    }
    if arguments.keys.is_empty() && arguments.older_than.is_none() {
        cache.tidy()?;
    }
    let bytes: u64 = removed.iter().map(|entry| entry.bytes).sum();
    match arguments.json {
        true => say!("{}\n", json!({ "folder": cache.folder(), "removed": removed, "bytes": bytes }))?,
        false => say!("removed {} in {}\n", HumanBytes(bytes), cache.folder().display())?,
    }
    Ok(ExitCode::SUCCESS)
}
