use super::*;
use crate::observer::tests::{eval_report, step_report};
use crate::observer::{Record, StepReport};
use crate::run::tensorboard_scalars as scalars;
use crate::ui::captured;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const STEPS: u64 = 5;

fn session(output: &Path) -> Session {
    Session {
        ui: Ui::Plain,
        label: "test".to_string(),
        total_steps: STEPS,
        log_every: 1,
        metrics: Some(MetricsFile::create(&output.join("metrics.jsonl")).unwrap()),
        tensorboard: Some(TensorBoard::create(&output.join("tensorboard"), "seed = 1").unwrap()),
        stop: StopRequest::default(),
    }
}

/// Runs `train` with plain lines and returns its result and the lines.
fn observed<T: Send + 'static>(
    session: Session,
    train: impl FnOnce(&mut dyn Observer) -> Result<T, RunError> + Send + 'static,
) -> (Result<T, RunError>, String) {
    let (console, bytes) = captured();
    let display = Display::plain(console, session.log_every);
    let result = observe_on(session, Interrupter::new(), display, train);
    let lines = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
    (result, lines)
}

/// A loss that f32 cannot hold.
fn fake_step(step: u64) -> StepReport {
    StepReport { loss: 1.0 / 3.0 + step as f64, tokens_total: (1 << 53) + step, ..step_report(step, STEPS) }
}

fn fake_loop(observer: &mut dyn Observer) -> Result<u64, RunError> {
    for step in 1..=STEPS {
        observer.step(&fake_step(step))?;
        if step % 2 == 0 {
            observer.evaluating(1, 2);
            observer.evaluated(&eval_report(step))?;
        }
        if step == 4 {
            observer.note("checkpoint-4 written");
        }
        if observer.stop_requested() {
            return Ok(step);
        }
    }
    Ok(STEPS)
}

fn logged(path: &Path) -> Vec<Record> {
    fs::read_to_string(path).unwrap().lines().map(|line| Record::from_line(line).unwrap()).collect()
}

#[test]
fn a_run_reaches_metrics_tensorboard_and_lines() {
    let output = tempfile::tempdir().unwrap();
    let (result, lines) = observed(session(output.path()), fake_loop);
    assert_eq!(result.unwrap(), STEPS);

    // Exactly what was reported, in order.
    let mut expected: Vec<Record> = Vec::new();
    for step in 1..=STEPS {
        expected.push(Record::Step(fake_step(step)));
        if step % 2 == 0 {
            expected.push(Record::Eval(eval_report(step)));
        }
    }
    assert_eq!(logged(&output.path().join("metrics.jsonl")), expected);

    let read = scalars(&output.path().join("tensorboard"));
    let loss: Vec<(i64, f32)> =
        read.iter().filter(|(tag, _, _)| tag == "train/loss").map(|(_, step, value)| (*step, *value)).collect();
    let expected: Vec<(i64, f32)> = (1..=STEPS).map(|step| (step as i64, fake_step(step).loss as f32)).collect();
    assert_eq!(loss, expected);
    // Beside what the system tells of memory.
    assert_eq!(read.iter().filter(|(tag, _, _)| !tag.starts_with("memory/")).count(), 5 * 5 + 2 * 3);

    let starts: Vec<&str> = lines.lines().map(|line| &line[..8]).collect();
    assert_eq!(
        starts,
        ["step 1/5", "step 2/5", "step 2  ", "step 3/5", "step 4/5", "step 4  ", "checkpoi", "step 5/5"],
        "{lines}"
    );
    // Nothing of burn-train's own.
    let mut names: Vec<PathBuf> =
        fs::read_dir(output.path()).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    assert_eq!(names, [PathBuf::from("metrics.jsonl"), PathBuf::from("tensorboard")]);
    assert!(!Path::new("experiment.log").exists() && !Path::new("train").exists());
}

#[test]
fn flush_returns_when_everything_before_is_written() {
    let output = tempfile::tempdir().unwrap();
    let path = output.path().join("metrics.jsonl");
    let (result, _) = observed(session(output.path()), move |observer| {
        for step in 1..=STEPS {
            observer.step(&fake_step(step))?;
            observer.flush()?;
            assert_eq!(logged(&path).len() as u64, step);
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_logging_interval_holds_for_files_and_lines() {
    let output = tempfile::tempdir().unwrap();
    let session = Session { log_every: 3, ..session(output.path()) };
    let (result, lines) =
        observed(session, |observer| (1..=STEPS).try_for_each(|step| observer.step(&fake_step(step))));
    result.unwrap();
    let steps: Vec<u64> = logged(&output.path().join("metrics.jsonl")).iter().map(Record::step).collect();
    assert_eq!(steps, [1, 3, 5]);
    assert_eq!(lines.lines().count(), 3, "{lines}");
}

#[test]
fn a_stop_request_is_answered_while_the_step_is_still_running() {
    let output = tempfile::tempdir().unwrap();
    let (console, bytes) = captured();
    let session = session(output.path());
    let stop = session.stop.clone();
    let result = observe_on(session, Interrupter::new(), Display::plain(console, 1), move |observer| {
        observer.step(&fake_step(1))?;
        assert!(!observer.stop_requested());
        stop.request();
        let begin = Instant::now();
        while !String::from_utf8_lossy(&bytes.lock().unwrap()).contains("stopping after this step") {
            assert!(begin.elapsed() < Duration::from_secs(30), "the note appears");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok::<bool, RunError>(observer.stop_requested())
    });
    assert!(result.unwrap());
}

#[test]
fn the_dashboards_stop_reaches_the_loop() {
    let output = tempfile::tempdir().unwrap();
    let (console, _) = captured();
    let interrupter = Interrupter::new();
    let outside = interrupter.clone();
    let session = session(output.path());
    let result = observe_on(session, interrupter, Display::plain(console, 1), move |observer| {
        outside.stop(Some("the user pressed q"));
        fake_loop(observer)
    });
    assert_eq!(result.unwrap(), 1);
}

#[test]
fn an_error_of_the_loop_comes_out_unchanged() {
    let output = tempfile::tempdir().unwrap();
    let (result, _) = observed(session(output.path()), |observer| {
        observer.step(&fake_step(1))?;
        Err::<(), _>(RunError::Report("row 3 of faq.jsonl is no JSON".to_string()))
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("row 3 of faq.jsonl"), "{error}");
    assert_eq!(logged(&output.path().join("metrics.jsonl")).len(), 1);
}

#[test]
fn a_panic_of_the_loop_stays_a_panic() {
    let output = tempfile::tempdir().unwrap();
    let session = session(output.path());
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| {
        observed(session, |_| -> Result<(), RunError> { panic!("a bug") })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"a bug"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_one_error() {
    let output = tempfile::tempdir().unwrap();
    let path = output.path().join("metrics.jsonl");
    let mut session = session(output.path());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    session.metrics = Some(MetricsFile::to_device(&path));
    let (result, _) = observed(session, |observer| -> Result<(), RunError> {
        observer.step(&fake_step(1))?;
        observer.flush()?;
        panic!("a checkpoint must not be written after a line was lost")
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("metrics.jsonl: the disk is full"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_error_after_the_last_report_is_not_lost() {
    let output = tempfile::tempdir().unwrap();
    let mut session = session(output.path());
    session.metrics = Some(MetricsFile::to_device(Path::new("/dev/full")));
    let (result, _) = observed(session, |observer| observer.step(&fake_step(1)));
    assert!(result.is_err());
}
