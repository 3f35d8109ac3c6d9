//! Preparation: [`prepare`] turns a recipe's sources into a dataset. Rows are found in the cache, or read, encoded on
//! all cores, and written in the order of the files. Memory holds a few chunks of rows, whatever the size of the files.

mod named;
mod pipeline;
mod request;

pub use request::{FileInfo, Prepare, Progress};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::{self, Cache, Temporary};
use crate::config::{DataConfig, Format, Split};
use crate::dataset::{Dataset, Kept};
use crate::error::DataError;
use crate::format::{Decision, Unread};
use crate::query::{Chosen, ChosenRows, Query};
use crate::source;
use crate::store::{Store, Writer};
use request::Work;

/// The most rows that an epoch may visit: its order is held in memory, four bytes per visit.
const MOST_VISITS: u64 = 1 << 28;

/// Number of files of a source that are looked at for what users should know of them.
const REMARKS: usize = 8;

/// Reads and encodes one split of the recipe. The result depends only on the files, the tokenizer, the template and the
/// configuration.
///
/// # Errors
/// When a file cannot be read, a format cannot be decided, or rows are broken (the first ten of them are named).
pub fn prepare(request: &Prepare<'_>) -> Result<Dataset, DataError> {
    check(request.config)?;
    let sources = request.config.sources(request.rows_of());
    if sources.is_empty() {
        let name = match request.split {
            Split::Train => "train",
            Split::Eval => "eval",
        };
        return Err(DataError::Config(format!("there is no [[data.{name}]] to read from")));
    }
    let mut work = Vec::new();
    for source in sources {
        let split = request.rows_of();
        let query = Query::of(source)?;
        let pictures = request.pictures.is_some();
        let found = source::expand(&source.path, &source.columns, request.base, split, request.fetch, pictures)?;
        work.push(Work { source, query, files: found.files, note: found.note, pictures: found.pictures });
    }
    let files: Vec<PathBuf> = work.iter().flat_map(|work| work.files.iter().cloned()).collect();
    let mut progress = Progress::default();
    for file in &files {
        progress.total_bytes += size(file)?;
    }
    request.report(progress)?;
    let made = make(request, &work, &files, progress)?;
    for decision in &made.decisions {
        check_joined(request.config, &decision.path, decision.format)?;
    }
    let dataset = Dataset::new(Arc::new(made.store), request.config, request.split, request.micro_batch);
    let mut dataset = dataset.with_pictures(request.pictures.cloned());
    if let Some(fraction) = request.config.validation_split
        && request.limit.is_none()
        && dataset.is_empty()
    {
        let side = if request.split == Split::Eval { "none aside" } else { "all aside" };
        return Err(DataError::Config(format!(
            "validation_split = {fraction} sets {side} of so few rows; name rows for evaluation in [[data.eval]]"
        )));
    }
    if dataset.visits() > MOST_VISITS {
        return Err(DataError::Config(format!(
            "an epoch visits {} rows, and {MOST_VISITS} are the most; lower `weight` or `rows` of its sources",
            dataset.visits()
        )));
    }
    dataset.chosen = made.chosen;
    (dataset.decisions, dataset.files, dataset.kept) = (made.decisions, made.files, made.kept);
    dataset.notes = notes(&work, dataset.unread());
    Ok(dataset)
}

/// What users should know of the sources: which files were chosen, and what of their rows nothing reads.
fn notes<'a>(work: &[Work<'_>], unread: impl Iterator<Item = &'a Unread>) -> Vec<String> {
    let of_rows = unread.map(Some).chain(std::iter::repeat(None));
    let each = work.iter().zip(of_rows).flat_map(|(work, of_rows)| {
        let asked = |column: &str| work.query.as_ref().is_some_and(|query| query.reads(column));
        let of_rows = of_rows.and_then(|unread| unread.said(asked));
        let reading = work.reading();
        let remarks = work.files.iter().take(REMARKS).filter_map(|file| source::remark(file, &reading));
        let all = work.note.clone().into_iter().chain(remarks).chain(of_rows);
        all.map(|note| format!("{}: {note}", work.source.path)).collect::<Vec<_>>()
    });
    each.collect()
}

/// Prepared rows, and where they came from.
struct Made {
    store: Store,
    chosen: Vec<ChosenRows>,
    decisions: Vec<Decision>,
    files: Vec<FileInfo>,
    kept: Kept,
}

