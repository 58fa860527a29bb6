//! Breaks the program on request, in builds for tests only: what a watchdog is for cannot be
//! waited for.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::Environment;
use crate::worker::{RealWorld, World};

/// The variable that names what is to break as soon as everything has begun.
const VARIABLE: &str = "FAIL_CYNOSURE";

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// The blocking threads of a runtime, and more.
const POOL: usize = 600;

/// Breaks what is named once the source has begun, which its first reading tells.
#[expect(clippy::disallowed_methods, reason = "blocking is the point")]
#[expect(clippy::panic, reason = "so is this")]
pub(super) async fn fail(environment: Environment, mut opened: watch::Receiver<u64>) {
    let Some(what) = environment.get(VARIABLE).and_then(|what| what.to_str()) else { return };
    if opened.wait_for(|number| *number > 0).await.is_err() {
        return;
    }
    RealWorld.sleep_until(RealWorld.now().after(Duration::from_secs(1))).await;
    match what {
        "block_runtime" => std::thread::sleep(FOR_EVER),
        "fill_pool" => {
            for _ in 0..POOL {
                tokio::task::spawn_blocking(|| std::thread::sleep(FOR_EVER));
            }
        }
        _ => panic!("{VARIABLE} names no failure: {what}"),
    }
}
