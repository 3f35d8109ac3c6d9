//! [`TensorBoard`]: writes event files with `train/{loss,learning_rate,grad_norm,tokens_per_second,num_tokens}`,
//! `eval/{loss,perplexity,token_accuracy}`, `memory/{held,peak}_gib`, the recipe and the answers to `[sample]` as text, and
//! the settings for the HPARAMS tab.
//!
//! The records and protocol buffers are those of tensorboard-rs. Its `SummaryWriter` is not used:
//! it panics when the disk is full, has no text, and gives two files of one second the same name.
//! Every record is flushed, so TensorBoard can follow a run.
//!
//! Every file begins with a `SessionLog` START. A resumed run opens a new file, with START at the
//! first step to come; TensorBoard then drops what an earlier file logged from that step on, and
//! shows one continuous curve. (The START of the first file has no effect in TensorBoard, but
//! without it the second START would count as the first.)

use super::{RunError, hparams};
use crate::host;
use crate::objective::EvalMetrics;
use crate::observer::{Record, SampleReport};
use protobuf::{Message, RepeatedField};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::{Summary, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;
use tensorboard_rs::record_writer::RecordWriter;

const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".firebrand";

/// The event file, open for appending. Clones append to the same file.
#[derive(Clone)]
pub struct TensorBoard {
    path: PathBuf,
    writer: Arc<Mutex<RecordWriter<BufWriter<File>>>>,
}

impl TensorBoard {
    /// Starts the event file of a new run in `folder`, which is created.
    pub fn create(folder: &Path, recipe: &str) -> Result<Self, RunError> {
        let mut board = Self::open(folder)?;
        board.write_event(0, session_start())?;
        board.write_event(0, text("recipe", &code(recipe)))?;
        Ok(board)
    }

    /// Continues after `step` in a new file, which hides later values.
    pub fn resume(folder: &Path, step: u64, recipe: &str) -> Result<Self, RunError> {
        let mut board = Self::open(folder)?;
        board.write_event(step + 1, session_start())?;
        board.write_event(step, text("recipe", &code(recipe)))?;
        Ok(board)
    }

    /// Appends the settings of a run that begins, for the HPARAMS tab. `name` is that of its folder.
    pub fn begin(&mut self, name: &str, settings: &[(String, serde_json::Value)]) -> Result<(), RunError> {
        let values = hparams::start(name, settings, wall_time());
        self.write_event(0, summary(values.map_err(|error| RunError::io("writing", &self.path, error))?))
    }

    /// Appends that the run is over after `step`.
    pub fn end(&mut self, step: u64) -> Result<(), RunError> {
        let value = hparams::end(wall_time()).map_err(|error| RunError::io("writing", &self.path, error))?;
        self.write_event(step, summary(vec![value]))
    }

    /// Appends the answers to the questions of `[sample]` as text.
    pub fn write_samples(&mut self, report: &SampleReport) -> Result<(), RunError> {
        let quoted = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let of = |(index, answer): (usize, &crate::observer::Answer)| {
            let markdown = format!("{}\n{}", quoted(&answer.prompt), quoted(&format!("-> {}", answer.text)));
            text_value(&format!("sample/{index}"), &markdown)
        };
        let values = report.answers.iter().enumerate().map(of).collect();
        self.write_event(report.step, summary(values))
    }

    /// Appends the scalars of one step or evaluation.
    pub fn write(&mut self, record: &Record) -> Result<(), RunError> {
        // Event files hold f32; the exact numbers are in metrics.jsonl.
        let values = match record {
            Record::Step(report) => {
                let mut values = vec![
                    scalar("train/loss", report.loss as f32),
                    scalar("train/learning_rate", report.learning_rate as f32),
                    scalar("train/grad_norm", report.grad_norm as f32),
                    scalar("train/tokens_per_second", report.tokens_per_second as f32),
                    scalar("train/num_tokens", report.tokens_total as f32),
                ];
                values.extend(report.parts.iter().map(|(name, value)| scalar(&format!("train/{name}"), value as f32)));
                let memory = [("memory/held_gib", host::held_memory()), ("memory/peak_gib", host::peak_memory())];
                let known = memory.into_iter().filter_map(|(tag, bytes)| Some((tag, bytes?)));
                values.extend(known.map(|(tag, bytes)| scalar(tag, bytes as f32 / (1 << 30) as f32)));
                values
            }
            Record::Eval(report) => {
                let loss = scalar("eval/loss", report.loss as f32);
                match &report.metrics {
                    EvalMetrics::Tokens { perplexity, token_accuracy, .. } => vec![
                        loss,
                        scalar("eval/perplexity", *perplexity as f32),
                        scalar("eval/token_accuracy", *token_accuracy as f32),
                    ],
                    EvalMetrics::Rewards { .. }
                    | EvalMetrics::Classes { .. }
                    | EvalMetrics::Pairs { .. }
                    | EvalMetrics::Numbers(_) => {
                        let named = report.metrics.named().into_iter();
                        let named = named.map(|(name, value)| scalar(&format!("eval/{name}"), value as f32));
                        std::iter::once(loss).chain(named).collect()
                    }
                }
            }
        };
        self.write_event(record.step(), summary(values))
    }

    fn open(folder: &Path) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(|error| RunError::io("creating", folder, error))?;
        let newest = newest_file(folder).map_err(|error| RunError::io("reading", folder, error))?;
        // TensorBoard reads files in the order of their names, so a later file must have a later name, also
        // within one second or after the clock was set back.
        let seconds = (wall_time() as u64).max(newest.map_or(0, |seconds| seconds + 1));
        let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| RunError::io("creating", &path, error))?;
        let mut board = Self { path, writer: Arc::new(Mutex::new(RecordWriter::new(BufWriter::new(file)))) };
        let mut event = Event::new();
        event.set_file_version("brain.Event:2".to_string());
        board.write_event(0, event)?;
        Ok(board)
    }

    fn write_event(&mut self, step: u64, mut event: Event) -> Result<(), RunError> {
        event.set_wall_time(wall_time());
        event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = event
            .write_to_bytes()
            .map_err(io::Error::other)
            .and_then(|bytes| writer.write(&bytes))
            .and_then(|()| writer.flush());
        written.map_err(|error| RunError::io("writing", &self.path, error))
    }
}