fn make(request: &Prepare<'_>, work: &[Work<'_>], files: &[PathBuf], progress: Progress) -> Result<Made, DataError> {
    let shared: Vec<Arc<Path>> = files.iter().map(|path| Arc::from(path.as_path())).collect();
    let cache = request.cache.map(Cache::new);
    let hashes = match request.limit {
        None => cache::hash_files(files, cache.as_ref())?,
        Some(_) => Vec::new(),
    };
    let infos = hashes.iter().map(|file| FileInfo { path: file.path.clone(), sha256: file.sha256.clone() }).collect();
    let made = |store: Store, kept| {
        let decision = |(work, meta): (&Work<'_>, &crate::store::SourceMeta)| Decision {
            path: work.source.path.clone(),
            format: meta.format,
            why: meta.why.clone(),
        };
        let decisions = work.iter().zip(&store.meta.sources).map(decision).collect();
        let of_source = |(source, rows): &(usize, Chosen)| {
            Some(ChosenRows { path: work.get(*source)?.source.path.clone(), rows: *rows })
        };
        let chosen = store.meta.chosen.iter().filter_map(of_source).collect();
        Made { store, chosen, decisions, files: infos, kept }
    };
    let (temporary, kept) = match place(request, work, &hashes, cache.as_ref()) {
        Place::Cached { cache, key } => {
            let found = cache.open(&key, shared.clone());
            if let Some(store) = found.filter(|store| named::are_unchanged(store, &cache, request.reach())) {
                return Ok(made(store, Kept::Found));
            }
            match cache.create(&key) {
                Ok(temporary) => (Ok(temporary), Kept::Stored),
                Err(problem) => (Temporary::unnamed(), Kept::Not(format!("{}: {problem}", cache.folder().display()))),
            }
        }
        Place::Temporary { why } => (Temporary::unnamed(), Kept::Not(why.into())),
    };
    let temporary = temporary.map_err(|source| DataError::Write { path: std::env::temp_dir(), source })?;
    let store = write(request, work, &shared, progress, &temporary).and_then(|()| {
        unchanged(&hashes)?;
        Store::open(&temporary.file, &temporary.path(), shared)
    });
    let store = store.inspect_err(|_| temporary.discard())?;
    let kept = match temporary.keep() {
        Ok(()) => kept,
        // Another program cleared the cache meanwhile; the open file can still be read.
        Err(problem) => Kept::Not(problem.to_string()),
    };
    Ok(made(store, kept))
}

fn write(
    request: &Prepare<'_>,
    work: &[Work<'_>],
    files: &[Arc<Path>],
    progress: Progress,
    temporary: &Temporary,
) -> Result<(), DataError> {
    let unwritable = |source| DataError::Write { path: temporary.path(), source };
    let handles = temporary.file.try_clone().and_then(|file| Ok((file, temporary.index.try_clone()?)));
    let (file, index) = handles.map_err(unwritable)?;
    let writer = Writer::new(file, index).map_err(unwritable)?;
    let (writer, kind, meta) = pipeline::run(request, work, files, progress, writer, &unwritable)?;
    writer.finish(kind, &meta).map_err(unwritable)
}

/// Where prepared rows are written.
enum Place {
    Cached { cache: Cache, key: String },
    Temporary { why: &'static str },
}

fn place(request: &Prepare<'_>, work: &[Work<'_>], hashes: &[cache::Hashed], cache: Option<&Cache>) -> Place {
    let temporary = |why| Place::Temporary { why };
    let Some(cache) = cache else { return temporary("there is no cache") };
    if request.limit.is_some() || request.keep_text {
        return temporary("rows to be looked at are not cached");
    }
    let mut rest = hashes;
    let files: Vec<Vec<(&str, &str)>> = work
        .iter()
        .map(|work| {
            let (own, others) = rest.split_at(work.files.len());
            rest = others;
            own.iter().map(|file| (source::read_as(&file.path), file.sha256.as_str())).collect()
        })
        .collect();
    match cache::key(request, &files) {
        Some(key) => Place::Cached { cache: cache.clone(), key },
        None => temporary("the template prints the date of the clock"),
    }
}

/// Checks that the files have not changed since they were hashed; otherwise rows would be kept under a wrong key.
fn unchanged(files: &[cache::Hashed]) -> Result<(), DataError> {
    match files.iter().find(|file| !file.is_unchanged()) {
        None => Ok(()),
        Some(file) => Err(DataError::Source {
            path: file.path.display().to_string(),
            why: "the file changed while it was read; start again when it is whole".into(),
        }),
    }
}

fn check(config: &DataConfig) -> Result<(), DataError> {
    let wrong = |why: String| Err(DataError::Config(why));
    if config.max_length < 2 {
        return wrong(format!("max_length must be at least 2, found {}", config.max_length));
    }
    if let Some(fraction) = config.validation_split {
        if !(fraction > 0.0 && fraction < 1.0) {
            return wrong(format!("validation_split must be between 0 and 1, found {fraction}"));
        }
        if !config.eval.is_empty() {
            return wrong("validation_split and [[data.eval]] both say what to evaluate on; keep one of them".into());
        }
    }
    if config.group_by_length && config.packing {
        return wrong("group_by_length is for rows that are not packed; set packing = false, or remove it".into());
    }
    if config.document_attention.is_joined() && !config.packing {
        return wrong(
            "document_attention = \"joined\" joins the documents of a pack; remove packing = false, or it".to_owned(),
        );
    }
    for source in config.train.iter().chain(&config.eval) {
        let path = &source.path;
        check_joined(config, path, source.format)?;
        source.columns.check().map_err(DataError::Config)?;
        Query::of(source)?;
        if !source.weight.is_finite() || source.weight < 0.0 {
            return wrong(format!("{path}: weight must not be negative, found {}", source.weight));
        }
        if source.rows.is_some() && source.weight != 1.0 {
            return wrong(format!("{path}: weight and rows both say how much of it an epoch visits; keep one of them"));
        }
        if let Some(epochs) = source.epochs.filter(|epochs| !epochs.is_finite() || *epochs <= 0.0) {
            return wrong(format!("{path}: epochs must be positive, found {epochs}"));
        }
    }
    Ok(())
}

/// Error: rows that may not be joined with others in a pack.
fn check_joined(config: &DataConfig, path: &str, format: Format) -> Result<(), DataError> {
    match config.document_attention.is_joined() && !format.may_be_joined() {
        false => Ok(()),
        true => Err(DataError::Config(format!(
            "{path}: document_attention = \"joined\" is for text and tokens, and its rows are of format {format}: an answer \
             would be learned after dialogues that do not precede it; leave document_attention out"
        ))),
    }
}

fn size(path: &Path) -> Result<u64, DataError> {
    std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|source| DataError::Read { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests;
