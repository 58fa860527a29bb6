//! Watchdog thread, which no loop can block. It sends keep-alives to systemd while every heartbeat
//! is in time, and otherwise escalates up to a restart of the unit.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cynosure_engine::{CrashLoop, MissedHeartbeat, WatchdogAction, WatchdogState};
use tracing::{debug, error, info, warn};

use crate::env::{Env, RealEnv};
use crate::systemd::{Notifier, NotifyState, RestartBudgetFile};
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

/// Starts the watchdog thread, which ends with the process.
///
/// # Errors
/// An IO error if the thread cannot be started.
pub fn spawn_watchdog(config: WatchdogConfig) -> std::io::Result<()> {
    thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || run_watchdog(&config))
        .map(drop)
}

/// Sends the heartbeat of the runtime through its pool of blocking threads, so that both a blocked
/// runtime and a dead pool are detected.
pub async fn run_runtime_heartbeat(heartbeat: Heartbeat, interval: Option<Duration>) {
    let interval = check_interval(interval);
    loop {
        heartbeat.runtime_beat(interval.saturating_mul(BEAT_INTERVALS_MAX));
        tokio::time::sleep(interval).await;
        RealEnv.spawn_blocking(|| ()).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a dedicated thread may sleep")]
fn run_watchdog(config: &WatchdogConfig) {
    let interval = check_interval(config.interval);
    let mut watchdog = WatchdogState::default();
    loop {
        check(config, &mut watchdog);
        thread::sleep(interval);
    }
}

fn check(config: &WatchdogConfig, watchdog: &mut WatchdogState) {
    let uptime = RealEnv::uptime();
    let action = watchdog.evaluate(config.heartbeats.most_overdue(), uptime);
    if action != WatchdogAction::WithholdKeepAlive && config.interval.is_some() {
        config.notifier.notify(&[NotifyState::Watchdog]);
    }
    match action {
        WatchdogAction::SendKeepAlive | WatchdogAction::WithholdKeepAlive => {}
        WatchdogAction::Recovered => info!("recovered: no heartbeat is overdue"),
        WatchdogAction::ConsultRestartBudget(overdue) => {
            error!(
                source = overdue.loop_name,
                state = overdue.activity,
                late_s = overdue.overdue_by.as_secs(),
                "stuck: the loop has missed its heartbeat deadline"
            );
            watchdog.wait_to_restart(restart_delay(config), uptime);
        }
        WatchdogAction::RequestRestart(overdue) => request_restart(config, watchdog, &overdue),
    }
}

/// Returns the delay that the restart budget requires before the request for a restart.
fn restart_delay(config: &WatchdogConfig) -> Duration {
    let (now, last_progress) = (RealEnv.now(), config.heartbeats.last_progress_at());
    match RestartBudgetFile::new(&config.state_dir).request_restart(
        &config.unit,
        last_progress,
        now,
    ) {
        Ok(permit) => {
            if permit.crash_loop == CrashLoop::Detected {
                error!(
                    restarts = permit.consecutive_restarts,
                    "manual intervention required: restarts have not helped"
                );
            }
            permit.not_before.since(now)
        }
        Err(failure) => {
            warn!(cause = %failure.cause, error = %failure, "cannot count the restart");
            Duration::ZERO
        }
    }
}

fn request_restart(
    config: &WatchdogConfig,
    watchdog: &mut WatchdogState,
    overdue: &MissedHeartbeat,
) {
    let Some(requester) = &config.restart_requester else {
        error!(
            source = overdue.loop_name,
            "stuck: not requesting a restart, since automatic restarts are disabled"
        );
        return watchdog.mark_restart_refused();
    };
    error!(
        source = overdue.loop_name,
        unit = config.unit,
        "stuck: asking systemd to restart the unit"
    );
    match requester.request() {
        Ok(()) => {
            // systemd would only wait for this process to exit, which its stuck loops no longer do.
            debug!("systemd has granted the restart");
            (config.exit_process)()
        }
        Err(reason) if config.interval.is_some() => {
            error!(
                %reason,
                "stuck: systemd does not restart the unit; leaving it to the watchdog of systemd"
            );
            watchdog.mark_restart_refused();
        }
        Err(reason) => {
            error!(
                %reason,
                "stuck: systemd does not restart the unit, and no watchdog is set; exiting"
            );
            (config.exit_process)()
        }
    }
}

fn check_interval(interval: Option<Duration>) -> Duration {
    interval
        .map_or(CHECK_INTERVAL, |interval| (interval / KEEPALIVES_PER_INTERVAL).min(CHECK_INTERVAL))
}

impl RestartRequester {
    pub fn new(request: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(request))
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