fn session_start() -> Event {
    let mut log = SessionLog::new();
    log.set_status(SessionLog_SessionStatus::START);
    let mut event = Event::new();
    event.set_session_log(log);
    event
}

fn scalar(tag: &str, number: f32) -> Summary_Value {
    let mut value = Summary_Value::new();
    value.set_tag(tag.to_string());
    value.set_simple_value(number);
    value
}

/// A recipe as Markdown.
fn code(recipe: &str) -> String {
    format!("```toml\n{}\n```\n", recipe.trim_end())
}

fn text(tag: &str, markdown: &str) -> Event {
    summary(vec![text_value(tag, markdown)])
}

/// Text as `torch.utils.tensorboard` writes it: a string tensor marked for the text plugin, which
/// renders it as Markdown.
fn text_value(tag: &str, markdown: &str) -> Summary_Value {
    let mut plugin = SummaryMetadata_PluginData::new();
    plugin.set_plugin_name("text".to_string());
    let mut metadata = SummaryMetadata::new();
    metadata.set_plugin_data(plugin);
    let mut one = TensorShapeProto_Dim::new();
    one.set_size(1);
    let mut shape = TensorShapeProto::new();
    shape.set_dim(RepeatedField::from(vec![one]));
    let mut tensor = TensorProto::new();
    tensor.set_dtype(DataType::DT_STRING);
    tensor.set_tensor_shape(shape);
    tensor.set_string_val(RepeatedField::from(vec![markdown.as_bytes().to_vec()]));
    let mut value = Summary_Value::new();
    value.set_tag(tag.to_string());
    value.set_metadata(metadata);
    value.set_tensor(tensor);
    value
}

fn summary(values: Vec<Summary_Value>) -> Event {
    let mut summary = Summary::new();
    summary.set_value(RepeatedField::from(values));
    let mut event = Event::new();
    event.set_summary(summary);
    event
}

