//! Breaks the program on request, in builds for tests only: what a watchdog is for cannot be
//! waited for.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::EnvVars;
use crate::worker::{Env, RealEnv, StopSignal};

/// The variable that names what is to break: `block_runtime`, `fill_pool`, `break_SOURCE`; or what
/// is to be slow: `slow_start`, `slow_stop`.
const FAILPOINT_VAR: &str = "FAIL_CYNOSURE";

/// Longer than any test.
const HANG_DURATION: Duration = Duration::from_secs(86_400);

/// What takes this long asks systemd for more time, once at least.
const SLOW_DELAY: Duration = Duration::from_secs(15);

/// The blocking threads of a runtime, and more.
const POOL_THREADS: usize = 600;

/// Breaks the process as a whole once the source has begun, if that is named.
#[expect(clippy::disallowed_methods, reason = "blocking is the point")]
pub(super) async fn inject_process_fault(environment: EnvVars, opened: watch::Receiver<u64>) {
    match active_failpoint(&environment) {
        Some("block_runtime") => {
            wait_until_started(opened).await;
            std::thread::sleep(HANG_DURATION);
        }
        Some("fill_pool") => {
            wait_until_started(opened).await;
            for _ in 0..POOL_THREADS {
                tokio::task::spawn_blocking(|| std::thread::sleep(HANG_DURATION));
            }
        }
        Some(_) | None => {}
    }
}

/// Does the work of a source, which breaks once it has begun, or begins late, if that is named.
pub(super) async fn with_source_fault<T>(
    work: impl Future<Output = T>,
    source: String,
    environment: EnvVars,
    opened: watch::Receiver<u64>,
) -> T {
    match active_failpoint(&environment) {
        Some("slow_start") => {
            tokio::time::sleep(SLOW_DELAY).await;
            work.await
        }
        Some(what) if what == format!("break_{source}") => tokio::select! {
            done = work => done,
            () = wait_until_started(opened) => panic!("broken on request"),
        },
        Some(_) | None => work.await,
    }
}

/// Hands on the request to stop: at once, or slowly if that is named.
pub(super) fn with_slow_shutdown(
    mut stop: watch::Receiver<StopSignal>,
    environment: &EnvVars,
) -> watch::Receiver<StopSignal> {
    if active_failpoint(environment) != Some("slow_stop") {
        return stop;
    }
    let (late, heard) = watch::channel(StopSignal::Running);
    tokio::task::spawn_local(async move {
        if stop.wait_for(|stop| *stop == StopSignal::Requested).await.is_ok() {
            tokio::time::sleep(SLOW_DELAY).await;
            late.send_replace(StopSignal::Requested);
        }
    });
    heard
}

fn active_failpoint(environment: &EnvVars) -> Option<&str> {
    environment.get(FAILPOINT_VAR).and_then(|what| what.to_str())
}

async fn wait_until_started(mut opened: watch::Receiver<u64>) {
    opened.wait_for(|number| *number > 0).await.ok();
    RealEnv.sleep_until(RealEnv.time().after(Duration::from_secs(1))).await;
}
