//! Fault injection in debug builds, for faults that tests cannot wait for, such as a process that
//! hangs.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::EnvVars;
use crate::env::{Env, RealEnv};
use crate::worker::StopSignal;

/// Environment variable that selects a fault: `block_runtime`, `fill_pool`, `break_SOURCE`,
/// `slow_start` or `slow_stop`.
const FAILPOINT_VAR: &str = "FAIL_CYNOSURE";

/// Longer than any test.
const HANG_DURATION: Duration = Duration::from_secs(86_400);

/// Long enough that systemd is asked for more time at least once.
const SLOW_DELAY: Duration = Duration::from_secs(15);

/// More than the blocking threads of a runtime.
const POOL_THREADS: usize = 600;

/// Blocks the runtime or its thread pool once the source has started, if the fault is selected.
pub(super) fn spawn_process_fault(environment: &EnvVars, opened_version: &watch::Receiver<u64>) {
    let fault = inject_process_fault(environment.clone(), opened_version.clone());
    tokio::task::spawn_local(fault);
}

#[expect(clippy::disallowed_methods, reason = "the fault is a blocked thread")]
async fn inject_process_fault(environment: EnvVars, opened_version: watch::Receiver<u64>) {
    match active_failpoint(&environment) {
        Some("block_runtime") => {
            wait_until_started(opened_version).await;
            std::thread::sleep(HANG_DURATION);
        }
        Some("fill_pool") => {
            wait_until_started(opened_version).await;
            for _ in 0..POOL_THREADS {
                tokio::task::spawn_blocking(|| std::thread::sleep(HANG_DURATION));
            }
        }
        Some(_) | None => {}
    }
}

/// Runs a source. It panics once it has started, or starts late, if the fault is selected.
pub(super) async fn with_source_fault<T>(
    work: impl Future<Output = T>,
    source: String,
    environment: EnvVars,
    opened_version: watch::Receiver<u64>,
) -> T {
    match active_failpoint(&environment) {
        Some("slow_start") => {
            tokio::time::sleep(SLOW_DELAY).await;
            work.await
        }
        Some(fault) if fault == format!("break_{source}") => tokio::select! {
            output = work => output,
            () = wait_until_started(opened_version) => panic!("injected fault"),
        },
        Some(_) | None => work.await,
    }
}

/// Forwards the stop request: immediately, or with a delay if the fault is selected.
pub(super) fn with_slow_shutdown(
    mut stop: watch::Receiver<StopSignal>,
    environment: &EnvVars,
) -> watch::Receiver<StopSignal> {
    if active_failpoint(environment) != Some("slow_stop") {
        return stop;
    }
    let (sender, delayed) = watch::channel(StopSignal::Running);
    tokio::task::spawn_local(async move {
        if stop.wait_for(|stop| *stop == StopSignal::Requested).await.is_ok() {
            tokio::time::sleep(SLOW_DELAY).await;
            sender.send_replace(StopSignal::Requested);
        }
    });
    delayed
}

fn active_failpoint(environment: &EnvVars) -> Option<&str> {
    environment.get(FAILPOINT_VAR).and_then(|fault| fault.to_str())
}

async fn wait_until_started(mut opened_version: watch::Receiver<u64>) {
    opened_version.wait_for(|version| *version > 0).await.ok();
    RealEnv.sleep_until(RealEnv.time().after(Duration::from_secs(1))).await;
}