/// The seconds in the name of the newest event file.
fn newest_file(folder: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let seconds = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('.').next())
            .and_then(|seconds| seconds.parse().ok());
        newest = newest.max(seconds);
    }
    Ok(newest)
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::observer::tests::{eval_report, step_report};
    use tensorboard_rs::masked_crc32c::masked_crc32c;

    /// All events of all files of `folder` in TensorBoard's order, with checksums checked.
    pub(crate) fn events(folder: &Path) -> Vec<Event> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .flat_map(|path| records(&fs::read(path).unwrap()))
            .map(|record| Event::parse_from_bytes(&record).unwrap())
            .collect()
    }

    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let checked = |content: &[u8], sum: &[u8]| {
            assert_eq!(masked_crc32c(content).to_le_bytes(), sum);
        };
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            checked(&bytes[..8], &bytes[8..12]);
            checked(&bytes[12..12 + length], &bytes[12 + length..16 + length]);
            records.push(bytes[12..12 + length].to_vec());
            bytes = &bytes[16 + length..];
        }
        records
    }

    /// (tag, step, value) of every scalar.
    pub(crate) fn scalars(folder: &Path) -> Vec<(String, i64, f32)> {
        events(folder)
            .iter()
            .flat_map(|event| {
                event
                    .get_summary()
                    .get_value()
                    .iter()
                    .filter(|value| value.has_simple_value())
                    .map(|value| (value.get_tag().to_string(), event.get_step(), value.get_simple_value()))
            })
            .collect()
    }

    #[test]
    fn the_tags_are_those_of_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(folder.path(), "seed = 1").unwrap();
        board.write(&Record::Step(step_report(3, 9))).unwrap();
        board.write(&Record::Eval(eval_report(3))).unwrap();
        let read = scalars(folder.path());
        // What the system tells of memory differs between systems.
        let tags: Vec<&str> =
            read.iter().map(|(tag, _, _)| tag.as_str()).filter(|tag| !tag.starts_with("memory/")).collect();
        assert_eq!(
            tags,
            [
                "train/loss",
                "train/learning_rate",
                "train/grad_norm",
                "train/tokens_per_second",
                "train/num_tokens",
                "eval/loss",
                "eval/perplexity",
                "eval/token_accuracy",
            ]
        );
        assert!(read.iter().all(|(_, step, _)| *step == 3));
        assert_eq!(read[0].2, step_report(3, 9).loss as f32);
        let events = events(folder.path());
        assert_eq!(events[0].get_file_version(), "brain.Event:2");
        let recipe = &events[2].get_summary().get_value()[0];
        assert_eq!(recipe.get_tag(), "recipe");
        assert_eq!(recipe.get_metadata().get_plugin_data().get_plugin_name(), "text");
        assert_eq!(recipe.get_tensor().get_string_val()[0], b"```toml\nseed = 1\n```\n");
    }

    #[test]
    fn answers_are_text_and_settings_are_hyperparameters() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(folder.path(), "").unwrap();
        board.begin("bot", &[("seed".into(), 7.into())]).unwrap();
        let answers = vec![crate::observer::Answer { prompt: "Who?".into(), text: "Mara.\nOf course.".into() }];
        board.clone().write_samples(&SampleReport { step: 5, answers }).unwrap();
        board.end(9).unwrap();
        let events = events(folder.path());
        let tags: Vec<String> = events
            .iter()
            .flat_map(|event| event.get_summary().get_value().iter().map(|value| value.get_tag().to_string()))
            .collect();
        let hparams = ["_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"];
        assert_eq!(tags, ["recipe", hparams[0], hparams[1], "sample/0", hparams[2]]);
        let sample = &events[4];
        assert_eq!(sample.get_step(), 5);
        let text = &sample.get_summary().get_value()[0].get_tensor().get_string_val()[0];
        assert_eq!(text, b"    Who?\n\n    -> Mara.\n    Of course.\n");
    }

    #[test]
    fn a_resume_hides_the_later_steps_in_a_later_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::create(folder.path(), "").unwrap();
        for step in 1..=5 {
            board.write(&Record::Step(step_report(step, 9))).unwrap();
        }
        let first = board.path.clone();
        // Within the same second, as the test runs.
        let mut board = TensorBoard::resume(folder.path(), 3, "").unwrap();
        assert!(board.path > first);
        board.write(&Record::Step(step_report(4, 9))).unwrap();
        let events = events(folder.path());
        let starts: Vec<i64> = events
            .iter()
            .filter(|event| event.get_session_log().get_status() == SessionLog_SessionStatus::START)
            .map(Event::get_step)
            .collect();
        assert_eq!(starts, [0, 4]);
    }

    #[test]
    fn an_unwritable_folder_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorboard");
        fs::write(&path, b"").unwrap();
        let Err(error) = TensorBoard::create(&path, "") else { panic!("a file is no folder") };
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}
