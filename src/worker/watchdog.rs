//! Watchdog thread, which no loop can block. It sends keep-alives to systemd while every heartbeat
//! is in time, and otherwise escalates up to a restart of the unit.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::engine::{CrashLoop, MissedHeartbeat, WatchdogAction, WatchdogState};
use crate::systemd::{Notifier, NotifyState, RestartBudgetFile};
use crate::worker::env::{Env, RealEnv};
use crate::worker::heartbeat::{Heartbeat, HeartbeatRegistry};

/// Interval between checks where systemd has no watchdog set, and the longest one otherwise.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// Keep-alives in each interval that systemd sets: one may be lost or late.
const KEEPALIVES_PER_INTERVAL: u32 = 4;

/// Heartbeat intervals after which the runtime is overdue: more than one, because a machine under
/// load is slow.
const BEAT_INTERVALS_MAX: u32 = 2;

/// Callback that asks systemd to restart the unit. It blocks; its error is a sentence.
#[derive(Clone)]
pub struct RestartRequester(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

/// Configuration of the watchdog thread: the heartbeats to check, and the actions on a missed one.
pub struct WatchdogConfig {
    pub heartbeats: HeartbeatRegistry,
    pub notifier: Arc<Notifier>,
    /// Watchdog interval that systemd has set; `None` if it has set none.
    pub interval: Option<Duration>,
    /// Absent if the worker may not restart itself.
    pub restart_requester: Option<RestartRequester>,
    /// Folder of the restart budget file, which counts the requested restarts under the unit's
    /// name.
    pub state_dir: PathBuf,
    pub unit: String,
    /// Exits the process at once, with the exit code that has it restarted.
    pub exit_process: fn() -> !,
}

/// Starts the thread, which ends with the process.
///
/// # Errors
/// An IO error if the thread cannot be started.
pub fn start(watch: WatchdogConfig) -> std::io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || run_watchdog(&watch)).map(drop)
}

/// Sends the heartbeat of the runtime through its pool of blocking threads, so that both a blocked
/// runtime and a dead pool are detected.
pub async fn run_runtime_heartbeat(seat: Heartbeat, interval: Option<Duration>) {
    let pause = check_interval(interval);
    loop {
        seat.runtime_beat(pause.saturating_mul(BEAT_INTERVALS_MAX));
        tokio::time::sleep(pause).await;
        RealEnv.spawn_blocking(|| ()).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own may sleep")]
fn run_watchdog(watch: &WatchdogConfig) {
    let pause = check_interval(watch.interval);
    let mut keeper = WatchdogState::default();
    loop {
        check(watch, &mut keeper);
        thread::sleep(pause);
    }
}

fn check(watch: &WatchdogConfig, keeper: &mut WatchdogState) {
    let uptime = RealEnv::uptime();
    let keep = keeper.evaluate(watch.heartbeats.most_overdue(), uptime);
    if keep != WatchdogAction::WithholdKeepAlive && watch.interval.is_some() {
        watch.notifier.notify(&[NotifyState::Watchdog]);
    }
    match keep {
        WatchdogAction::SendKeepAlive | WatchdogAction::WithholdKeepAlive => {}
        WatchdogAction::Recovered => info!("what was stuck moves again"),
        WatchdogAction::ConsultRestartBudget(overdue) => {
            error!(
                source = overdue.loop_name,
                state = overdue.activity,
                late_s = overdue.overdue_by.as_secs(),
                "stuck: the work does not come back to its loop"
            );
            keeper.wait_to_restart(restart_delay(watch), uptime);
        }
        WatchdogAction::RequestRestart(overdue) => request_restart(watch, keeper, &overdue),
    }
}

/// Returns the delay that the restart budget requires before the request for a restart.
fn restart_delay(watch: &WatchdogConfig) -> Duration {
    let (now, progress) = (RealEnv.now(), watch.heartbeats.last_progress_at());
    match RestartBudgetFile::new(&watch.state_dir).request_restart(&watch.unit, progress, now) {
        Ok(grant) => {
            if grant.crash_loop == CrashLoop::Detected {
                error!(
                    restarts = grant.consecutive_restarts,
                    "a person is needed: restarts do not help, nothing moves between them"
                );
            }
            grant.not_before.since(now)
        }
        Err(failure) => {
            warn!(cause = %failure.cause, "restarts cannot be counted: {failure}");
            Duration::ZERO
        }
    }
}

fn request_restart(watch: &WatchdogConfig, keeper: &mut WatchdogState, overdue: &MissedHeartbeat) {
    let Some(ask) = &watch.restart_requester else {
        error!(
            source = overdue.loop_name,
            "stuck: not asking for a restart, since auto-restart is off"
        );
        return keeper.mark_restart_refused();
    };
    error!(
        source = overdue.loop_name,
        unit = watch.unit,
        "stuck: asking systemd to restart the unit"
    );
    match ask.request() {
        Ok(()) => {
            // systemd would only wait for this process to exit, which its stuck loops no longer do.
            debug!("the restart is granted");
            (watch.exit_process)()
        }
        Err(why) if watch.interval.is_some() => {
            error!("stuck: systemd does not restart the unit ({why}); leaving it to the watchdog");
            keeper.mark_restart_refused();
        }
        Err(why) => {
            error!(
                "stuck: systemd does not restart the unit ({why}), and no watchdog is set; leaving"
            );
            (watch.exit_process)()
        }
    }
}

fn check_interval(interval: Option<Duration>) -> Duration {
    interval
        .map_or(CHECK_INTERVAL, |interval| (interval / KEEPALIVES_PER_INTERVAL).min(CHECK_INTERVAL))
}

impl RestartRequester {
    pub fn new(ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn request(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl std::fmt::Debug for RestartRequester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RestartRequester").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WatchdogConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchdogConfig").field("unit", &self.unit).finish_non_exhaustive()
    }
}
