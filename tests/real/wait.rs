//! Waiting for other processes. No other module of these tests sleeps or measures time.
#![expect(
    clippy::disallowed_methods,
    reason = "another process does not announce that it is ready"
)]

use std::thread;
use std::time::{Duration, Instant, SystemTime};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum number of polls, thirty seconds in all: a busy machine is slow, and a dead server never
/// responds.
const POLLS_MAX: u32 = 3_000;

/// Returns as soon as `ready` returns true.
///
/// # Panics
///
/// If it does not within thirty seconds.
pub(crate) fn wait_until(condition: &str, mut ready: impl FnMut() -> bool) {
    let is_met = (0..POLLS_MAX).any(|_| {
        let is_ready = ready();
        if !is_ready {
            thread::sleep(POLL_INTERVAL);
        }
        is_ready
    });
    assert!(is_met, "timed out waiting until {condition}");
}

/// Waits for this long while another process runs.
pub(crate) fn sleep(duration: Duration) {
    thread::sleep(duration);
}

/// Returns the instant after this long.
pub(crate) fn instant_after(duration: Duration) -> Instant {
    Instant::now() + duration
}

/// Waits until an instant, which may have passed.
pub(crate) fn sleep_until(instant: Instant) {
    thread::sleep(instant.saturating_duration_since(Instant::now()));
}

/// Runs `work`, and returns its result and its duration.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = work();
    (result, started.elapsed())
}

/// Waits for the next second of the wall clock, because a session is named by the second of its
/// start.
pub(crate) fn wait_for_the_next_second() {
    let now = || {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_epoch.expect("the clock is set").as_secs()
    };
    let start = now();
    wait_until("the next second begins", || now() != start);
}
