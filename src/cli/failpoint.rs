//! Breaks the program on request, in builds for tests only: what a watchdog is for cannot be
//! waited for.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::EnvVars;
use crate::worker::{Env, RealEnv, StopSignal};

/// The variable that names what is to break: `block_runtime`, `fill_pool`, `break_SOURCE`; or what
/// is to be slow: `slow_start`, `slow_stop`.
const VARIABLE: &str = "FAIL_CYNOSURE";

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// What takes this long asks systemd for more time, once at least.
const SLOW: Duration = Duration::from_secs(15);

/// The blocking threads of a runtime, and more.
const POOL: usize = 600;

/// Breaks the process as a whole once the source has begun, if that is named.
#[expect(clippy::disallowed_methods, reason = "blocking is the point")]
pub(super) async fn fail(environment: EnvVars, opened: watch::Receiver<u64>) {
    match named(&environment) {
        Some("block_runtime") => {
            begun(opened).await;
            std::thread::sleep(FOR_EVER);
        }
        Some("fill_pool") => {
            begun(opened).await;
            for _ in 0..POOL {
                tokio::task::spawn_blocking(|| std::thread::sleep(FOR_EVER));
            }
        }
        Some(_) | None => {}
    }
}

/// Does the work of a source, which breaks once it has begun, or begins late, if that is named.
pub(super) async fn breakable<T>(
    work: impl Future<Output = T>,
    source: String,
    environment: EnvVars,
    opened: watch::Receiver<u64>,
) -> T {
    match named(&environment) {
        Some("slow_start") => {
            tokio::time::sleep(SLOW).await;
            work.await
        }
        Some(what) if what == format!("break_{source}") => tokio::select! {
            done = work => done,
            () = begun(opened) => panic!("broken on request"),
        },
        Some(_) | None => work.await,
    }
}

/// Hands on the request to stop: at once, or slowly if that is named.
pub(super) fn slow_to_stop(
    mut stop: watch::Receiver<StopSignal>,
    environment: &EnvVars,
) -> watch::Receiver<StopSignal> {
    if named(environment) != Some("slow_stop") {
        return stop;
    }
    let (late, heard) = watch::channel(StopSignal::Running);
    tokio::task::spawn_local(async move {
        if stop.wait_for(|stop| *stop == StopSignal::Requested).await.is_ok() {
            tokio::time::sleep(SLOW).await;
            late.send_replace(StopSignal::Requested);
        }
    });
    heard
}

fn named(environment: &EnvVars) -> Option<&str> {
    environment.get(VARIABLE).and_then(|what| what.to_str())
}

async fn begun(mut opened: watch::Receiver<u64>) {
    opened.wait_for(|number| *number > 0).await.ok();
    RealEnv.sleep_until(RealEnv.time().after(Duration::from_secs(1))).await;
}
