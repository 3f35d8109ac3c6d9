//! A recording as a file for `chrome://tracing` and Perfetto: [`chrome_trace`].

use serde_json::{Value, json};

use super::Profile;

/// The spans in the Trace Event Format: complete events (`"ph": "X"`) in microseconds.
pub fn chrome_trace(profile: &Profile) -> Value {
    let events = profile.spans.iter().map(|span| {
        json!({
            "name": span.name,
            "cat": span.target,
            "ph": "X",
            "ts": span.begin.as_secs_f64() * 1e6,
            "dur": span.length.as_secs_f64() * 1e6,
            "pid": 1,
            "tid": 1,
        })
    });
    json!({ "traceEvents": events.collect::<Vec<_>>(), "displayTimeUnit": "ms" })
}
