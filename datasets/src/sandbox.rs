//! The sandbox of templates: [`run`] compiles and renders them on threads with a deep stack and a time limit.
//!
//! The engine counts what a template does, and stops it. It does not count everything: comparing lists that contain
//! each other many times is not counted, and deeply nested lists take stack when they are dropped. A template comes
//! with a model, from anybody, so neither may end the process.
//!
//! Passing work to another thread and back takes longer than rendering a message, so rows are prepared here in batches:
//! a call of [`run`] on one of these threads stays on it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Time limit of one rendering. What the engine counts ends after a second or two.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Address space of a thread's stack; memory is only taken when it is used. Nesting within the fuel of a rendering
/// fits.
const STACK: usize = 512 << 20;

/// Interval at which a waiting caller checks the clock. A process that was suspended loses one interval, not all its
/// time.
const TICK: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce() + Send>;

/// Counts the starts and ends of timed work on a thread: odd while timed work is running.
type Clock = Arc<AtomicU64>;

/// A thread that runs jobs.
struct Thread {
    jobs: Sender<Job>,
    clock: Clock,
}

/// Threads without a job.
static IDLE: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

thread_local! {
    /// The clock of this thread, if it is a thread of the sandbox.
    static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

/// Runs `work` and returns its result, or why there is none: some timed part took longer than `limit` (its thread is
/// abandoned), it panicked, or no thread could be started.
pub(crate) fn run<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    if CLOCK.with_borrow(Option::is_some) {
        return Ok(work());
    }
    let (give, result) = sync_channel(1);
    let thread = start(Box::new(move || {
        // A caller that has stopped waiting no longer wants the result.
        let _ = give.send(work());
    }))?;
    let tick = limit.min(TICK);
    let (mut seen, mut elapsed) = (0, Duration::ZERO);
    while elapsed < limit {
        match result.recv_timeout(tick) {
            Ok(value) => {
                IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                return Ok(value);
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the template engine or the tokenizer failed".into()),
            Err(RecvTimeoutError::Timeout) => {
                let now = thread.clock.load(Ordering::Relaxed);
                elapsed = if now % 2 == 1 && now == seen { elapsed + tick } else { Duration::ZERO };
                seen = now;
            }
        }
    }
    Err(format!("the template has not ended after {} s", limit.as_secs_f64()))
}

/// Runs `work` under the time limit of the enclosing [`run`].
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> T {
    let count = || {
        CLOCK.with_borrow(|clock| clock.as_ref().map(|clock| clock.fetch_add(1, Ordering::Relaxed)));
    };
    count();
    let result = work();
    count();
    result
}

/// Hands `job` to a waiting thread, or to a new one.
fn start(mut job: Job) -> Result<Thread, String> {
    loop {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(thread) = idle else { break };
        match thread.jobs.send(job) {
            Ok(()) => return Ok(thread),
            Err(returned) => job = returned.0,
        }
    }
    let (jobs, waiting) = channel::<Job>();
    let clock = Clock::default();
    let thread = Thread { jobs, clock: clock.clone() };
    let work = move || {
        CLOCK.set(Some(clock));
        job();
        waiting.into_iter().for_each(|job| job());
    };
    Builder::new()
        .name("sandbox".into())
        .stack_size(STACK)
        .spawn(work)
        .map(|_| thread)
        .map_err(|problem| format!("no thread for the template: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_stopped_or_lost() {
        let sums: Vec<_> = (0..100).map(|n| run(LIMIT, move || n + 1)).collect();
        assert_eq!(sums, (1..=100).map(Ok).collect::<Vec<_>>());
        let sleep = |milliseconds| std::thread::sleep(Duration::from_millis(milliseconds));
        let late = run(Duration::from_millis(20), move || timed(|| sleep(600_000)));
        assert!(late.unwrap_err().contains("0.02 s"));
        let lost = run(LIMIT, || -> () { panic!("this panic belongs to a test") });
        assert!(lost.is_err_and(|why: String| why.contains("failed")));
        assert_eq!(run(LIMIT, || 7), Ok(7));
    }

    #[test]
    fn the_clock_is_that_of_one_rendering() {
        let limit = Duration::from_millis(200);
        let many = run(limit, move || {
            // Together the timed parts take longer than the limit, each alone does not; untimed work has no limit.
            (0..10).for_each(|_| timed(|| std::thread::sleep(Duration::from_millis(40))));
            std::thread::sleep(Duration::from_millis(500));
            run(limit, || std::thread::current().name() == Some("sandbox"))
        });
        assert_eq!(many, Ok(Ok(true)), "and what is inside stays on the thread");
    }
}
