//! Records spans: [`record`] returns them as a [`Profile`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firebrand_kernels::OPERATION;
use tracing::span::{Attributes, Id};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::PHASE;

/// A phase or operation that ran once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// [`PHASE`] or [`OPERATION`].
    pub target: &'static str,
    /// What ran.
    pub name: &'static str,
    /// When it began, from the beginning of the recording.
    pub begin: Duration,
    /// How long it ran.
    pub length: Duration,
    /// How much of that was in spans inside of it.
    pub inside: Duration,
}

/// The spans of a recording, in the order in which they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The spans.
    pub spans: Vec<Span>,
}

impl Profile {
    /// Seconds of each phase, operations included, the longest first.
    pub fn phases(&self) -> Vec<(&'static str, f64)> {
        self.totals(PHASE, |span| span.length)
    }

    /// Seconds of each operation without those inside of it, the longest first.
    pub fn operations(&self) -> Vec<(&'static str, f64)> {
        self.totals(OPERATION, |span| span.length.saturating_sub(span.inside))
    }

    /// Seconds of each phase outside of operations, the longest first.
    pub fn outside_operations(&self) -> Vec<(&'static str, f64)> {
        self.totals(PHASE, |span| span.length.saturating_sub(span.inside))
    }

    fn totals(&self, target: &str, of: impl Fn(&Span) -> Duration) -> Vec<(&'static str, f64)> {
        let mut totals = BTreeMap::<&str, Duration>::new();
        for span in self.spans.iter().filter(|span| span.target == target) {
            *totals.entry(span.name).or_default() += of(span);
        }
        let mut totals: Vec<_> = totals.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect();
        totals.sort_by(|a, b| b.1.total_cmp(&a.1));
        totals
    }
}

/// Runs `work` and records the phases and operations that run on this thread.
pub fn record<R>(work: impl FnOnce() -> R) -> (R, Profile) {
    let spans = Arc::new(Mutex::new(vec![]));
    let recorder = Recorder { start: Instant::now(), spans: spans.clone() };
    let result = tracing::subscriber::with_default(tracing_subscriber::registry().with(recorder), work);
    let spans = std::mem::take(&mut *spans.lock().unwrap_or_else(PoisonError::into_inner));
    (result, Profile { spans })
}

struct Recorder {
    start: Instant,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// What is known of an open span.
struct Opened {
    at: Instant,
    inside: Duration,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        [PHASE, OPERATION].contains(&metadata.target())
    }

    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Opened { at: Instant::now(), inside: Duration::ZERO });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Opened { at, inside }) = span.extensions_mut().remove::<Opened>() else { return };
        let (length, metadata) = (at.elapsed(), span.metadata());
        if let Some(parent) = span.parent()
            && let Some(parent) = parent.extensions_mut().get_mut::<Opened>()
        {
            parent.inside += length;
        }
        let begin = at.duration_since(self.start);
        let ended = Span { target: metadata.target(), name: metadata.name(), begin, length, inside };
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::phase;

    #[test]
    fn time_is_counted_once_and_by_name() {
        let pause = Duration::from_millis(5);
        let (value, profile) = record(|| {
            for _ in 0..2 {
                phase!("forward");
                std::thread::sleep(pause);
                {
                    let _operation = tracing::trace_span!(target: OPERATION, "linear").entered();
                    std::thread::sleep(pause);
                }
            }
            let _other = tracing::trace_span!("unrelated").entered();
            7
        });
        assert_eq!((value, profile.spans.len()), (7, 4));
        let ((phase, all), (operation, inner)) = (profile.phases()[0], profile.operations()[0]);
        assert_eq!((phase, operation), ("forward", "linear"));
        let (_, outside) = profile.outside_operations()[0];
        assert!(inner >= 0.01 && outside >= 0.01 && (all - inner - outside).abs() < 1e-6, "{profile:?}");
    }

    #[test]
    fn nothing_is_recorded_outside() {
        phase!("forward");
        assert!(record(|| ()).1.spans.is_empty());
    }
}
