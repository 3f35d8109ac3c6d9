//! The pipeline of a preparation: [`run`] reads, encodes and writes at the same time. One thread reads chunks of rows,
//! the calling thread and its pool encode them, and one thread writes them. Chunks stay in order, so the number of
//! threads changes no byte.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

use super::request::{Prepare, Progress, Work};
use crate::config::{BrokenRows, EmptyRows, Format};
use crate::encoder::Encoder;
use crate::error::DataError;
use crate::example::Encoded;
use crate::format::{self, Decision, Readers, Unread};
use crate::kind::RowKind;
use crate::location::Location;
use crate::query::{Chosen, Selection};
use crate::reference::Reach;
use crate::sandbox::{self, LIMIT};
use crate::source::{self, Columns, Names, Row, weight};
use crate::split;
use crate::store::{BrokenMeta, Dropped, Meta, Prepared, SourceMeta, Writer};
use crate::template::ChatTemplate;

/// Number of rows from which `auto` decides the format.
const FIRST_ROWS: usize = 32;
/// Number of rows in a chunk, or of bytes that they take, whichever is reached first.
const CHUNK: usize = 2048;
const CHUNK_BYTES: usize = 4 << 20;
/// Number of bytes in the first chunk, from which `auto` decides the format.
const FIRST_BYTES: usize = 64 << 20;
/// Number of chunks that wait for the next thread.
const WAITING: usize = 2;
/// Number of rows that one thread encodes at a time.
const BATCH: usize = 64;
/// Number of broken rows after which reading stops, and of kinds of them that are shown.
const BROKEN: usize = 100;
const SHOWN: usize = 10;

/// A message of the reading thread.
enum Read {
    /// The next rows of the source, each with the number of its file.
    Rows(Vec<(u32, Result<Row, DataError>)>),
    /// Rows are looked at, and none is ready.
    Looking,
    /// The end of the source, whether reading stopped at the limit of rows, and what its query kept.
    End { taken: usize, limited: bool, chosen: Option<Chosen> },
    /// A whole file cannot be read.
    Failed(DataError),
}

/// The result of encoding a row.
enum Outcome {
    Rows(Vec<Prepared>),
    Dropped(Dropped),
    /// Something in the row is empty, and the recipe leaves such rows out.
    Empty(u32, Location),
    Broken(u32, DataError),
}

