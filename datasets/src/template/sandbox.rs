//! Where templates are compiled and rendered: on threads of their own, with a deep stack, for a limited time.
//!
//! The engine counts what a template does, and stops it. It does not count everything: comparing lists that hold each
//! other many times, say; and lists in lists in lists take stack when they are dropped. A template comes with a model,
//! from anybody, so neither may take a run with it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// Address space of a thread's stack; memory is taken as it is used. What the fuel of a rendering can nest takes less.
const STACK: usize = 512 << 20;

/// How often a waiting caller wakes. A process that was suspended has lost one of these, not all its time.
const TICK: Duration = Duration::from_millis(250);

/// Threads that wait for work.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// What `work` returns, or why it did not: it took longer than `limit` (its thread is left to itself), it panicked, or no
/// thread could be made.
pub(super) fn run<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (give, result) = sync_channel(1);
    let job: Job = Box::new(move || {
        // A caller that has stopped waiting no longer wants the result.
        let _ = give.send(work());
    });
    let thread = start(job)?;
    let mut left = limit;
    loop {
        let tick = left.min(TICK);
        match result.recv_timeout(tick) {
            Ok(value) => {
                IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                return Ok(value);
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the template engine failed".into()),
            Err(RecvTimeoutError::Timeout) => left = left.saturating_sub(tick),
        }
        if left.is_zero() {
            return Err(format!("the template has not ended after {} s", limit.as_secs_f64()));
        }
    }
}

/// Hands `job` to a thread that waits, or to a new one.
fn start(mut job: Job) -> Result<Sender<Job>, String> {
    loop {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(thread) = idle else { break };
        match thread.send(job) {
            Ok(()) => return Ok(thread),
            Err(returned) => job = returned.0,
        }
    }
    let (thread, jobs) = channel::<Job>();
    let work = move || {
        job();
        jobs.into_iter().for_each(|job| job());
    };
    Builder::new()
        .name("template".into())
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
        let limit = Duration::from_secs(60);
        let sums: Vec<_> = (0..100).map(|n| run(limit, move || n + 1)).collect();
        assert_eq!(sums, (1..=100).map(Ok).collect::<Vec<_>>());
        let late = run(Duration::from_millis(20), || std::thread::sleep(Duration::from_secs(600)));
        assert!(late.unwrap_err().contains("0.02 s"));
        let lost = run(limit, || panic!("this panic belongs to a test"));
        assert_eq!(lost, Err::<(), _>("the template engine failed".into()));
        assert_eq!(run(limit, || 7), Ok(7));
    }
}
