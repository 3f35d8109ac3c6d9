//! [`RunState`], the content of `state.json`: everything a resume needs that is not a tensor.
//!
//! Random numbers are derived from the seed and from counters, so only the counters are saved, and
//! the position in the data is a place to seek to, not a history to replay. Integers and floats
//! round-trip bit for bit. The optimiser's tensors are in `optimizer.safetensors`.
//!
//! Version 1 had two more keys, which followed from the others and which nothing read.

use super::files::read_bounded;
use super::{RunError, write_atomically};
use crate::objective::NoiseAverage;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file's name in a checkpoint.
pub const STATE: &str = "state.json";

const VERSION: u64 = 2;
/// Keys of version 1 that are ignored: counters of random streams, and the steps of the schedule.
const OF_VERSION_1: [&str; 2] = ["rng", "schedule_step"];
const LARGEST: u64 = 1 << 26;

/// The position of a run between two optimiser steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Optimiser steps completed.
    pub step: u64,
    /// Passes over the data completed.
    pub epoch: u64,
    /// Packs of the current pass already trained on.
    pub position: u64,
    /// The recipe's seed. The caller refuses a resume with another one.
    pub seed: u64,
    /// Labelled tokens trained on.
    pub tokens: u64,
    /// All tokens that went through the model in training.
    pub input_tokens: u64,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one, for early stopping.
    pub evaluations_without_improvement: u64,
    /// Time spent training, over all starts of the program.
    pub elapsed_seconds: f64,
    /// The moving averages behind the gradient noise scale, where it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseAverage>,
}

/// The best evaluation, by the metric that `[checkpoint] best` names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The value; lower is better.
    pub value: f64,
    /// The step it was measured at.
    pub step: u64,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    #[serde(flatten)]
    state: &'a RunState,
}

impl RunState {
    /// Writes `state.json` into `folder`.
    ///
    /// # Errors
    /// A number that is not finite, because JSON cannot hold it; those of writing.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        let path = folder.join(STATE);
        let floats = [("elapsed_seconds", Some(self.elapsed_seconds)), ("best", self.best.map(|best| best.value))];
        for (name, value) in floats {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(RunError::NotFinite { path, name, value });
            }
        }
        if self.noise.is_some_and(|noise| !noise.is_finite()) {
            return Err(RunError::NotFinite { path, name: "noise", value: f64::NAN });
        }
        let written = Written { version: VERSION, state: self };
        let mut text =
            serde_json::to_string_pretty(&written).map_err(|error| RunError::io("writing", &path, error.into()))?;
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// Reads `state.json` of this version or version 1 from `folder`.
    ///
    /// # Errors
    /// Another version, or a file that is not such a state.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(STATE);
        let text = read_bounded(&path, LARGEST).map_err(|error| RunError::io("reading", &path, error))?;
        let malformed = |error: serde_json::Error| RunError::Malformed {
            path: path.clone(),
            expected: "the state of a run",
            found: error.to_string(),
        };
        // The version is read first: parsing the fields of a newer version would give a misleading message.
        let Version { version } = serde_json::from_str(&text).map_err(malformed)?;
        let passed_over: &[&str] = match version {
            1 => &OF_VERSION_1,
            VERSION => &[],
            _ => return Err(RunError::Version { path, found: version, supported: VERSION }),
        };
        let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).map_err(malformed)?;
        value.retain(|key, _| key != "version" && !passed_over.contains(&key.as_str()));
        serde_json::from_value(value.into()).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn state() -> RunState {
        RunState {
            step: u64::MAX,
            epoch: 2,
            position: (1 << 53) + 1,
            seed: u64::MAX - 1,
            tokens: 11,
            input_tokens: 13,
            best: Some(Best { value: 0.1 + 0.2, step: 5 }),
            evaluations_without_improvement: 3,
            elapsed_seconds: 1.0 / 3.0,
            noise: None,
        }
    }

    #[test]
    fn the_state_round_trips_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        for value in [0.1 + 0.2, 1.0 / 3.0, 5e-324, f64::MAX, -0.0, 2.220_446_049_250_313e-16] {
            let mut written = state();
            written.elapsed_seconds = value;
            written.write(folder.path()).unwrap();
            let read = RunState::read(folder.path()).unwrap();
            assert_eq!(read, written);
            assert_eq!(read.elapsed_seconds.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = state();
        written.best = Some(Best { value: f64::NAN, step: 1 });
        let error = written.write(folder.path()).unwrap_err();
        assert!(error.to_string().contains("best is NaN"), "{error}");
        assert!(!folder.path().join(STATE).exists());
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = concat!(
            r#"{ "version": 1, "step": 40, "epoch": 2, "position": 16, "seed": 42, "rng": { "dropout": 7 }, "schedule_step": 40, "#,
            r#""tokens": 9001, "input_tokens": 12000, "best": { "value": 0.30000000000000004, "step": 20 }, "#,
            r#""evaluations_without_improvement": 1, "elapsed_seconds": 12.5 }"#,
        );
        fs::write(folder.path().join(STATE), text).unwrap();
        let read = RunState::read(folder.path()).unwrap();
        let expected = RunState {
            step: 40,
            epoch: 2,
            position: 16,
            seed: 42,
            tokens: 9001,
            input_tokens: 12000,
            best: Some(Best { value: 0.1 + 0.2, step: 20 }),
            evaluations_without_improvement: 1,
            elapsed_seconds: 12.5,
            noise: None,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        state().write(folder.path()).unwrap();
        let path = folder.path().join(STATE);
        let whole = fs::read_to_string(&path).unwrap();
        for other in [0, 3] {
            fs::write(&path, whole.replace("\"version\": 2", &format!("\"version\": {other}"))).unwrap();
            let error = RunState::read(folder.path()).unwrap_err();
            assert!(error.to_string().contains(&format!("format version {other}")), "{error}");
        }
        let of_version_1 = whole.replace("\"step\":", "\"rng\": {}, \"step\":");
        for text in ["", "{}", "[1]", &whole[..whole.len() / 2], &whole.replace("\"step\"", "\"stop\""), &of_version_1]
        {
            fs::write(&path, text).unwrap();
            let error = RunState::read(folder.path()).unwrap_err();
            assert!(matches!(error, RunError::Malformed { .. }), "{error}");
        }
    }
}