/// Reads, encodes and writes all rows. The caller writes what is stored about all of them together.
pub(super) fn run(
    request: &Prepare<'_>,
    work: &[Work<'_>],
    files: &[Arc<Path>],
    progress: Progress,
    writer: Writer,
    unwritable: &dyn Fn(std::io::Error) -> DataError,
) -> Result<(Writer, RowKind, Meta), DataError> {
    let (send_rows, rows) = sync_channel(WAITING);
    let (send_prepared, prepared) = sync_channel::<Vec<Prepared>>(WAITING);
    std::thread::scope(|scope| {
        let limit = request.limit;
        scope.spawn(move || read(limit, work, &send_rows));
        let writing = scope.spawn(move || write(writer, &prepared));
        let encoded = Encoding::new(request, progress).all(work, files, &rows, &send_prepared);
        // Dropping the channels ends both threads.
        drop((rows, send_prepared));
        let written = writing.join().unwrap_or_else(|_| Err(std::io::Error::other("the writing thread ended")));
        // Encoding stops when the writer has failed, so the writer's error is the cause.
        let writer = written.map_err(unwritable)?;
        let (kind, meta) = encoded?;
        Ok((writer, kind, meta))
    })
}

fn write(mut writer: Writer, prepared: &Receiver<Vec<Prepared>>) -> std::io::Result<Writer> {
    for rows in prepared {
        for row in rows {
            writer.append(row)?;
        }
    }
    Ok(writer)
}

/// Sends all rows until the receiver is dropped.
fn read(limit: Option<usize>, work: &[Work<'_>], send: &SyncSender<Read>) {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut number = 0;
    for work in work {
        let (mut chunk, mut bytes, mut taken) = (Vec::new(), 0, 0);
        let mut is_first = true;
        let mut names = Names::new(&work.source.columns);
        let mut selection = None;
        if let Some(query) = work.query.as_ref().filter(|_| left > 0) {
            let go_on = || send.send(Read::Looking).map_or(ControlFlow::Break(()), ControlFlow::Continue);
            match Selection::new(query, work.source, &work.reading(), &work.files, &go_on) {
                Ok(new) => selection = Some(new),
                Err(error) => {
                    // Where nobody waits, nobody asks for the error.
                    let _ = send.send(Read::Failed(error));
                    return;
                }
            }
        }
        for file in &work.files {
            let gone = Cell::new(false);
            let mut receiver = |row: Result<Row, DataError>| {
                if left == 0 {
                    return ControlFlow::Break(());
                }
                (left, taken) = (left - 1, taken + 1);
                bytes += row.as_ref().map_or(0, |row| weight(&row.object));
                chunk.push((number, row));
                let most = if is_first && chunk.len() < FIRST_ROWS { FIRST_BYTES } else { CHUNK_BYTES };
                if chunk.len() >= CHUNK || bytes >= most {
                    (bytes, is_first) = (0, false);
                    gone.set(send.send(Read::Rows(std::mem::take(&mut chunk))).is_err());
                }
                if gone.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let result = match &mut selection {
                None => source::read_one(file, &work.reading(), &mut names, &mut receiver),
                Some(selection) => selection.read(file, &work.reading(), &mut names, &mut receiver, &|| gone.get()),
            };
            let failed = result.err().map(|error| send.send(Read::Failed(error)));
            if gone.get() || failed.is_some() {
                return;
            }
            number += 1;
        }
        let rest = if chunk.is_empty() { Ok(()) } else { send.send(Read::Rows(chunk)) };
        if rest.is_ok()
            && let Err(error) = names.finish(&work.source.path)
        {
            let _ = send.send(Read::Failed(error));
            return;
        }
        let chosen = selection.map(|selection| selection.chosen());
        if rest.is_err() || send.send(Read::End { taken, limited: left == 0, chosen }).is_err() {
            return;
        }
    }
}

/// The state of encoding.
struct Encoding<'a> {
    request: &'a Prepare<'a>,
    encoder: Arc<Encoder>,
    meta: Meta,
    /// The kind of examples, and the source that decided it.
    kind: Option<(RowKind, String)>,
    /// The problems of broken rows, without their locations.
    kinds: BTreeSet<String>,
    progress: Progress,
}

impl<'a> Encoding<'a> {
    fn new(request: &'a Prepare<'a>, progress: Progress) -> Self {
        let config = request.config;
        let encoder = Encoder {
            tokenizer: request.tokenizer.cloned(),
            template: request.template.cloned(),
            system: config.system.clone(),
            train_on: config.train_on,
            truncation: config.truncation,
            max_length: config.max_length,
            pictures: request.pictures.cloned(),
            keep_text: request.keep_text,
        };
        Self {
            request,
            encoder: Arc::new(encoder),
            meta: Meta::default(),
            kind: None,
            kinds: BTreeSet::new(),
            progress,
        }
    }

    fn all(
        mut self,
        work: &[Work<'_>],
        files: &[Arc<Path>],
        rows: &Receiver<Read>,
        send: &SyncSender<Vec<Prepared>>,
    ) -> Result<(RowKind, Meta), DataError> {
        self.meta.files = files.iter().map(|path| path.display().to_string()).collect();
        for (index, work) in work.iter().enumerate() {
            let mut decided = None;
            loop {
                match rows.recv() {
                    Ok(Read::Rows(rows)) => self.chunk(index, work, &mut decided, rows, send)?,
                    Ok(Read::Failed(error)) => return Err(error),
                    Ok(Read::Looking) => self.request.report(self.progress)?,
                    Ok(Read::End { taken: 0, limited: false, chosen }) => {
                        if let (Some(query), Some(Chosen { left_out: rows @ 1.., .. })) = (&work.query, chosen) {
                            return Err(query.keeps_nothing(rows));
                        }
                        let path = work.source.path.clone();
                        return Err(DataError::Source { path, why: "there is no row in it".into() });
                    }
                    Ok(Read::End { taken, chosen, .. }) => {
                        if decided.is_none() && taken > 0 {
                            let why = "no row of it can be used".into();
                            self.meta.sources.push(SourceMeta {
                                format: work.source.format,
                                why,
                                unread: Unread::default(),
                            });
                        }
                        self.meta.chosen.extend(chosen.map(|chosen| (index, chosen)));
                        break;
                    }
                    Err(_) => break,
                }
                if self.refuses() && self.meta.broken.count >= BROKEN {
                    return Err(self.broken());
                }
            }
        }
        if self.refuses() && self.meta.broken.count > 0 {
            return Err(self.broken());
        }
        Ok((self.kind.map_or(RowKind::default(), |(kind, _)| kind), self.meta))
    }

    /// Whether broken rows end the preparation.
    fn refuses(&self) -> bool {
        match self.request.config.broken {
            BrokenRows::Stop => true,
            BrokenRows::Skip => false,
        }
    }

    fn broken(&self) -> DataError {
        let BrokenMeta { count, first } = &self.meta.broken;
        DataError::Rows { count: *count, first: first.iter().map(|(.., said)| said.clone()).collect() }
    }

    fn add_broken(&mut self, file: u32, error: &DataError) {
        let broken = &mut self.meta.broken;
        broken.count += 1;
        if broken.first.len() < SHOWN
            && let Some(location) = error.location()
        {
            let said = error.to_string();
            // A problem that all rows share, such as a missing column, is shown once.
            let kind = said.strip_prefix(&location.to_string()).unwrap_or(&said).to_string();
            if self.kinds.insert(kind) {
                broken.first.push((file, location.line as u64, said));
            }
        }
    }

    /// Checks that all rows of a split become examples of one kind, because they enter the same batches.
    fn one_kind(&mut self, decision: &Decision) -> Result<(), DataError> {
        let kind = decision.format.kind(self.request.pictures.is_some()).unwrap_or_default();
        match &self.kind {
            Some((before, path)) if *before != kind => Err(DataError::Config(format!(
                "{path} holds {before} and {} holds {kind}; train on them in two runs",
                decision.path
            ))),
            Some(_) => Ok(()),
            None => {
                self.kind = Some((kind, decision.path.clone()));
                Ok(())
            }
        }
    }

    fn chunk(
        &mut self,
        index: usize,
        work: &Work<'_>,
        decided: &mut Option<Format>,
        rows: Vec<(u32, Result<Row, DataError>)>,
        send: &SyncSender<Vec<Prepared>>,
    ) -> Result<(), DataError> {
        let format = match *decided {
            Some(format) => format,
            None => {
                let first: Vec<Row> =
                    rows.iter().filter_map(|(_, row)| row.as_ref().ok()).take(FIRST_ROWS).cloned().collect();
                if first.is_empty() {
                    for (file, error) in rows.iter().filter_map(|(file, row)| Some((*file, row.as_ref().err()?))) {
                        self.add_broken(file, error);
                    }
                    return Ok(());
                }
                let (path, asked) = (&work.source.path, work.source.format);
                let decision = match self.request.pictures {
                    Some(pictures) => format::decide_pictured(path, asked, &first, !pictures.captions.is_empty())?,
                    None => format::decide(path, asked, &first)?,
                };
                self.one_kind(&decision)?;
                let (format, why) = (decision.format, decision.why);
                self.meta.sources.push(SourceMeta { format, why, unread: Unread::default() });
                *decided.insert(decision.format)
            }
        };
        let count = rows.len();
        let bytes: u64 = rows.iter().filter_map(|(_, row)| row.as_ref().ok()).map(|row| row.bytes).sum();
        let columns = Arc::new(work.source.columns.clone());
        let empty = self.request.config.empty;
        let reading = As { format, reach: self.request.reach(), source: index, columns, empty };
        let batches = rows.into_par_iter().chunks(BATCH).map(|batch| encode_batch(&self.encoder, &reading, batch));
        let outcomes: Vec<(Vec<Outcome>, Unread)> = batches.collect::<Result<_, _>>()?;
        let mut prepared = Vec::with_capacity(count);
        if let Some(source) = self.meta.sources.last_mut() {
            outcomes.iter().for_each(|(_, unread)| source.unread.merge(unread));
        }
        for outcome in outcomes.into_iter().flat_map(|(outcomes, _)| outcomes) {
            match outcome {
                Outcome::Rows(rows) => prepared.extend(rows),
                Outcome::Dropped(dropped) => self.meta.dropped.push(dropped),
                Outcome::Empty(file, location) => {
                    let empty = &mut self.meta.empty;
                    empty.count += 1;
                    if empty.first.len() < SHOWN {
                        empty.first.push((file, location.line as u64));
                    }
                }
                Outcome::Broken(file, error) if error.is_about_one_row() => self.add_broken(file, &error),
                Outcome::Broken(_, error) => return Err(error),
            }
        }
        self.progress.rows += count;
        self.progress.bytes += bytes;
        self.progress.tokens += prepared.iter().map(Prepared::tokens).sum::<usize>();
        self.meta.tokens = self.progress.tokens as u64;
        self.request.report(self.progress)?;
        send.send(prepared).map_err(|_| DataError::Config("the prepared rows cannot be written".into()))
    }
}

/// How the rows of a source are parsed.
#[derive(Clone)]
struct As {
    format: Format,
    /// Which files they may name.
    reach: Reach,
    /// The number of the source.
    source: usize,
    /// The columns that the source renames.
    columns: Arc<Columns>,
    /// What happens to rows in which something is empty.
    empty: EmptyRows,
}

/// Encodes rows on a thread that can be abandoned if a template does not end.
fn encode_batch(
    encoder: &Arc<Encoder>,
    reading: &As,
    rows: Vec<(u32, Result<Row, DataError>)>,
) -> Result<(Vec<Outcome>, Unread), DataError> {
    let places: Vec<Option<Location>> =
        rows.iter().map(|(_, row)| row.as_ref().ok().map(|row| row.location.clone())).collect();
    let done = Arc::new(AtomicUsize::new(0));
    let work = {
        let (encoder, done, reading) = (encoder.clone(), done.clone(), reading.clone());
        move || {
            let mut unread = Unread::default();
            let encode = |(file, row)| {
                let outcome = encode(&encoder, &reading, file, row, &mut unread);
                done.fetch_add(1, Ordering::Relaxed);
                outcome
            };
            (rows.into_iter().map(encode).collect(), unread)
        }
    };
    sandbox::run(LIMIT, work).map_err(|why| DataError::Template {
        name: encoder.template.as_ref().map_or("", ChatTemplate::name).to_string(),
        why: match places.get(done.load(Ordering::Relaxed)) {
            Some(Some(location)) => format!("{location}: {why}"),
            _ => why,
        },
    })
}

fn encode(encoder: &Encoder, reading: &As, file: u32, row: Result<Row, DataError>, unread: &mut Unread) -> Outcome {
    let skips = reading.empty == EmptyRows::Skip;
    if let Some(row) = row.as_ref().ok().filter(|row| skips && format::lacks_text(reading.format, row)) {
        return Outcome::Empty(file, row.location.clone());
    }
    let encoded = row.and_then(|row| {
        let readers = Readers { columns: &reading.columns, template: encoder.template.as_ref() };
        let parsed = format::read(reading.format, row, reading.reach, readers)?;
        let share = split::share(&parsed.record);
        let encoded = encoder.encode(&parsed.record, &parsed.location, reading.source)?;
        unread.merge(&parsed.unread);
        Ok((encoded.with_media(parsed.media.hash), parsed.location, share))
    });
    match encoded {
        Ok((encoded, location, _)) if skips && encoded.has_empty_text() => Outcome::Empty(file, location),
        Ok((Encoded::Examples(examples), _, share)) => Outcome::Rows(Prepared::row(&examples, file, share)),
        Ok((Encoded::Dropped { tokens }, Location { line, .. }, share)) => {
            Outcome::Dropped(Dropped { file, line: line as u64, share, tokens })
        }
        Ok((Encoded::Pair { chosen, rejected }, _, share)) => {
            Outcome::Rows(Prepared::pair(&chosen, &rejected, file, share))
        }
        Err(error) => Outcome::Broken(file, error),
    }
}
