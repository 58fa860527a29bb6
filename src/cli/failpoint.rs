//! Breaks the program on request, in builds for tests only: what a watchdog is for cannot be
//! waited for.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::Environment;
use crate::worker::{RealWorld, World};

/// The variable that names what is to break: `block_runtime`, `fill_pool`, `break_SOURCE`.
const VARIABLE: &str = "FAIL_CYNOSURE";

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// The blocking threads of a runtime, and more.
const POOL: usize = 600;

/// Breaks the process as a whole once the source has begun, if that is named.
#[expect(clippy::disallowed_methods, reason = "blocking is the point")]
pub(super) async fn fail(environment: Environment, opened: watch::Receiver<u64>) {
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

/// Does the work of a source, which breaks once it has begun, if that is named.
pub(super) async fn breakable<T>(
    work: impl Future<Output = T>,
    source: String,
    environment: Environment,
    opened: watch::Receiver<u64>,
) -> T {
    if named(&environment) != Some(format!("break_{source}").as_str()) {
        return work.await;
    }
    tokio::select! {
        done = work => done,
        () = begun(opened) => panic!("broken on request"),
    }
}

fn named(environment: &Environment) -> Option<&str> {
    environment.get(VARIABLE).and_then(|what| what.to_str())
}

async fn begun(mut opened: watch::Receiver<u64>) {
    opened.wait_for(|number| *number > 0).await.ok();
    RealWorld.sleep_until(RealWorld.now().after(Duration::from_secs(1))).await;
}
