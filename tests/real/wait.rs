//! Waiting for other processes, the only thing here that has to look again and again or needs a clock.
#![expect(clippy::disallowed_methods, reason = "another process tells nobody when it is ready")]

use std::thread;
use std::time::{Duration, Instant, SystemTime};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Thirty seconds in all: a busy machine is slow, a dead server is silent for ever.
const POLLS_MAX: u32 = 3_000;

/// Returns as soon as `ready` says yes.
///
/// # Panics
///
/// When it never does.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let came = (0..POLLS_MAX).any(|_| {
        let yes = ready();
        if !yes {
            thread::sleep(POLL_INTERVAL);
        }
        yes
    });
    assert!(came, "waited in vain until {what}");
}

/// Lets another process live for this long.
pub(crate) fn sleep(time: Duration) {
    thread::sleep(time);
}

/// Does something, and says how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}

/// Returns in the next second of the wall clock: a session is named by the second it starts in.
pub(crate) fn wait_for_the_next_second() {
    let now = || {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_epoch.expect("the clock is set").as_secs()
    };
    let called_in = now();
    wait_until("the clock ticks", || now() != called_in);
}
